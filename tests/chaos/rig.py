"""All that runs: the cluster, the proxies on either side of the gateway, and the gateway.

Providers reach the gateway through one proxy, the gateway reaches Kafka through others; the
brokers among themselves, the harness and the checker go around them.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bridge.demo.child import HOST, free_ports, wait_until
from tests.chaos.ground import Ground
from tests.chaos.load import Journal, Pair
from tests.chaos.program import Program
from tests.support.brokers import KafkaCluster
from tests.support.front_proxies import FrontProxy, Place, balanced
from tests.support.gateway import configuration
from tests.support.needs import program
from tests.support.proxy import Address, Conditions, Proxy

SOURCE = "urn:example:sms:main"
PARTITIONS = 6
GRACE_SECONDS = 5
INSIDE = Path(__file__).parent / "inside"  # what a calm run's gateway imports besides


@dataclass(frozen=True, slots=True)
class Settings:
    """One run.

    The last `quiet_seconds` are without faults; the run takes longer where they, and the first
    round, do not fit into `seconds`. `faults` are the kinds to choose from, by name;
    none means all that the cluster can bear. `each_first` goes through every kind once before
    chance decides. `flushed`: brokers flush each record before they confirm it. `calm`: without
    faults, to see whether anything grows. `package` is as in Program.
    """

    seconds: float = 90.0
    seed: int = 1
    nodes: int = 1
    processes: int = 1  # of a gateway
    gateways: int = 1  # more are behind a balancer
    providers: int = 3
    publish_timeout_seconds: float = 2.0
    quiet_seconds: float = 20.0
    faults: tuple[str, ...] = ()
    each_first: bool = True
    flushed: bool = False
    calm: bool = False
    package: Path | None = None
    quiet_log: bool = False


class Network:
    """Where the gateway finds the brokers: one bootstrap address, and one for each of them.

    All are at `host`; if `named`, brokers advertise host names, which must resolve to it.
    """

    LISTENER = "PROXIED"

    def __init__(self, nodes: int, *, host: str = HOST, named: bool = False) -> None:
        proxies = [
            Proxy([], port, host=host, name=f"kafka-{number}.test" if named else "")
            for number, port in enumerate(free_ports(nodes + 1))
        ]
        self.bootstrap, self.brokers = proxies[0], dict(enumerate(proxies[1:], 1))

    @property
    def proxies(self) -> list[Proxy]:
        return [self.bootstrap, *self.brokers.values()]

    def impose(self, conditions: Conditions, proxies: Sequence[Proxy] | None = None) -> None:
        for proxy in self.proxies if proxies is None else proxies:
            proxy.impose(conditions)

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.heal()

    def cut(self) -> None:
        for proxy in self.proxies:
            proxy.cut()

    @property
    def names(self) -> list[str]:
        """What clients call the hosts."""
        return [proxy.address.rpartition(":")[0] for proxy in self.proxies]

    async def move(self, host: str) -> None:
        """Listen at another address, on the same ports; who is connected stays so."""
        self.refuse()
        for proxy in self.proxies:
            proxy.host = host
        await self.accept()

    def orphan(self) -> None:
        for proxy in self.proxies:
            proxy.orphan()

    def refuse(self) -> None:
        for proxy in self.proxies:
            proxy.refuse()

    async def accept(self) -> None:
        for proxy in self.proxies:
            await proxy.accept()

    async def aclose(self) -> None:
        self.heal()
        for proxy in self.proxies:
            await proxy.aclose()

    def place(self, cluster: KafkaCluster, node: int, upstream: Address) -> None:
        """Let a node listen at `upstream`, and tell clients to reach it through its proxy.

        It holds from the node's next start.
        """
        direct, control = (
            cluster.addresses(name).split(",")[node - 1] for name in ("PLAINTEXT", "CONTROLLER")
        )
        proxied = f"{self.LISTENER}://{upstream[0]}:{upstream[1]}"
        cluster.overrides[node] |= {
            "listeners": f"PLAINTEXT://{direct},CONTROLLER://{control},{proxied}",
            "advertised.listeners": f"PLAINTEXT://{direct},{self.LISTENER}://"
            f"{self.brokers[node].address}",
        }
        self.brokers[node].upstreams = [upstream]
        self.bootstrap.upstreams = [u for p in self.brokers.values() for u in p.upstreams]


def _nothing() -> Iterable[Pair]:
    """Nothing has been posted yet."""
    return ()


async def _no_audit() -> None:
    """Nothing has been acknowledged yet."""


@dataclass(slots=True)
class Rig:
    """A run's parts.

    `counts_from[topic]` is when acknowledgements began to count for it, `partitions` how many the
    status topic has had since it was made, after the last two before that, and `lost` how many
    acknowledged events the brokers lost. `deaf` are times in which answers could not reach all
    providers, on the monotonic clock.
    """

    settings: Settings
    cluster: KafkaCluster
    network: Network
    front: Proxy
    programs: Sequence[Program]
    balancer: FrontProxy | None
    journal: Journal
    topic: str
    dead_letters: str
    ground: Ground = field(default_factory=Ground)
    started: float = field(default_factory=time.monotonic)
    counts_from: dict[str, float] = field(default_factory=dict)
    audit: Callable[[], Awaitable[None]] = _no_audit  # to be called before a topic is deleted
    partitions: list[int] = field(default_factory=list)
    lost: int = 0
    expected: Callable[[], Iterable[Pair]] = _nothing  # what acknowledgements promise
    deaf: list[tuple[float, float]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    log_lines: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.front.address}/webhook"

    def log(self, text: str) -> None:
        """Tell what happens, with the seconds since the start."""
        line = f"{time.monotonic() - self.started:7.1f}  {text}"
        self.log_lines.append(line)
        if not self.settings.quiet_log:
            click.echo(line)

    @property
    def replicas(self) -> int:
        """Of each partition of the topics."""
        return min(3, self.settings.nodes)

    @property
    def in_sync(self) -> int:
        """How many replicas must have a record."""
        return max(1, self.replicas - 1)

    async def create_topic(self, topic: str) -> None:
        """Make a topic; acknowledgements of posts that begin from then on count for it."""
        config = {"min.insync.replicas": str(self.in_sync)}
        if self.settings.flushed:
            config["flush.messages"] = "1"
        await asyncio.to_thread(self.cluster.create_topic, topic, PARTITIONS, self.replicas, config)
        self.counts_from[topic] = time.monotonic()
        if topic == self.topic:
            # The gateway goes by a former topic's number until it hears of the new topic; it may
            # be re-created twice before that.
            self.partitions = [*self.partitions[-2:], PARTITIONS]

    async def delete_topic(self, topic: str) -> None:
        await asyncio.to_thread(self.cluster.delete_topic, topic)

    async def start_program(self, program: Program) -> None:
        """Start it and wait until it is ready, and gets its part of the posts."""
        program.start()
        await asyncio.to_thread(program.wait_ready)
        if (balancer := self.balancer) is not None:
            number = self.programs.index(program)
            await asyncio.to_thread(wait_until, lambda: balancer.is_up(number), "its part of posts")

    async def end_program(self, program: Program) -> None:
        """End it in order; a violation where it does not, or not in time."""
        started = time.monotonic()
        limit = drain_delay_seconds(self.settings) + GRACE_SECONDS + 0.5
        await asyncio.to_thread(program.stop, limit)
        status, seconds = program.process.returncode, time.monotonic() - started
        self.log(f"the gateway ended with status {status} after {seconds:.1f} s")
        if status != 0:
            self.violations.append(f"SIGTERM: status {status} after {seconds:.1f} s")


def drain_delay_seconds(settings: Settings) -> float:
    """How long a gateway serves on after SIGTERM: until a balancer has noticed."""
    return 1.0 if settings.gateways > 1 else 0.0


def new_cluster(
    nodes: int, network: Network | None = None, version: str | None = None
) -> tuple[KafkaCluster, Network]:
    """A cluster that is yet to be started, reached through proxies that are not there yet."""
    cluster = KafkaCluster(
        nodes,
        listeners={Network.LISTENER: "PLAINTEXT"},
        version=version,
        features={"eligible.leader.replicas.version": 0},  # its controllers would elect for ever
    )
    network = network or Network(nodes)
    for node, address in zip(
        cluster.nodes, cluster.addresses(Network.LISTENER).split(","), strict=True
    ):
        network.place(cluster, node, (HOST, int(address.rsplit(":", 1)[1])))
    return cluster, network


@asynccontextmanager
async def rig(
    settings: Settings, cluster: KafkaCluster, network: Network, name: str, ground: Ground
) -> AsyncIterator[Rig]:
    """Topics of this name, the proxies and the gateways, on a cluster that runs."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sms-chaos-")))
        host = ground.wire.there if ground.wire else HOST
        front_port, *ports = free_ports(1 + 2 * settings.gateways)
        places = [(host, *pair) for pair in zip(ports[::2], ports[1::2], strict=True)]
        programs = []
        for place in places:
            config = _configuration(settings, network.bootstrap.address, name, place)
            programs.append(_program(settings, directory / str(place[1]), config, ground))
        upstream, balancer = places[0][:2], None
        if settings.gateways > 1:
            balancer = FrontProxy(program("haproxy", "haproxy"), balanced(places))
            stack.enter_context(balancer)
            upstream = balancer.address
        front = Proxy([upstream], front_port)
        await stack.enter_async_context(front)
        stack.push_async_callback(network.aclose)
        await network.accept()
        for each in programs:
            stack.callback(each.kill)
        made = Rig(
            *(settings, cluster, network, front, programs, balancer, Journal()),
            *(name, f"{name}.rejected", ground),
        )
        await made.create_topic(made.topic)
        await made.create_topic(made.dead_letters)
        for each in programs:
            await made.start_program(each)
        made.started = time.monotonic()
        yield made


def _program(settings: Settings, home: Path, config: Mapping[str, Any], ground: Ground) -> Program:
    home.mkdir()
    package, prefix, environ = settings.package, ground.prefix, {**ground.environ}
    if settings.calm:
        environ |= {"SMS_CHAOS_TASKS": str(home / "tasks"), "PYTHONPATH": str(INSIDE)}
    return Program(home, config, package=package, prefix=prefix, environ=environ)


def _configuration(
    settings: Settings, bootstrap_servers: str, topic: str, place: Place
) -> Mapping[str, Any]:
    host, port, admin_port = place
    return configuration(
        bootstrap_servers,
        topic,
        server={
            "host": host,
            "port": port,
            "shutdown_grace_seconds": GRACE_SECONDS,
            "drain_delay_seconds": drain_delay_seconds(settings),
            "processes": settings.processes,
        },
        admin={"host": host, "port": admin_port},
        kafka={"publish_timeout_seconds": settings.publish_timeout_seconds},
    )
