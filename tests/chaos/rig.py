"""All that runs: the cluster, the proxies on either side of the gateway, and the gateway.

Providers reach the gateway through one proxy, the gateway reaches Kafka through others; the
brokers among themselves, the harness and the checker go around them.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bridge.demo.child import HOST, free_ports
from tests.chaos.load import Journal
from tests.chaos.program import Program
from tests.support.brokers import KafkaCluster
from tests.support.gateway import configuration
from tests.support.proxy import Address, Conditions, Proxy

SOURCE = "urn:example:sms:main"
PARTITIONS = 6
GRACE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Settings:
    """One run.

    The last `quiet_seconds` are without faults; the run takes longer where they, and the first
    round, do not fit into `seconds`. `faults` are the kinds to choose from, by name;
    none means all that the cluster can bear. `each_first` goes through every kind once before
    chance decides. `package` is as in Program.
    """

    seconds: float = 90.0
    seed: int = 1
    nodes: int = 1
    processes: int = 1  # of the gateway
    providers: int = 3
    publish_timeout_seconds: float = 2.0
    quiet_seconds: float = 20.0
    faults: tuple[str, ...] = ()
    each_first: bool = True
    package: Path | None = None
    quiet_log: bool = False


class Network:
    """Where the gateway finds the brokers: one bootstrap address, and one for each of them."""

    LISTENER = "PROXIED"

    def __init__(self, nodes: int) -> None:
        bootstrap, *own = free_ports(nodes + 1)
        self.bootstrap = Proxy([], bootstrap)
        self.brokers = {node: Proxy([], port) for node, port in enumerate(own, 1)}

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


async def _no_audit() -> None:
    """Nothing has been acknowledged yet."""


@dataclass(slots=True)
class Rig:
    """A run's parts. `counts_from[topic]` is when acknowledgements began to count for it."""

    settings: Settings
    cluster: KafkaCluster
    network: Network
    front: Proxy
    program: Program
    journal: Journal
    topic: str
    dead_letters: str
    started: float = field(default_factory=time.monotonic)
    counts_from: dict[str, float] = field(default_factory=dict)
    audit: Callable[[], Awaitable[None]] = _no_audit  # to be called before a topic is deleted
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

    async def create_topic(self, topic: str) -> None:
        """Make a topic; acknowledgements of posts that begin from then on count for it."""
        config = {"min.insync.replicas": str(max(1, self.replicas - 1))}
        await asyncio.to_thread(self.cluster.create_topic, topic, PARTITIONS, self.replicas, config)
        self.counts_from[topic] = time.monotonic()

    async def delete_topic(self, topic: str) -> None:
        await asyncio.to_thread(self.cluster.delete_topic, topic)

    async def start_program(self) -> None:
        """Start it and wait until it is ready."""
        self.program.start()
        await asyncio.to_thread(self.program.wait_ready)

    async def end_program(self) -> None:
        """End it in order; a violation where it does not, or not in time."""
        started = time.monotonic()
        await asyncio.to_thread(self.program.stop, GRACE_SECONDS + 0.5)
        status, seconds = self.program.process.returncode, time.monotonic() - started
        self.log(f"the gateway ended with status {status} after {seconds:.1f} s")
        if status != 0:
            self.violations.append(f"SIGTERM: status {status} after {seconds:.1f} s")


def new_cluster(nodes: int) -> tuple[KafkaCluster, Network]:
    """A cluster that is yet to be started, reached through proxies that are not there yet."""
    cluster = KafkaCluster(nodes, listeners={Network.LISTENER: "PLAINTEXT"})
    network = Network(nodes)
    for node, address in zip(
        cluster.nodes, cluster.addresses(Network.LISTENER).split(","), strict=True
    ):
        network.place(cluster, node, (HOST, int(address.rsplit(":", 1)[1])))
    return cluster, network


@asynccontextmanager
async def rig(
    settings: Settings, cluster: KafkaCluster, network: Network, name: str
) -> AsyncIterator[Rig]:
    """Topics of this name, the proxies and the gateway, on a cluster that runs."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sms-chaos-")))
        gateway_port, admin_port, front_port = free_ports(3)
        config = _configuration(settings, network, name, gateway_port, admin_port)
        program = Program(directory, config, package=settings.package)
        front = Proxy([(HOST, gateway_port)], front_port)
        await stack.enter_async_context(front)
        stack.push_async_callback(network.aclose)
        await network.accept()
        stack.callback(program.kill)
        made = Rig(settings, cluster, network, front, program, Journal(), name, f"{name}.rejected")
        await made.create_topic(made.topic)
        await made.create_topic(made.dead_letters)
        await made.start_program()
        made.started = time.monotonic()
        yield made


def _configuration(
    settings: Settings, network: Network, topic: str, port: int, admin_port: int
) -> Mapping[str, Any]:
    return configuration(
        network.bootstrap.address,
        topic,
        server={
            "port": port,
            "shutdown_grace_seconds": GRACE_SECONDS,
            "processes": settings.processes,
        },
        admin={"port": admin_port},
        kafka={"publish_timeout_seconds": settings.publish_timeout_seconds},
    )
