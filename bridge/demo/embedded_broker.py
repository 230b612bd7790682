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
from types import TracebackType
from typing import Any, NoReturn, Self

from bridge.errors import BridgeError

START_TIMEOUT_SECONDS = 10.0
STOP_TIMEOUT_SECONDS = 5.0

NOT_INSTALLED = (
    "the in-memory broker needs confluent-kafka, which is not installed: "
    "pip install 'sms-status-bridge[embedded]'"
)


class EmbeddedBroker:
    """A broker in a child process, for as long as the `with` block lasts.

    Each topic has four partitions; one that is not named here appears on first use. The
    broker ends with its parent, even one that is killed, unless it is frozen just then.
    """

    def __init__(self, *topics: str) -> None:
        self.topics = topics
        self.bootstrap_servers = ""  # host:port, from `start` on
        self._process: subprocess.Popen[str] | None = None

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

    @property
    def pid(self) -> int:
        """The child's process id; BridgeError if there is none."""
        return self._running().pid

    def start(self) -> None:
        """Start the child and wait for its address; BridgeError says why there is none."""
        _require_confluent_kafka()
        self._process = subprocess.Popen(  # noqa: S603  no shell, and a program of our own
            [sys.executable, "-m", "bridge.demo.embedded_broker", *_options(self.topics)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C in a terminal reaches the whole group: the parent decides the order.
            start_new_session=True,
        )
        self.bootstrap_servers = self._read_address(self._process)

    def freeze(self) -> None:
        """Stop the broker in its tracks: connections stay open and nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen broker go on, with every record that it held."""
        self._running().send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the child, frozen or not. A second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.communicate(timeout=STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise BridgeError("the in-memory broker is not running")
        return self._process

    def _read_address(self, process: subprocess.Popen[str]) -> str:
        # The child bounds its own start and ends on failure, so that this line always comes.
        line = process.stdout.readline().strip() if process.stdout else ""
        if not line:
            self.stop()
            raise BridgeError(
                f"the in-memory broker ended with status {process.returncode} before it was ready"
            )
        return line


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
        print(_address(cluster), flush=True)  # noqa: T201
    except BridgeError as exc:
        sys.exit(str(exc))
    sys.stdin.buffer.read()


def _options(topics: Sequence[str]) -> list[str]:
    return [option for topic in topics for option in ("--topic", topic)]


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


def _address(cluster: Any) -> str:
    (broker,) = cluster.list_topics(timeout=START_TIMEOUT_SECONDS).brokers.values()
    return f"{broker.host}:{broker.port}"


def _leave(_signum: int, _frame: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
