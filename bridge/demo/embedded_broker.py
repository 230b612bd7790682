"""The in-memory Kafka broker of `sms-bridge demo` and of the tests: librdkafka's mock cluster.

It is a process of its own, so that it can be frozen like a broker that hangs. It forgets
everything when it ends: the gateway itself must never start one.
"""

import argparse
import importlib.util
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from bridge.demo.child import Child
from bridge.errors import BridgeError

START_TIMEOUT_SECONDS = 10.0

NOT_INSTALLED = (
    "the in-memory broker needs confluent-kafka, which is not installed: it is the extra "
    "`embedded` of the checkout or wheel that the bridge was installed from"
)


class EmbeddedBroker(Child):
    """A broker in a child process, for as long as the `with` block lasts.

    Each topic has four partitions; one that is not named here appears on first use. The
    broker ends with its parent, even one that is killed, unless it is frozen just then.
    """

    def __init__(self, *topics: str) -> None:
        options = [option for topic in topics for option in ("--topic", topic)]
        command = [sys.executable, "-m", "bridge.demo.embedded_broker", *options]
        super().__init__("the in-memory broker", *command)
        self.bootstrap_servers = ""  # host:port, from `start` on

    def start(self) -> None:
        """Start the child and wait for its address; BridgeError says why there is none."""
        _require_confluent_kafka()
        self._spawn(subprocess.PIPE, None)
        # The child bounds its own start and ends on failure, so that this line always comes.
        line = self.process.stdout.readline() if self.process.stdout else b""
        self.bootstrap_servers = line.decode().strip()
        if not line:
            self.stop()
            status = self.process.returncode
            raise BridgeError(f"{self.name} ended with status {status} before it was ready")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the broker's address once its topics exist; stay until a signal or end of input."""
    parser = argparse.ArgumentParser(
        prog="python -m bridge.demo.embedded_broker", description=main.__doc__
    )
    parser.add_argument("--topic", action="append", default=[], help="to make at the start")
    topics = parser.parse_args(argv).topic
    try:
        _require_confluent_kafka()
        signal.signal(signal.SIGTERM, _leave)
        signal.signal(signal.SIGINT, _leave)
        cluster = _start_cluster()
        _make_topics(cluster, topics)
        (broker,) = cluster.list_topics(timeout=START_TIMEOUT_SECONDS).brokers.values()
        print(f"{broker.host}:{broker.port}", flush=True)  # noqa: T201
    except BridgeError as exc:
        sys.exit(str(exc))
    sys.stdin.buffer.read()


def _require_confluent_kafka() -> None:
    if importlib.util.find_spec("confluent_kafka") is None:
        raise BridgeError(NOT_INSTALLED)


def _start_cluster() -> Any:
    """Return the producer that hosts the cluster: it lives as long as this object."""
    from confluent_kafka import Producer  # noqa: PLC0415  optional

    return Producer(
        {
            # librdkafka puts the cluster's own address in its place.
            "bootstrap.servers": "127.0.0.1:9",
            "test.mock.num.brokers": 1,
            "log_level": 3,
        }
    )


def _make_topics(cluster: Any, topics: Sequence[str]) -> None:
    """Ask for each topic's metadata, which makes it: CreateTopics is not served."""
    from confluent_kafka import KafkaException  # noqa: PLC0415  optional

    for topic in topics:
        try:
            found = cluster.list_topics(topic, timeout=START_TIMEOUT_SECONDS).topics[topic]
        except KafkaException as exc:
            raise BridgeError(f"the in-memory broker does not answer: {exc}") from exc
        if found.error is not None:
            raise BridgeError(f"the in-memory broker refuses topic {topic!r}: {found.error}")


def _leave(_signum: int, _frame: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
