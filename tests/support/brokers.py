"""Real Kafka for the tests: a cluster of their own, or one that is already there.

Reads topics back with confluent-kafka, a client that the bridge does not publish with.
"""

import fcntl
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it exports these all the same
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from tests.contract.events import check

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 5.0
REQUEST_TIMEOUT_SECONDS = 15.0
POLL_SECONDS = 0.05
MAVEN_TIMEOUT_SECONDS = 600.0
LOG_TAIL_LINES = 40

HERE = Path(__file__).parents[1] / "kafka"
POM = HERE / "pom.xml"
CLUSTER_ID = "c21zLXN0YXR1cy1icmlkZw"  # 16 bytes in base64, as StorageTool wants it

JVM_FLAGS = (
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # starts in half the time
    "-Djava.awt.headless=true",
    f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}",
)


class KafkaUnavailableError(Exception):
    """This machine cannot run Kafka: Java, Maven or Maven's repository is out of reach."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record as an independent client reads it; `timestamp_ms` counts from the epoch."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int


class ExternalKafka:
    """A cluster that is there, whoever runs it: topics can be made and deleted."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers  # of the listener that speaks PLAINTEXT

    def admin(self) -> AdminClient:
        """Return a new admin client that keeps its log to itself."""
        return AdminClient(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "log_level": 0,
                "reconnect.backoff.max.ms": 250,
            }
        )

    def create_topic(
        self,
        name: str,
        partitions: int,
        replication_factor: int = 1,
        config: Mapping[str, str] | None = None,
    ) -> None:
        """Make a topic and wait until every partition of it has a leader."""
        topic = NewTopic(name, partitions, replication_factor, config=dict(config or {}))
        admin = self.admin()
        admin.create_topics([topic])[name].result(REQUEST_TIMEOUT_SECONDS)
        wait_until(lambda: _led_partitions(admin, name) == partitions, f"leaders of {name}")

    def configure_topic(self, name: str, config: Mapping[str, str]) -> None:
        """Change settings of a topic; the others stay."""
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
            for key, value in config.items()
        ]
        topic = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        admin = self.admin()
        admin.incremental_alter_configs([topic])[topic].result(REQUEST_TIMEOUT_SECONDS)

    def delete_records(self, name: str, partition: int, before: int) -> None:
        """Delete the records of a partition up to an offset."""
        admin = self.admin()
        place = TopicPartition(name, partition, before)
        admin.delete_records([place])[place].result(REQUEST_TIMEOUT_SECONDS)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until no broker lists it."""
        admin = self.admin()
        admin.delete_topics([name])[name].result(REQUEST_TIMEOUT_SECONDS)
        wait_until(lambda: _led_partitions(admin, name) == 0, f"the end of {name}")


class KafkaCluster(ExternalKafka):
    """Apache Kafka in processes of its own, each node both broker and controller.

    `listeners` names more listeners than the PLAINTEXT one and the security protocol of
    each (`{"SECURE": "SASL_SSL"}`); `properties` are laid over every node's configuration,
    and `overrides[node]` may be changed for one node before it is started. Nodes count from
    1. Ports and data are the same from a node's start to its next. `host` is the address that all
    of them listen on, in brackets where it is one of IPv6.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._host = host
        self.nodes = range(1, nodes + 1)
        self.overrides = {node: dict(properties or {}) for node in self.nodes}
        self._protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **(listeners or {})}
        ports = iter(free_ports(nodes * len(self._protocols)))
        self._ports = {n: {name: next(ports) for name in self._protocols} for n in self.nodes}
        super().__init__(self.addresses("PLAINTEXT"))
        self._directory = Path()  # from `start` on, as the next
        self._libraries = Path()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._reapers: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def addresses(self, listener: str) -> str:
        """Return host:port of one listener on every node, with commas between."""
        return ",".join(f"{self._host}:{self._ports[node][listener]}" for node in self.nodes)

    def start(self) -> None:
        """Format and start every node, and wait until all of them are in the cluster.

        KafkaUnavailableError where this machine cannot; RuntimeError with the end of the
        log where a node does not come up. Nothing is left running then.
        """
        self._libraries = kafka_libraries()
        self._directory = Path(tempfile.mkdtemp(prefix="sms-status-bridge-kafka-"))
        try:
            self._format()
            for node in self.nodes:
                self._launch(node)
            self._wait_for(self.nodes)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every node, frozen or not, and remove what they wrote."""
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for node in list(self._processes):
            self._end(node, STOP_TIMEOUT_SECONDS)
        if self._directory != Path():
            shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self, node: int = 1) -> None:
        """End a node at once, as a crash would (SIGKILL)."""
        self._processes[node].kill()
        self._end(node, STOP_TIMEOUT_SECONDS)

    def restart(self, node: int = 1) -> None:
        """Start a node again, on its ports and its data, after killing it if it runs."""
        if node in self._processes:
            self.kill(node)
        self._launch(node)
        self._wait_for([node])

    def freeze(self, node: int = 1) -> None:
        """Stop a node in its tracks: connections stay open and nothing answers (SIGSTOP)."""
        self._processes[node].send_signal(signal.SIGSTOP)

    def thaw(self, node: int = 1) -> None:
        """Let a frozen node go on."""
        self._processes[node].send_signal(signal.SIGCONT)

    def heal(self) -> None:
        """Thaw what is frozen and start what is dead, whatever a test left behind."""
        for node in self.nodes:
            if node not in self._processes or self._processes[node].poll() is not None:
                self.restart(node)
            self.thaw(node)
        self._wait_for(self.nodes)

    def log(self, node: int = 1) -> str:
        """Return the end of a node's log."""
        lines = self._log_file(node).read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _format(self) -> None:
        for node in self.nodes:
            self._write_configuration(node)
        formatting = {node: self._start_format(node) for node in self.nodes}
        try:
            for node, process in formatting.items():
                if process.wait(START_TIMEOUT_SECONDS) != 0:
                    raise RuntimeError(f"node {node} cannot be formatted:\n{self.log(node)}")
        finally:
            for process in formatting.values():
                process.kill()
                process.wait()

    def _start_format(self, node: int) -> subprocess.Popen[bytes]:
        options = ["format", "--cluster-id", CLUSTER_ID, "--config", self._configuration(node)]
        return self._java(node, "kafka.tools.StorageTool", *options)

    def _launch(self, node: int) -> None:
        self._write_configuration(node)
        process = self._java(node, "kafka.Kafka", self._configuration(node))
        self._processes[node] = process
        self._reapers[node] = _reaper(process.pid)

    def _java(self, node: int, *command: str) -> subprocess.Popen[bytes]:
        home = os.environ.get("JAVA_HOME")
        java = f"{home}/bin/java" if home else "java"
        with self._log_file(node).open("ab") as log:
            return subprocess.Popen(
                [java, *JVM_FLAGS, "-cp", f"{self._libraries}/*", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                # Ctrl-C reaches the whole group: pytest's teardown decides the order.
                start_new_session=True,
            )

    def _end(self, node: int, timeout: float) -> None:
        process = self._processes.pop(node)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with self._reapers.pop(node) as reaper:
            reaper.kill()

    def _wait_for(self, nodes: range | list[int]) -> None:
        """Wait until each of these nodes itself says that all of them are in the cluster."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        for node in nodes:
            own = ExternalKafka(f"{self._host}:{self._ports[node]['PLAINTEXT']}").admin()
            while not set(nodes) <= _brokers(own):
                self._check_alive(node, deadline)
                time.sleep(POLL_SECONDS)

    def _check_alive(self, node: int, deadline: float) -> None:
        status = self._processes[node].poll()
        if status is not None:
            raise RuntimeError(f"node {node} ended with status {status}:\n{self.log(node)}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"node {node} is not ready in time:\n{self.log(node)}")

    def _log_file(self, node: int) -> Path:
        return self._directory / f"node-{node}.log"

    def _configuration(self, node: int) -> str:
        return str(self._directory / f"node-{node}.properties")

    def _write_configuration(self, node: int) -> None:
        properties = {**self._properties(node), **self.overrides[node]}
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        Path(self._configuration(node)).write_text(text)

    def _properties(self, node: int) -> dict[str, str]:
        addresses = {name: f"{name}://{self._host}:{p}" for name, p in self._ports[node].items()}
        clients = [address for name, address in addresses.items() if name != "CONTROLLER"]
        return {
            "process.roles": "broker,controller",
            "node.id": str(node),
            "controller.quorum.voters": self._voters(),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join(addresses.values()),
            "advertised.listeners": ",".join(clients),
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in self._protocols.items()
            ),
            "log.dirs": str(self._directory / f"data-{node}"),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            # A killed node may register again only when its last session is over.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **self._replication(),
        }

    def _voters(self) -> str:
        return ",".join(f"{n}@{self._host}:{self._ports[n]['CONTROLLER']}" for n in self.nodes)

    def _replication(self) -> dict[str, str]:
        replicas, in_sync = ("3", "2") if len(self.nodes) >= 3 else ("1", "1")
        return {
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
        }


def read_topic(
    bootstrap_servers: str,
    topic: str,
    *,
    expect: int | None = None,
    timeout: float = 30.0,
    foreign: bool = False,
) -> list[Record]:
    """Read a topic from its beginning to the end of every partition, in order of partition.

    Every event among them is held to its schema, unless there are `foreign` ones. With `expect`,
    wait until there are at least so many; TimeoutError if `timeout` seconds pass before that, or
    before the ends are reached.
    KafkaException if there is no topic.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "unused: partitions are assigned, and nothing is committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        records = _read_assigned(consumer, topic, expect or 0, timeout)
    finally:
        consumer.close()
    if not foreign:
        for record in records:
            check(record.value, record.headers)
    return sorted(records, key=lambda record: (record.partition, record.offset))


def _read_assigned(consumer: Consumer, topic: str, expect: int, timeout: float) -> list[Record]:
    deadline = time.monotonic() + timeout
    partitions = _partitions(consumer, topic, timeout)
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    records: list[Record] = []
    at_end: set[int | None] = set()
    while len(records) < expect or at_end != partitions:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{topic}: {len(records)} records of {expect} and {len(at_end)} ends of "
                f"{len(partitions)} partitions within {timeout} s"
            )
        for message in consumer.consume(1000, timeout=POLL_SECONDS):
            error = message.error()
            if error is None:
                at_end.discard(message.partition())
                records.append(_record(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                at_end.add(message.partition())
            else:
                raise KafkaException(error)
    return records


def _record(message: Message) -> Record:
    partition, offset = message.partition(), message.offset()
    if partition is None or offset is None:
        raise ValueError("a record without its place in the topic")
    return Record(
        topic=message.topic() or "",
        partition=partition,
        offset=offset,
        key=message.key(),
        value=message.value(),
        headers=headers_of(message),
        timestamp_ms=message.timestamp()[1],
    )


def headers_of(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    """Return the names and values of a record's headers, in order."""
    found = message.headers() or []
    pairs = found.items() if isinstance(found, dict) else found
    return tuple((k, v.encode() if isinstance(v, str) else v) for k, v in pairs)


def _partitions(consumer: Consumer, topic: str, timeout: float) -> set[int]:
    found = consumer.list_topics(topic, timeout=timeout).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return set(found.partitions)


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    """Poll until `condition` holds; TimeoutError names `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s in vain for {what}")
        time.sleep(POLL_SECONDS)


def free_ports(count: int) -> list[int]:
    """Find loopback ports that nothing listens on, below those that outgoing connections take.

    A node that is started again must find its port free; and a client that dials a dead
    node's port from that same port would be connected to itself.
    """
    ports: set[int] = set()
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                ports.add(port)
    return sorted(ports)


def kafka_libraries() -> Path:
    """Return the directory of Kafka's jars, fetched with Maven the first time."""
    return maven_libraries("kafka", POM)


def maven_libraries(name: str, pom: Path) -> Path:
    """Return the directory of the jars that a pom depends on, fetched the first time.

    It is below $XDG_CACHE_HOME, or else ~/.cache, one for each `<NAME.version>` of the pom.
    KafkaUnavailableError says what this machine lacks.
    """
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise KafkaUnavailableError(f"{program} is not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sms-status-bridge"
    target = cache / f"{name}-{_version(name, pom)}"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{target.name}.lock"):
        if not target.is_dir():
            _fetch(pom, target)
    return target


def _version(name: str, pom: Path) -> str:
    found = re.search(rf"<{name}\.version>(.+)</{name}\.version>", pom.read_text())
    if found is None:
        raise ValueError(f"{pom} names no {name}.version")
    return found[1]


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock that two test runs at once share; it ends with the process at the latest."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch(pom: Path, target: Path) -> None:
    """Let Maven copy the jars beside the target, then put them in place in one step."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as partial:
        jars = Path(partial) / "jars"
        copied_libraries(pom, jars)
        jars.rename(target)


def copied_libraries(pom: Path, directory: Path) -> None:
    """Let Maven copy what a pom depends on; KafkaUnavailableError says why it cannot."""
    _run_maven(pom, "dependency:copy-dependencies", "-DincludeScope=runtime", directory)


def _run_maven(pom: Path, goal: str, scope: str, directory: Path) -> None:
    command = ["mvn", "--batch-mode", "--quiet", "--strict-checksums", "--file", str(pom)]
    try:
        done = subprocess.run(
            [*command, goal, scope, f"-DoutputDirectory={directory}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MAVEN_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise KafkaUnavailableError("Maven did not fetch the jars in time") from None
    if done.returncode != 0:
        errors = [line for line in done.stdout.splitlines() if "ERROR" in line]
        raise KafkaUnavailableError(f"Maven cannot fetch the jars: {' '.join(errors[:1])}")


def _reaper(pid: int) -> subprocess.Popen[bytes]:
    """Start a guard that kills the node if this process dies without its teardown."""
    return subprocess.Popen(
        ["/bin/sh", "-c", 'cat >/dev/null; kill -9 "$0"', str(pid)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


def _brokers(admin: AdminClient) -> set[int]:
    try:
        return set(admin.list_topics(timeout=1.0).brokers)
    except KafkaException:
        return set()


def _led_partitions(admin: AdminClient, topic: str) -> int:
    found = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics.get(topic)
    return sum(p.leader >= 0 for p in found.partitions.values()) if found else 0
