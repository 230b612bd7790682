"""Real Kafka for the tests: a cluster of their own, or one that is already there."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it exports these all the same
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewPartitions, NewTopic

from bridge.demo.child import HOST, Child, free_ports, wait_until
from tests.support.maven import maven_libraries

START_TIMEOUT_SECONDS = 180.0  # two of three JVMs at once, on a busy machine
REQUEST_TIMEOUT_SECONDS = 60.0
ASK_SECONDS = 5.0  # before another client asks

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

    def add_partitions(self, name: str, partitions: int) -> None:
        """Give a topic so many partitions in all, and wait until each has a leader."""
        admin = self.admin()
        wanted = [NewPartitions(name, partitions)]
        admin.create_partitions(wanted)[name].result(REQUEST_TIMEOUT_SECONDS)
        wait_until(lambda: _led_partitions(admin, name) == partitions, f"leaders of {name}")

    def configure_topic(self, name: str, config: Mapping[str, str]) -> None:
        """Change settings of a topic; the others stay."""
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
            for key, value in config.items()
        ]
        topic = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)

        def changed() -> bool:
            # A client asks one broker alone, which may have been killed a moment ago.
            admin = self.admin()
            asked = admin.incremental_alter_configs([topic], request_timeout=ASK_SECONDS)
            try:
                asked[topic].result(REQUEST_TIMEOUT_SECONDS)
            except KafkaException as exc:
                if exc.args[0].code() != KafkaError._TIMED_OUT:
                    raise
                return False
            return True

        wait_until(changed, f"settings of {name}", REQUEST_TIMEOUT_SECONDS)

    def topic_configuration(self, name: str) -> dict[str, str | None]:
        """The settings that a topic has, with those that it takes from its broker."""
        topic = ConfigResource(ResourceType.TOPIC, name)
        admin = self.admin()
        entries = admin.describe_configs([topic])[topic].result(REQUEST_TIMEOUT_SECONDS)
        return {key: entry.value for key, entry in entries.items()}

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
    of them listen on, in brackets where it is one of IPv6. `version` is Kafka's, the pom's by
    default; `environment[node]` is laid over that of this process. `features` are levels of its
    features that differ from the version's own.
    """

    jvm_flags: tuple[str, ...] = ()  # further ones, of every node

    def __init__(
        self,
        nodes: int = 1,
        *,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        host: str = HOST,
        version: str | None = None,
        features: Mapping[str, int] | None = None,
    ) -> None:
        self._host = host
        self._features = dict(features or {})
        self.nodes = range(1, nodes + 1)
        self.overrides = {node: dict(properties or {}) for node in self.nodes}
        self.environment: dict[int, Mapping[str, str]] = {}
        self._protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **(listeners or {})}
        ports = iter(free_ports(nodes * len(self._protocols)))
        self._ports = {n: {name: next(ports) for name in self._protocols} for n in self.nodes}
        super().__init__(self.addresses("PLAINTEXT"))
        self._directory = Path()  # from `start` on, as the next
        self._versions: dict[int, str | None] = dict.fromkeys(self.nodes, version)
        self._running: dict[int, Node] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def addresses(self, listener: str) -> str:
        """Return host:port of one listener on every node, with commas between."""
        return ",".join(f"{self._host}:{self._ports[node][listener]}" for node in self.nodes)

    def start(self) -> None:
        """Format and start every node, and wait until all of them are in the cluster.

        JarsUnavailableError where this machine cannot; BridgeError or TimeoutError, with its log
        as a note, where a node does not come up. Nothing is left running then.
        """
        for version in {*self._versions.values()}:
            kafka_libraries(version)
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
        with ThreadPoolExecutor() as together:
            together.map(Node.stop, self._running.values())
        if self._directory != Path():
            shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def pids(self) -> tuple[int, ...]:
        """The nodes' processes."""
        return tuple(process.pid for process in self._running.values())

    def kill(self, node: int = 1) -> None:
        """End a node at once, as a crash would (SIGKILL)."""
        self._running[node].kill()

    def restart(self, *nodes: int) -> None:
        """Start nodes again, on their ports and data, after killing those that run."""
        for node in nodes or (1,):
            self.kill(node)
            self._launch(node)
        self._wait_for(nodes or (1,))

    def shut_down(self, node: int = 1) -> None:
        """End a node in order (SIGTERM): it hands its partitions over first."""
        self._running[node].terminate(START_TIMEOUT_SECONDS)

    def use_version(self, node: int, version: str | None) -> None:
        """Let a node be of another version of Kafka from its next start on."""
        kafka_libraries(version)
        self._versions[node] = version

    def runs(self, node: int) -> bool:
        """Whether a node's process is there."""
        return self._running[node].running

    def freeze(self, node: int = 1) -> None:
        """Stop a node in its tracks: connections stay open and nothing answers (SIGSTOP)."""
        self._running[node].freeze()

    def thaw(self, node: int = 1) -> None:
        """Let a frozen node go on."""
        self._running[node].thaw()

    def heal(self) -> None:
        """Thaw what is frozen and start what is dead, whatever a test left behind."""
        for node, process in self._running.copy().items():
            if not process.running:
                self.restart(node)
            self.thaw(node)
        self._wait_for(self.nodes)

    def _format(self) -> None:
        options = ["format", "--cluster-id", CLUSTER_ID]
        for name, level in self._features.items():
            options += ["--feature", f"{name}={level}"]
        formatting: list[Node] = []
        with ExitStack() as started:
            for node in self.nodes:
                self._write_configuration(node)
                with_file = ("--config", self._configuration(node))
                tool = self._java(node, "kafka.tools.StorageTool", *options, *with_file)
                formatting.append(started.enter_context(tool))
            for process in formatting:
                if process.process.wait(START_TIMEOUT_SECONDS) != 0:
                    raise RuntimeError(f"{process.name} cannot be formatted:\n{process.output}")

    def _launch(self, node: int) -> None:
        self._write_configuration(node)
        self._running[node] = self._java(node, "kafka.Kafka", self._configuration(node))
        self._running[node].start()

    def _java(self, node: int, *command: str | Path) -> "Node":
        home = os.environ.get("JAVA_HOME")
        java = f"{home}/bin/java" if home else "java"
        libraries = kafka_libraries(self._versions[node])
        options = (*JVM_FLAGS, *self.jvm_flags, "-cp", f"{libraries}/*")
        return Node(
            f"node {node}",
            *(java, *options, *command),
            log=self._directory / f"node-{node}.log",
            environ=self.environment.get(node, {}),
            cwd=self._directory,
        )

    def _wait_for(self, nodes: Iterable[int]) -> None:
        """Wait until each of these nodes itself says that all of them are in the cluster."""
        for node in nodes:
            own = ExternalKafka(f"{self._host}:{self._ports[node]['PLAINTEXT']}").admin()
            joined = partial(_knows, own, {*nodes})
            self._running[node].wait_until(joined, f"nodes {nodes}", START_TIMEOUT_SECONDS)

    def _configuration(self, node: int) -> Path:
        return self._directory / f"node-{node}.properties"

    def _write_configuration(self, node: int) -> None:
        properties = {**self._properties(node), **self.overrides[node]}
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        self._configuration(node).write_text(text)

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


class Node(Child):
    """A process of the cluster. A guard kills it if this process dies without its teardown."""

    _guard: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, and its guard."""
        super().start()
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", 'cat >/dev/null; kill -9 "$0"', str(self.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def kill(self) -> None:
        """End it at once, and its guard."""
        super().kill()
        if self._guard is not None:
            with self._guard as guard:
                guard.kill()


def kafka_libraries(version: str | None = None) -> Path:
    """Return the directory of Kafka's jars, fetched with Maven the first time."""
    return maven_libraries("kafka", POM, version)


def _knows(admin: AdminClient, nodes: set[int]) -> bool:
    try:
        return nodes <= {*admin.list_topics(timeout=1.0).brokers}
    except KafkaException:
        return False


def _led_partitions(admin: AdminClient, topic: str) -> int:
    found = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics.get(topic)
    return sum(p.leader >= 0 for p in found.partitions.values()) if found else 0
