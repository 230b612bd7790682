"""The plainest correct gateway of the same packages: what the bridge is measured against.

One `send()` and one event of the SDK a state, as their documentation shows them. It keeps the
promise (what is listed is in Kafka) and the bridge's fields and ids, and none of its limits.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

import uvicorn
import xmltodict
from aiokafka import AIOKafkaProducer
from cloudevents.core.bindings.kafka import to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.event import STATUS_SCHEMA, event_id
from bridge.model import MEANINGS, Meaning, State

HOST = "127.0.0.1"
SOURCE = "urn:example:sms:main"
TYPE_PREFIX = "com.example.messaging"
PUBLISH_TIMEOUT_SECONDS = 4.0
AIOKAFKA_BATCH_BYTES = 16 * 1024  # its default
CHANNELS = ("sms", "viber")


class Gateway:
    """Takes a document, sends each state on its own, and lists what Kafka has taken."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._format = JSONFormat()

    async def answer(self, request: Request) -> Response:
        """Answer one POST."""
        document = xmltodict.parse(await request.body(), force_list=("state",))
        received_at = datetime.now(UTC)
        states = [_state(element) for element in document["response"]["state"]]
        events = {event.get_id(): event for event in (_event(s, received_at) for s in states)}
        taken = await self._publish(list(events.values()))
        return _answer(states, taken)

    async def _publish(self, events: list[CloudEvent]) -> set[str]:
        """Return the ids of the events that Kafka has acknowledged in time."""
        futures: list[asyncio.Future[Any]] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
                futures = await asyncio.gather(*map(self._send, events))
                await asyncio.wait(futures)
        return {
            event.get_id()
            for event, future in zip(events, futures, strict=False)
            if future.done() and future.exception() is None
        }

    async def _send(self, event: CloudEvent) -> "asyncio.Future[Any]":
        message = to_structured(event, self._format)
        future: asyncio.Future[Any] = await self._producer.send(
            self._topic,
            value=message.value,
            key=str(message.key).encode(),
            headers=list(message.headers.items()),
        )
        return future


def _state(element: Mapping[str, str]) -> State:
    channels = {name: element[f"@{name}"] for name in CHANNELS if element.get(f"@{name}")}
    return State(
        id_sms=element["@id_sms"].strip(),
        status=element["#text"].strip().lower(),
        channels=channels,
        values=dict(sorted(channels.items())),
        raw_time=element.get("@time") or None,
        element=element,
    )


def _event(state: State, received_at: datetime) -> CloudEvent:
    meaning = MEANINGS.get(state.status, Meaning())
    changed_at = datetime.fromisoformat(state.raw_time + "Z") if state.raw_time else None
    attributes = {
        "specversion": "1.0",
        "id": event_id(SOURCE, state),
        "source": SOURCE,
        "type": f"{TYPE_PREFIX}.status.{state.status}",
        "time": changed_at or received_at,
        "datacontenttype": "application/json",
        "dataschema": STATUS_SCHEMA,
        "partitionkey": state.id_sms,
        "subject": state.id_sms,
    }
    data = {
        "id_sms": state.id_sms,
        "status": state.status,
        "outcome": meaning.outcome,
        "final": meaning.final,
        "rank": meaning.rank,
        "channels": dict(state.channels),
        "attributes": {},
        "changed_at": changed_at,
        "raw_time": state.raw_time,
        "received_at": received_at,
    }
    return CloudEvent(attributes, data)


def _answer(states: list[State], taken: set[str]) -> Response:
    ids = dict.fromkeys(state.id_sms for state in states)
    missing = {state.id_sms for state in states if event_id(SOURCE, state) not in taken}
    listed = [id_sms for id_sms in ids if id_sms not in missing]
    lines = "".join(f"  <id_sms>{escape(id_sms)}</id_sms>\n" for id_sms in listed)
    return Response(
        f'<?xml version="1.0" encoding="utf-8"?>\n<response>\n{lines}</response>\n',
        status_code=200 if listed or not ids else 503,
        media_type="text/xml",
    )


def application(bootstrap_servers: str, topic: str, max_batch_bytes: int) -> Starlette:
    """Return the gateway; the producer lives as long as the application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            acks="all",
            enable_idempotence=True,
            max_batch_size=max_batch_bytes,
        )
        async with producer:
            app.state.gateway = Gateway(producer, topic)
            yield

    async def webhook(request: Request) -> Response:
        gateway: Gateway = request.app.state.gateway
        return await gateway.answer(request)

    return Starlette(routes=[Route("/webhook", webhook, methods=["POST"])], lifespan=lifespan)


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baseline", description=__doc__)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-batch-bytes", type=int, default=AIOKAFKA_BATCH_BYTES)
    options = parser.parse_args()
    uvicorn.run(
        application(options.bootstrap_servers, options.topic, options.max_batch_bytes),
        host=HOST,
        port=options.port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
