"""Runs the load generators against a gateway and takes its figures: one call, one measurement."""

import contextlib
import itertools
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bodies import write_templates
from benchmarks.figures import percentile
from benchmarks.programs import ROOT, Broker, Program, cpu_seconds, resident_bytes
from bridge.demo.child import HOST

SCRIPT = Path(__file__).with_name("post.lua")
PROCESS_SHARE = 50_000_000  # of the 10^8 request numbers of a run, for each generator
GRACE_SECONDS = 60.0
MEGABYTE = 2**20
# Where the baseline is at its best: with more sends in flight than its batches hold it collapses,
# and any ratio could be had.
IN_FLIGHT_STATES = 400
MIN_CONNECTIONS, MAX_CONNECTIONS = 2, 64
NO_WRK = "the benchmark needs wrk: apt-get install wrk (or your system's package of that name)"

_runs = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Closed:
    """One closed-loop run. `seconds` are of load, CPU times of the whole run."""

    requests: int
    seconds: float
    refused: int  # answers that were not 2xx
    broken: int  # connections that were
    p50_ms: float
    p99_ms: float
    gateway_cpu: float
    broker_cpu: float
    generator_cpu: float
    wall: float
    rss_bytes: int

    def figures(self, states: int) -> dict[str, float]:
        """Return them by name, for documents of so many states."""
        posts = max(1, self.requests)
        return {
            "requests_per_second": self.requests / self.seconds,
            "states_per_second": self.requests * states / self.seconds,
            "cpu_us": self.gateway_cpu / (posts * states) * 1e6,
            "rss_mb": self.rss_bytes / MEGABYTE,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "failed": float(self.refused + self.broken),
            **_shares(self),
        }


@dataclass(frozen=True, slots=True)
class Open:
    """One open-loop run. Latencies and lateness in milliseconds, in order of answer."""

    rate: float
    failed: int
    latencies_ms: list[float]
    lateness_ms: list[float]
    gateway_cpu: float
    broker_cpu: float
    generator_cpu: float
    wall: float

    def figures(self, states: int) -> dict[str, float]:
        """Return them by name, for documents of so many states; at least one must be answered."""
        return {
            "requests_per_second": self.rate,
            "states_per_second": self.rate * states,
            "cpu_us": self.gateway_cpu / (len(self.latencies_ms) * states) * 1e6,
            "failed": float(self.failed),
            "late_p99_ms": percentile(self.lateness_ms, 0.99),
            **latency_figures(self.latencies_ms),
            **_shares(self),
        }


def latency_figures(latencies_ms: Sequence[float]) -> dict[str, float]:
    """Return the percentiles by name."""
    return {
        "p50_ms": percentile(latencies_ms, 0.50),
        "p99_ms": percentile(latencies_ms, 0.99),
        "p999_ms": percentile(latencies_ms, 0.999),
    }


def _shares(done: Closed | Open) -> dict[str, float]:
    return {
        "gateway_share": done.gateway_cpu / done.wall,
        "broker_share": done.broker_cpu / done.wall,
        "generator_share": done.generator_cpu / done.wall,
    }


def require_wrk() -> None:
    """Raise FileNotFoundError, with what to do about it, where there is no wrk."""
    if shutil.which("wrk") is None:
        raise FileNotFoundError(NO_WRK)


def connections_for(states: int) -> int:
    """How many connections a closed loop has, for documents of this size."""
    return min(MAX_CONNECTIONS, max(MIN_CONNECTIONS, IN_FLIGHT_STATES // states))


class Generators:
    """Both generators, for one broker. `templates` are written once for each size."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._directory = tempfile.TemporaryDirectory(prefix="sms-bridge-bench-")

    def close(self) -> None:
        """Remove the templates."""
        self._directory.cleanup()

    def closed(
        self,
        programs: Sequence[Program],
        states: int,
        seconds: float,
        connections: int | None = None,
    ) -> Closed:
        """Post as fast as answers come, with the connections shared among the programs.

        Without a number of `connections` there are as many as suit the baseline best.
        """
        connections = max(1, (connections or connections_for(states)) // len(programs))
        run = next(_runs)
        commands = [
            self._wrk(
                program,
                states,
                seconds,
                connections=connections,
                run=run,
                first=index * PROCESS_SHARE,
            )
            for index, program in enumerate(programs)
        ]
        outputs, cost = self._run(programs, commands, seconds)
        wrks = [json.loads(out.rpartition("\nJSON ")[2]) for out in outputs]
        return Closed(
            requests=sum(wrk["requests"] for wrk in wrks),
            seconds=max(wrk["seconds"] for wrk in wrks),
            refused=sum(wrk["refused"] for wrk in wrks),
            broken=sum(wrk["broken"] for wrk in wrks),
            p50_ms=max(wrk["p50_ms"] for wrk in wrks),
            p99_ms=max(wrk["p99_ms"] for wrk in wrks),
            rss_bytes=sum(resident_bytes(pid) for program in programs for pid in program.pids),
            **cost,
        )

    def open(
        self, program: Program, states: int, rate: float, seconds: float, *, listed: int
    ) -> Open:
        """Post at a fixed rate of documents; a whole answer lists so many ids."""
        options = {
            "port": program.port,
            "states": states,
            "listed": listed,
            "rate": rate,
            "seconds": seconds,
            "run": next(_runs),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "benchmarks.open_loop", *words]
        outputs, cost = self._run([program], [command], seconds)
        return Open(rate=rate, **json.loads(outputs[0]), **cost)

    @contextlib.contextmanager
    def streaming(self, program: Program, states: int, seconds: float) -> Iterator[None]:
        """Post documents one after the other, beside what is measured within."""
        command = self._wrk(program, states, seconds, connections=1, run=next(_runs))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT) as process:
            yield
            process.wait(seconds + GRACE_SECONDS)

    def _wrk(
        self,
        program: Program,
        states: int,
        seconds: float,
        *,
        connections: int,
        run: int,
        first: int = 0,
    ) -> list[str]:
        options = [
            "-t",
            "1",
            "-c",
            str(connections),
            "-d",
            str(max(1, round(seconds))),
            "--timeout",
            "30",
        ]
        url = f"http://{HOST}:{program.port}/webhook"
        arguments = [str(self._templates(states)), str(run), str(first)]
        return ["wrk", *options, "-s", str(SCRIPT), url, "--", *arguments]

    def _run(
        self, programs: Sequence[Program], commands: Iterable[list[str]], seconds: float
    ) -> tuple[list[str], dict[str, Any]]:
        """Run generators side by side; their outputs, and the cost of all that took part."""
        gateways = [pid for program in programs for pid in program.pids]
        before = time.perf_counter(), _cpu(gateways), _cpu(self._broker.pids), _children_cpu()
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
            for command in commands
        ]
        outputs = [process.communicate(timeout=seconds + GRACE_SECONDS)[0] for process in processes]
        after = time.perf_counter(), _cpu(gateways), _cpu(self._broker.pids), _children_cpu()
        if any(process.returncode for process in processes):
            raise RuntimeError(f"a load generator failed: {outputs}")
        names = ("wall", "gateway_cpu", "broker_cpu", "generator_cpu")
        pairs = zip(before, after, strict=True)
        return outputs, dict(zip(names, (b - a for a, b in pairs), strict=True))

    def _templates(self, states: int) -> Path:
        file = Path(self._directory.name) / f"{states}.templates"
        if not file.exists():
            write_templates(file, states)
        return file


def _cpu(pids: Iterable[int]) -> float:
    return sum(map(cpu_seconds, pids))


def _children_cpu() -> float:
    """CPU time of the children that have ended: of generators, since nothing else ends then."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
