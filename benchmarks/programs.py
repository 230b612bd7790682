"""The processes of a benchmark: broker, gateways, and what they take of the machine."""

import contextlib
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import yaml

from benchmarks.baseline import AIOKAFKA_BATCH_BYTES
from bridge.demo.child import HOST, Child, free_ports
from bridge.demo.embedded_broker import EmbeddedBroker
from tests.support.brokers import KafkaCluster
from tests.support.gateway import configuration
from tests.support.maven import JarsUnavailableError

TOPICS = ("bench.bridge", "bench.baseline", "bench.ceiling")
PARTITIONS = 6
STOP_SECONDS = 20.0
POLL_SECONDS = 0.001
ROOT = Path(__file__).parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")
# A run writes tens of gigabytes: the broker keeps the newest few.
_TOPIC_CONFIG = {"retention.bytes": str(128 * 2**20), "segment.bytes": str(64 * 2**20)}
_BROKER_PROPERTIES = {"log.retention.check.interval.ms": "5000"}


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker with the topics that are published to; `name` says which kind."""

    name: str
    bootstrap_servers: str
    pids: tuple[int, ...]
    embedded: bool = False


@contextlib.contextmanager
def broker(*, embedded: bool = False, topics: Sequence[str] = TOPICS) -> Iterator[Broker]:
    """Run a real Apache Kafka, or the in-memory broker where there can be none."""
    with contextlib.ExitStack() as stack:
        if embedded:
            yield _embedded(stack, topics, "")
            return
        # The tests' cluster starts fast and stays slow; this one is to run at full speed.
        os.environ["_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=4"
        cluster = KafkaCluster(properties=_BROKER_PROPERTIES)
        try:
            stack.enter_context(cluster)
        except JarsUnavailableError as exc:
            yield _embedded(stack, topics, f" (no Apache Kafka: {exc})")
            return
        for topic in topics:
            cluster.create_topic(topic, PARTITIONS, config=_TOPIC_CONFIG)
        yield Broker("Apache Kafka, one node", cluster.bootstrap_servers, cluster.pids)


def _embedded(stack: contextlib.ExitStack, topics: Sequence[str], why: str) -> Broker:
    memory = stack.enter_context(EmbeddedBroker(*topics))
    return Broker(f"in-memory broker{why}", memory.bootstrap_servers, (memory.pid,), embedded=True)


class Program(Child):
    """A server in a process of its own, on its cores if it has any, with its files.

    `source` is the directory that holds the packages that it runs.
    """

    prefix: ClassVar[tuple[str, ...]] = (sys.executable, "-m")  # of its arguments

    def __init__(
        self,
        *arguments: str,
        port: int,
        ready_url: str,
        cores: frozenset[int] | None = None,
        environ: Mapping[str, str] = MappingProxyType({}),
        source: Path = ROOT,
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="sms-bridge-bench-")
        self.directory = Path(self._directory.name)
        command = (*self.prefix, *arguments)
        environ = {"PYTHONPATH": str(source), **environ}
        log = self.directory / "log"
        super().__init__(arguments[0], *command, log=log, environ=environ, cwd=self.directory)
        self.port = port
        self.ready_url = ready_url
        self._cores = cores

    def start(self) -> None:
        """Execute it and wait until it is ready."""
        self.launch()
        self.wait_until(lambda: self._is_up(self.ready_url), f"{self.name} to be ready")

    @property
    def pids(self) -> list[int]:
        """Its process, and those that this has started."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def launch(self) -> None:
        """Execute it."""
        with pinned(self._cores):
            super().start()

    def seconds_until(self, url: str, started_at: float, timeout: float = 30.0) -> float:
        """Return the seconds from `started_at` (perf_counter) until the URL answers 200."""
        while not (self.pid and self._is_up(url)):
            if time.perf_counter() - started_at > timeout:
                raise TimeoutError(f"{url} does not answer: {self.output[-2000:]}")
            time.sleep(POLL_SECONDS)
        return time.perf_counter() - started_at

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Let it end, or end it, and its files with it."""
        super().stop(seconds)
        self._directory.cleanup()

    @staticmethod
    def _is_up(url: str) -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)  # noqa: PLR2004
        except urllib.error.HTTPError as answer:
            # A gateway without health routes is up when it answers at all.
            with answer:
                return answer.code in (404, 405) and "/readyz" not in url
        except OSError:
            return False


class Bridge(Program):
    """The program as its users run it, with a configuration that says no more than it must.

    `settings` are parts of the configuration beside that, `environ` variables, `module` what runs
    in the program's place, and `source` where it is.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        cores: frozenset[int] | None = None,
        *,
        settings: Mapping[str, Any] = MappingProxyType({}),
        environ: Mapping[str, str] = MappingProxyType({}),
        module: str = "bridge",
        source: Path = ROOT,
    ) -> None:
        port, admin_port = free_ports(2)
        arguments = (module, "serve", "--config", "bridge.yaml")
        readyz = f"http://{HOST}:{admin_port}/readyz"
        super().__init__(
            *arguments, port=port, ready_url=readyz, cores=cores, environ=environ, source=source
        )
        whole: dict[str, Any] = {**settings}
        for section, own in (("server", port), ("admin", admin_port)):
            whole[section] = {"port": own, **whole.get(section, {})}
        config = configuration(bootstrap_servers, TOPICS[0], **whole)
        (self.directory / "bridge.yaml").write_text(yaml.safe_dump(config))
        self.livez = f"http://{HOST}:{admin_port}/livez"


def baseline(
    bootstrap_servers: str,
    cores: frozenset[int] | None = None,
    max_batch_bytes: int = AIOKAFKA_BATCH_BYTES,
) -> Program:
    """Return the plain gateway, to be entered."""
    (port,) = free_ports(1)
    options = {
        "--bootstrap-servers": bootstrap_servers,
        "--topic": TOPICS[1],
        "--port": str(port),
        "--max-batch-bytes": str(max_batch_bytes),
    }
    arguments = ("benchmarks.baseline", *(word for pair in options.items() for word in pair))
    return Program(*arguments, port=port, ready_url=root_url(port), cores=cores)


def constant(cores: frozenset[int] | None = None) -> Program:
    """Return the server that answers a constant, to be entered."""
    (port,) = free_ports(1)
    arguments = ("benchmarks.constant", "--port", str(port))
    return Program(*arguments, port=port, ready_url=root_url(port), cores=cores)


def root_url(port: int) -> str:
    """Return the address of a server on loopback."""
    return f"http://{HOST}:{port}/"


# --- the machine -------------------------------------------------------------------------


@contextlib.contextmanager
def pinned(cores: frozenset[int] | None) -> Iterator[None]:
    """Processes that are started within run on these cores."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process since its start, all threads, user and system (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Resident memory of a process (proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
