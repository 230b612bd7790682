"""One side of the gate: requests through the whole gateway in this process, no socket and no Kafka.

From the bytes of a request to those of its answer everything is the gateway's own, log and metrics
included; the connections and what answers the batches stand in. Each line `STATES CONNECTIONS
REQUESTS` of standard input is answered with the CPU seconds that a request took.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from functools import partial
from inspect import signature
from itertools import count
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from aiokafka.producer.message_accumulator import BatchBuilder
from uvicorn.server import ServerState

from benchmarks.bodies import Template, document, document_bytes, prefix, read_templates
from bridge.config.settings import Settings
from bridge.duplicates import Deduplicator, RecentEvents
from bridge.gateway.app import Health, public_app
from bridge.gateway.connections import Connections
from bridge.gateway.http_protocol import HttpProtocol
from bridge.gateway.server import _spare_the_collector
from bridge.kafka import Publisher, Supervisor
from bridge.kafka.producer import MAX_BATCH_BYTES
from bridge.observability import logging as logs
from bridge.observability.log_writer import LogWriter
from bridge.observability.metrics import Metrics
from tests.support.fake_kafka import FakeProducer, durable
from tests.support.settings import settings

PARTITIONS = 6
END = b"</response>\n"  # of a whole answer
HEAD = b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n"
DATE = (b"date", b"Thu, 01 Jan 2026 00:00:00 GMT")


class _Kafka(FakeProducer):
    """Builds each batch as it would go out, and answers it in the next turn of the loop."""

    def new_batch(self) -> Any:
        return BatchBuilder(MAX_BATCH_BYTES, 0)

    async def _send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        del topic, partition
        batch.close()
        batch._build()  # noqa: SLF001 -- what aiokafka's sender does with it
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        loop.call_soon(self.settle, answer, 0)
        return answer


class _Client(asyncio.Transport):
    """A connection that posts the next document as soon as it has its answer."""

    def __init__(
        self, new_protocol: Callable[[], HttpProtocol], answered: Callable[["_Client", bytes], None]
    ) -> None:
        super().__init__({"peername": ("127.0.0.1", 2), "sockname": ("127.0.0.1", 1)})
        self._answered = answered
        self._answer = b""
        self._protocol = new_protocol()
        self._protocol.connection_made(self)

    def post(self, request: bytes) -> None:
        """Send one request, as one piece."""
        self._protocol.get_buffer(-1)[: len(request)] = request
        self._protocol.buffer_updated(len(request))

    def write(self, data: Any) -> None:
        self._answer += data
        if self._answer.endswith(END):
            answer, self._answer = self._answer, b""
            self._answered(self, answer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del high, low  # all that is written is read at once

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None:
        raise RuntimeError(f"the gateway has cut a connection, {self._answer!r}")

    close = abort


class Load:
    """So many requests, as many at a time as there are clients."""

    def __init__(
        self, new_protocol: Callable[[], HttpProtocol], templates: dict[int, list[Template]]
    ) -> None:
        self._new_client = partial(_Client, new_protocol, self._answered)
        self._clients: list[_Client] = []
        self._templates = templates
        self._runs = count(1)
        self._requests: list[bytes] = []
        self._states = self._due = 0
        self._done: asyncio.Future[None]

    async def seconds(self, states: int, connections: int, requests: int) -> float:
        """Return the CPU seconds of a request. RuntimeError where one is not answered in full."""
        while len(self._clients) < connections:
            self._clients.append(self._new_client())
        run, templates = next(self._runs), self._templates[states]
        self._requests = [
            HEAD % document_bytes(template) + document(template, prefix(run, number))
            for number, template in zip(range(requests), templates * requests, strict=False)
        ]
        self._states, self._due = states, requests
        self._done = asyncio.get_running_loop().create_future()
        started = time.process_time()
        for client in self._clients[:connections]:
            client.post(self._requests.pop())
        await self._done
        return (time.process_time() - started) / requests

    def _answered(self, client: _Client, answer: bytes) -> None:
        if not answer.startswith(b"HTTP/1.1 200 ") or answer.count(b"<id_sms>") != self._states:
            self._done.set_exception(RuntimeError(f"not a whole answer: {answer[:500]!r}"))
            return
        self._due -= 1
        if self._requests:
            asyncio.get_running_loop().call_soon(client.post, self._requests.pop())
        elif not self._due:
            self._done.set_result(None)


async def _gateway(told: Settings, log_writer: LogWriter | None) -> Callable[[], HttpProtocol]:
    """Everything that `serve` puts together for its public listener; what makes connections."""
    _spare_the_collector()

    async def connect(_: object) -> _Kafka:
        topics = told.kafka.with_dead_letters(told.topics)
        return _Kafka(partitions=PARTITIONS, topics=topics)

    supervisor = Supervisor(told.kafka, told.topics, connect=connect, describe_configs=durable)
    supervisor.start()
    await supervisor.current()
    duplicates = told.kafka.duplicates
    publisher = Deduplicator(
        Publisher(told.kafka, supervisor),
        supervisor,
        RecentEvents(duplicates.remember, duplicates.seconds),
    )
    options: dict[str, Any] = {}
    if "write_info" in signature(public_app).parameters:  # a commit may be from before it
        options["write_info"] = logs.straight(log_writer, told.log.level, told.log.format)
    config = uvicorn.Config(
        public_app(told, publisher, Metrics(), Health(lambda: None), **options),
        lifespan="off",
        interface="asgi3",
        log_config=None,
        proxy_headers=False,
    )
    config.load()
    server = ServerState()
    server.default_headers = [DATE]
    return partial(HttpProtocol, config, server, {}, connections=Connections())


async def _serve(templates: dict[int, list[Template]]) -> None:
    told = settings()
    log_writer = logs.configure(told.log.level, told.log.format)
    load = Load(await _gateway(told, log_writer), templates)
    # The loop stands still between two measurements.
    for line in sys.stdin:
        print(await load.seconds(*map(int, line.split())), flush=True)  # noqa: T201


def main() -> None:
    """Measure until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.in_process", description=__doc__)
    parser.add_argument("templates", type=Path, help="the directory with the files N.templates")
    files = parser.parse_args().templates.glob("*.templates")
    uvloop.run(_serve({int(file.stem): read_templates(file) for file in files}))


if __name__ == "__main__":
    main()
