"""The measurements in their order: paired rounds, one after the other on the same cores."""

import os
import platform
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from json import loads
from pathlib import Path
from typing import Any

from benchmarks import programs, watched
from benchmarks.commits import tree_of
from benchmarks.figures import (
    ALONE,
    BESIDE,
    CLOSED,
    FAIR,
    FORMER,
    HOSTILE,
    LONE,
    ONE_PROCESS,
    OPEN_80,
    OPEN_HALF,
    PART,
    POST,
    PROCESSES,
    PRODUCE,
    SOAK,
    START,
    TWO_GATEWAYS,
    TWO_PROCESSES,
    WATCHED,
    Results,
    Sample,
    turned,
)
from benchmarks.load import (
    MEGABYTE,
    Generators,
    Open,
    connections_for,
    latency_figures,
    require_wrk,
)
from benchmarks.peers.gateways import gateways, versions
from benchmarks.peers.phase import Phase
from benchmarks.peers.programs import PEERS
from benchmarks.programs import ROOT, Bridge, Broker, Program, pinned, resident_bytes
from bridge.kafka.producer import MAX_BATCH_BYTES

PHASES = ("load", "start", "processes", "lone", "fairness", "watched", "hostile", "peers", "soak")
# What `make bench` runs unless it is told otherwise.
USUAL_PHASES = PHASES[:-2]
IMPORTS = "import starlette, uvicorn, aiokafka, cloudevents, xmltodict, pydantic"
WARM_UP_SECONDS = 2.0
PART_SECONDS = 2.0
SHARE_OF_BASELINE, SHARE_OF_OWN = 0.8, 0.5
PROCESS_STATES = (1, 100)
WATCHED_STATES = (1, 100)
WATCHED_TIMES = 4  # as many rounds, each as much shorter: what is looked for is small
LONE_RATE = 20.0  # posts a second: each is answered long before the next
FAIR_RATE, FAIR_LARGE = 100.0, 10_000  # one-state posts a second, states of a large document
SOAK_STATES, SOAK_WINDOW_SECONDS = 100, 10.0
LIBRARIES = ("aiokafka", "uvicorn", "starlette", "uvloop", "xmltodict", "cloudevents", "orjson")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. `pin` keeps the gateways on a core of their own."""

    rounds: int = 5
    seconds: float = 5.0
    states: tuple[int, ...] = (1, 10, 100, 1000)
    phases: tuple[str, ...] = USUAL_PHASES
    peers: tuple[str, ...] = tuple(peer.name for peer in PEERS)
    soak_seconds: float = 0.0
    embedded: bool = False
    pin: bool = True
    against: str | None = None  # a commit whose bridge is measured beside the present one
    say: Callable[[str], None] = field(default=lambda _: None)


def measure(plan: Plan) -> Results:
    """Start everything, measure, stop everything. FileNotFoundError says how to get wrk."""
    require_wrk()
    all_cores = frozenset(os.sched_getaffinity(0))
    with ExitStack() as stack:
        cores = stack.enter_context(_divided_cores(plan))
        topics = (*programs.TOPICS, *(peer.topic for peer in PEERS))
        broker = stack.enter_context(programs.broker(embedded=plan.embedded, topics=topics))
        generators = Generators(broker)
        stack.callback(generators.close)
        run = _Run(plan, broker, generators, cores, all_cores)
        run.results.about = _about(plan, broker)
        for phase in plan.phases:
            plan.say(f"--- {phase}")
            getattr(run, phase)()
        return run.results


@contextmanager
def _divided_cores(plan: Plan) -> Iterator[frozenset[int] | None]:
    """The last core is the gateway's, and this process and all others have the rest."""
    cores = sorted(os.sched_getaffinity(0))
    if not plan.pin or len(cores) < 2:  # noqa: PLR2004
        yield None
        return
    with pinned(frozenset(cores[:-1])):
        yield frozenset(cores[-1:])


def _about(plan: Plan, broker: Broker) -> dict[str, str]:
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "broker": broker.name,
        "machine": f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}",
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "rounds": f"{plan.rounds} of {plan.seconds:g} s",
        "cores": "gateway on one, all else on the others" if plan.pin else "shared by all",
        **({"former": f"commit {plan.against}"} if plan.against else {}),
        "when": time.strftime("%Y-%m-%d", time.gmtime()),
    }


class _Run:
    """One broker, one pair of generators, and a method for each phase."""

    def __init__(
        self,
        plan: Plan,
        broker: Broker,
        generators: Generators,
        cores: frozenset[int] | None,
        all_cores: frozenset[int],
    ) -> None:
        self.results = Results()
        self._plan = plan
        self._broker = broker
        self._generators = generators
        self._cores = cores
        self._all_cores = all_cores
        self._warm_up_seconds = min(WARM_UP_SECONDS, plan.seconds)
        self._open_runs: dict[tuple[str, str, int], list[Open]] = defaultdict(list)

    # --- throughput and latency ----------------------------------------------------------

    def load(self) -> None:
        """Closed loop and parts, then open loop at rates that the closed loop has found."""
        bootstrap = self._broker.bootstrap_servers
        with ExitStack() as stack:
            gateways = {
                "baseline": programs.baseline(bootstrap, self._cores),
                "bridge": Bridge(bootstrap, self._cores),
                "tuned": programs.baseline(bootstrap, self._cores, MAX_BATCH_BYTES),
                "constant": programs.constant(self._cores),
            }
            if self._plan.against is not None:
                source = stack.enter_context(tree_of(self._plan.against))
                gateways[FORMER] = Bridge(bootstrap, self._cores, source=source)
            for program in gateways.values():
                stack.enter_context(program)
            for states in self._plan.states:
                self._closed_rounds(gateways, states)
                self._open_rounds(gateways, states)
        self._pool()

    def _closed_rounds(self, gateways: dict[str, Program], states: int) -> None:
        for program in gateways.values():
            self._generators.closed([program], states, self._warm_up_seconds)
        for number in range(self._plan.rounds):
            for name, program in turned(gateways, number):
                done = self._generators.closed([program], states, self._plan.seconds)
                self._add(CLOSED, name, states, number, done.figures(states))
            for part in ("parse", "publish"):
                self._add(PART, part, states, number, self._part(part, states))

    def _open_rounds(self, gateways: dict[str, Program], states: int) -> None:
        capacity = {
            name: self.results.median(CLOSED, name, states, "requests_per_second") or 0.0
            for name in gateways
        }
        rates = [
            *((OPEN_80, name, SHARE_OF_BASELINE * capacity["baseline"]) for name in gateways),
            *(
                (OPEN_HALF, name, SHARE_OF_OWN * capacity[name])
                for name in ("baseline", "bridge", FORMER)
                if name in gateways
            ),
        ]
        for number in range(self._plan.rounds):
            for kind, name, rate in rates:
                if rate:
                    done = self._open(gateways[name], name, states, rate)
                    self._open_runs[kind, name, states].append(done)
                    if done.latencies_ms:
                        self._add(kind, name, states, number, done.figures(states))

    def _open(self, program: Program, name: str, states: int, rate: float) -> Open:
        listed = 1 if name == "constant" else states
        return self._generators.open(program, states, rate, self._plan.seconds, listed=listed)

    def _pool(self) -> None:
        for (kind, name, states), runs in self._open_runs.items():
            latencies = [latency for run in runs for latency in run.latencies_ms]
            if latencies:
                counts = {"answers": len(latencies), "failed": sum(run.failed for run in runs)}
                figures = {**counts, **latency_figures(latencies)}
                self.results.pooled.append(Sample(kind, name, states, 0, figures))

    def _part(self, part: str, states: int) -> dict[str, float]:
        at_once = states if part == "parse" else states * connections_for(states)
        seconds = min(PART_SECONDS, self._plan.seconds)
        found = self._ceiling(part, states=at_once, seconds=seconds)
        return {
            "cpu_us": found["cpu_seconds"] / found["states"] * 1e6,
            "states_per_second": found["states"] / found["seconds"],
        }

    def _ceiling(self, part: str, **options: float) -> dict[str, Any]:
        given = {
            "bootstrap-servers": self._broker.bootstrap_servers,
            "topic": programs.TOPICS[2],
            **options,
        }
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        with pinned(self._cores):
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.ceilings", part, *words],
                stdout=subprocess.PIPE,
                check=True,
                cwd=ROOT,
            )
        return dict(loads(done.stdout))

    def lone(self) -> None:
        """Posts one at a time to idle gateways, beside produce requests one at a time."""
        bootstrap = self._broker.bootstrap_servers
        with (
            Bridge(bootstrap, self._cores) as bridge,
            programs.baseline(bootstrap, self._cores) as baseline,
            programs.constant(self._cores) as constant,
        ):
            idle = {POST: bridge, "baseline": baseline, "constant": constant}
            for program in idle.values():
                self._alone(program, self._warm_up_seconds)
            for number in range(self._plan.rounds):
                for name, program in turned(idle, number):
                    done = self._alone(program, self._plan.seconds)
                    self._add(LONE, name, 1, number, done.figures(1))
                found = self._ceiling("produce", rate=LONE_RATE, seconds=self._plan.seconds)
                figures = latency_figures(found["round_trips_ms"])
                self._add(LONE, PRODUCE, 1, number, figures)

    def _alone(self, program: Program, seconds: float) -> Open:
        return self._generators.open(program, 1, LONE_RATE, seconds, listed=1)

    # --- the process ---------------------------------------------------------------------

    def start(self) -> None:
        """From exec to /livez and to /readyz, beside the imports; then memory, idle."""
        self._start_once()  # what is compiled and read from disk once
        for number in range(self._plan.rounds):
            self._add(START, "bridge", 0, number, self._start_once())

    def _start_once(self) -> dict[str, float]:
        with pinned(self._cores):
            started_at = time.perf_counter()
            subprocess.run([sys.executable, "-c", IMPORTS], check=True, cwd=ROOT)
            imports = time.perf_counter() - started_at
        bridge = Bridge(self._broker.bootstrap_servers, self._cores)
        started_at = time.perf_counter()
        bridge.launch()
        try:
            livez = bridge.seconds_until(bridge.livez, started_at)
            readyz = bridge.seconds_until(bridge.ready_url, started_at)
            idle = resident_bytes(bridge.process.pid)
        finally:
            bridge.stop()
        return {
            "imports_ms": imports * 1000,
            "livez_ms": livez * 1000,
            "readyz_ms": readyz * 1000,
            "idle_mb": idle / MEGABYTE,
        }

    def processes(self) -> None:
        """One gateway, two of them, and one of two processes; the broker stays where it is.

        They are free to use every core.
        """
        bootstrap = self._broker.bootstrap_servers
        with (
            pinned(self._all_cores),
            Bridge(bootstrap) as one,
            Bridge(bootstrap) as two,
            Bridge(bootstrap, settings={"server": {"processes": 2}}) as shared,
        ):
            all_ = {ONE_PROCESS: [one], TWO_GATEWAYS: [one, two], TWO_PROCESSES: [shared]}
            for states in PROCESS_STATES:
                for serving in (all_[TWO_GATEWAYS], all_[TWO_PROCESSES]):
                    self._generators.closed(serving, states, self._warm_up_seconds)
                for number in range(self._plan.rounds):
                    for name, serving in turned(all_, number):
                        done = self._generators.closed(serving, states, self._plan.seconds)
                        self._add(PROCESSES, name, states, number, done.figures(states))

    def fairness(self) -> None:
        """One-state posts at a fixed rate, alone and while the largest documents stream in."""
        with Bridge(self._broker.bootstrap_servers, self._cores) as bridge:
            self._fair(bridge, "warm-up", 0)
            self.results.samples.pop()
            for number in range(self._plan.rounds):
                self._fair(bridge, ALONE, number)
                with self._generators.streaming(bridge, FAIR_LARGE, self._plan.seconds + 2):
                    self._fair(bridge, BESIDE, number)

    def _fair(self, bridge: Bridge, name: str, number: int) -> None:
        done = self._generators.open(bridge, 1, FAIR_RATE, self._plan.seconds, listed=1)
        self._add(FAIR, name, 1, number, done.figures(1))

    def watched(self) -> None:
        """What it costs to be watched: from nothing to everything that can be turned on."""
        seconds = self._plan.seconds / WATCHED_TIMES
        with watched.bridges(self._broker.bootstrap_servers, self._cores) as bridges:
            for states in WATCHED_STATES:
                for bridge in bridges.values():
                    self._generators.closed([bridge], states, self._warm_up_seconds)
                for number in range(self._plan.rounds * WATCHED_TIMES):
                    for name, bridge in turned(bridges, number):
                        done = self._generators.closed([bridge], states, seconds)
                        self._add(WATCHED, name, states, number, done.figures(states))

    def hostile(self) -> None:
        """The costliest bodies, each beside an honest one of its size, in one process."""
        command = [sys.executable, "-m", "benchmarks.hostile", "--rounds", str(self._plan.rounds)]
        with pinned(self._cores):
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT)
        for name, rounds in loads(done.stdout).items():
            for number, (seconds, honest) in enumerate(rounds):
                figures = {"cpu_ms": seconds * 1000, "of_honest": seconds / honest}
                self._add(HOSTILE, name, 0, number, figures)

    def peers(self) -> None:
        """The bridge among gateways that others would write: closed loop, then all at one rate."""
        with gateways(self._broker, self._plan.peers, self._cores, self._leave_out) as running:
            self.results.about |= versions(running)
            phase = Phase(
                running, self._generators, self._add, self._plan.rounds, self._plan.seconds
            )
            for states in self._plan.states:
                phase.measure(states)

    def _leave_out(self, name: str, why: str) -> None:
        self.results.about[f"left out: {name}"] = why
        self._plan.say(f"left out: {name}: {why}")

    def soak(self) -> None:
        """Full load in windows, to see whether anything grows."""
        windows = max(1, round(self._plan.soak_seconds / SOAK_WINDOW_SECONDS))
        with Bridge(self._broker.bootstrap_servers, self._cores) as bridge:
            self._generators.closed([bridge], SOAK_STATES, self._warm_up_seconds)
            for number in range(windows):
                done = self._generators.closed([bridge], SOAK_STATES, SOAK_WINDOW_SECONDS)
                self._add(SOAK, "bridge", SOAK_STATES, number, done.figures(SOAK_STATES))

    def _add(
        self, kind: str, subject: str, states: int, number: int, figures: dict[str, float]
    ) -> None:
        self.results.add(kind, subject, states, number, figures)
        words = " ".join(f"{name}={value:.4g}" for name, value in figures.items())
        self._plan.say(f"{kind}, {subject}, {states} a document, round {number + 1}: {words}")
