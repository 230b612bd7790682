"""What `demo` stands on: the gateway as a process, and a reader of Kafka that is not its own.

Each part ends with its `with` block, whatever happened inside.
"""

import http.client
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from bridge.demo.child import HOST, POLL_SECONDS, Child, free_ports, is_free, wait_until
from bridge.errors import BridgeError

TOPIC = "sms.status"
DEAD_LETTER_TOPIC = "sms.status.rejected"
PATH = "/webhook"
PUBLISH_TIMEOUT_SECONDS = 2.0  # so that a frozen broker shows soon

READ_SECONDS = 20.0
ANSWER_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway said, and how long it took."""

    status: int
    body: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Landed:
    """One status event where it stands in Kafka."""

    partition: int
    offset: int
    event_id: str
    id_sms: str
    status: str
    outcome: str | None


class Gateway(Child):
    """The gateway, `serve` in a process of its own, with files in `directory`.

    It has the same ports each time it is started: the provider knows but one URL. They are
    `port` and the two after it (health checks, inspector), or others for those that are taken.
    """

    def __init__(self, directory: Path, bootstrap_servers: str, *, port: int | None = None) -> None:
        self.config_file = directory / "bridge.yaml"
        command = bridge("serve", "--config", str(self.config_file))
        super().__init__("the gateway", *command, log=directory / "gateway.log")
        *ports, api_port = free_ports(4)
        if port is not None:
            wanted = enumerate(ports, start=port)
            ports = [number if is_free(number) else other for number, other in wanted]
        self._port, self._admin_port, self._inspector_port = ports
        self.provider_address = f"{HOST}:{api_port}"
        self.config_file.write_text(yaml.safe_dump(self._configuration(bootstrap_servers)))

    def _configuration(self, bootstrap_servers: str) -> dict[str, Any]:
        return {
            "server": {"host": HOST, "port": self._port, "shutdown_grace_seconds": 3},
            "admin": {"host": HOST, "port": self._admin_port},
            "inspector": {"host": HOST, "port": self._inspector_port},
            "kafka": {
                "bootstrap_servers": bootstrap_servers,
                "topic": TOPIC,
                "dead_letter_topic": DEAD_LETTER_TOPIC,
                "publish_timeout_seconds": PUBLISH_TIMEOUT_SECONDS,
            },
            "endpoints": [
                {
                    "name": "demo",
                    "path": PATH,
                    "source": "urn:example:sms:demo",
                    "timezone": "UTC",
                    "auth": "none",
                    "provider": {"url": f"http://{self.provider_address}/xml", "token": "demo"},
                }
            ],
            "events": {"type_prefix": "com.example.messaging"},
            "log": {"format": "console"},
        }

    @property
    def url(self) -> str:
        """Where the provider posts."""
        return f"http://{HOST}:{self._port}{PATH}"

    @property
    def admin_url(self) -> str:
        """Where the health checks and metrics are."""
        return f"http://{HOST}:{self._admin_port}"

    @property
    def inspector_url(self) -> str:
        """Where the page is that shows recent documents."""
        return f"http://{HOST}:{self._inspector_port}/"

    def ready(self) -> bool:
        """Whether `/readyz` says so; raises BridgeError if the process has ended."""
        if not self.running:
            raise BridgeError("the gateway has ended")
        try:
            return _request(self._admin_port, "GET", "/readyz").status == http.HTTPStatus.OK
        except OSError:
            return False

    def post(self, body: str) -> Answer:
        """Post a body as the provider does; raises BridgeError if no answer comes."""
        try:
            return _request(self._port, "POST", PATH, body)
        except (OSError, http.client.HTTPException) as exc:
            raise BridgeError(f"the gateway did not answer: {exc}") from exc


class Reader:
    """Reads the status topic from its beginning, with confluent-kafka, while it grows.

    The in-memory broker keeps the newest records only, so that reading cannot wait.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._landed: list[Landed] = []
        self._ids: set[str] = set()
        self._to_the_end = threading.Event()
        self._abandoned = threading.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._reading: Future[None] = Future()

    def __enter__(self) -> Self:
        self._reading = self._executor.submit(self._read)
        return self

    def __exit__(self, *_: object) -> None:
        self._abandoned.set()
        self._executor.shutdown()

    @property
    def count(self) -> int:
        """How many ids have been read so far."""
        return len(self._ids)

    def find(self, ids: Sequence[str]) -> list[Landed]:
        """The events of these ids, once all of them were read; TimeoutError if they do not come."""

        def are_there() -> bool:
            if self._reading.done():
                self._reading.result()  # raises what has ended it
            return self._ids.issuperset(ids)

        wait_until(are_there, "the events in Kafka")
        return [landed for landed in list(self._landed) if landed.id_sms in ids]

    def finish(self) -> list[Landed]:
        """Read to the end of every partition, and return all that was there."""
        self._to_the_end.set()
        self._reading.result()
        return self._landed

    def _read(self) -> None:
        import confluent_kafka as kafka  # noqa: PLC0415 - of an extra, whose absence the broker explains

        consumer = kafka.Consumer(
            {
                "bootstrap.servers": self._bootstrap_servers,
                "group.id": "none: partitions are assigned, and nothing is committed",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        try:
            found = consumer.list_topics(TOPIC, timeout=READ_SECONDS).topics[TOPIC].partitions
            places = [kafka.TopicPartition(TOPIC, p, kafka.OFFSET_BEGINNING) for p in found]
            consumer.assign(places)
            while not self._to_the_end.is_set() and not self._abandoned.is_set():
                self._take(consumer)
            if not self._abandoned.is_set():
                self._drain(consumer, places)
        finally:
            consumer.close()

    def _drain(self, consumer: Any, places: list[Any]) -> None:
        """Read on until each partition's last record was seen."""
        ends = [consumer.get_watermark_offsets(p, timeout=READ_SECONDS)[1] for p in places]
        deadline = time.monotonic() + READ_SECONDS
        while not self._abandoned.is_set() and any(
            place.offset < end
            for place, end in zip(consumer.position(places), ends, strict=True)
            if end  # where nothing is there is no position
        ):
            if time.monotonic() > deadline:
                raise BridgeError("the topic could not be read to its end")
            self._take(consumer)

    def _take(self, consumer: Any) -> None:
        for message in consumer.consume(1000, timeout=POLL_SECONDS):
            if message.error() is None:
                event = json.loads(message.value())
                data = event["data"]
                self._landed.append(
                    Landed(
                        partition=message.partition(),
                        offset=message.offset(),
                        event_id=event["id"],
                        id_sms=data["id_sms"],
                        status=data["status"],
                        outcome=data["outcome"],
                    )
                )
                self._ids.add(data["id_sms"])


def bridge(*arguments: str) -> list[str]:
    """The command line that runs this program."""
    return [sys.executable, "-m", "bridge", *arguments]


@contextmanager
def signals_as_exits() -> Iterator[None]:
    """Turn the signals that end a program into SystemExit, so that `with` blocks end, too.

    Only the first counts: a second one must not cut the ending short.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def leave(number: int, _frame: object) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _request(port: int, method: str, path: str, body: str | None = None) -> Answer:
    started = time.monotonic()
    connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, body and body.encode())
        response = connection.getresponse()
        return Answer(response.status, response.read().decode(), time.monotonic() - started)
    finally:
        connection.close()
