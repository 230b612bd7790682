"""The `convert` command: a dry run of the stages. No HTTP and no Kafka."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

import click
import orjson

from bridge.ack import acknowledged, answer, problem
from bridge.config.settings import Server, Settings
from bridge.console import printable, table
from bridge.errors import DocumentError
from bridge.event import Stream, rejected_body
from bridge.model import Document, InvalidState, Message
from bridge.parse import is_blank, parse
from bridge.pipeline import message_for

PARTITION = "murmur2 of the key, modulo the topic's number of partitions (as in Java)"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a body becomes while Kafka takes everything.

    `numbers` are, of each message, the states it stands for, counted from 1. `error` is set
    where the body is refused as a whole; its dead letter then is the only message, if any.
    """

    stream: Stream
    status: HTTPStatus
    answer: bytes
    messages: tuple[Message, ...] = ()
    numbers: tuple[tuple[int, ...], ...] = ()
    document: Document | None = None
    error: DocumentError | None = None


def example_settings() -> Settings:
    """A configuration of the examples that the required settings come with."""
    fields = Settings.model_fields
    return Settings.model_validate(
        {name: field.examples[0] for name, field in fields.items() if field.examples}
    )


def convert(body: bytes, stream: Stream, server: Server, received_at: datetime) -> Conversion:
    """Take a body through the stages; `received_at` is in UTC."""
    if len(body) > server.max_body_bytes:
        what = f"the body is over {server.max_body_bytes} bytes"
        error = DocumentError("too_large", what)
        return _refused(stream, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error)
    if is_blank(body):
        return _refused(stream, HTTPStatus.BAD_REQUEST, DocumentError("empty", "the body is empty"))
    try:
        document = parse(body, max_states=server.max_states)
    except DocumentError as exc:
        topic = stream.dead_letter_topic
        letter = (rejected_body(stream, topic, exc, body, received_at),) if topic else ()
        return _refused(stream, HTTPStatus.BAD_REQUEST, exc, letter)
    return _accepted(stream, document, received_at)


def _accepted(stream: Stream, document: Document, received_at: datetime) -> Conversion:
    unique: dict[tuple[str, str], Message] = {}
    numbers: dict[tuple[str, str], tuple[int, ...]] = {}
    durable: list[bool] = []
    for number, state in enumerate(document.states, start=1):
        message = message_for(stream, state, received_at)
        durable.append(message is not None)
        if message is not None:
            identity = message.topic, message.event_id
            unique.setdefault(identity, message)
            numbers[identity] = (*numbers.get(identity, ()), number)
    listed, _ = acknowledged(document.states, durable, document.unprocessed_ids)
    return Conversion(
        stream=stream,
        status=HTTPStatus.OK,
        answer=answer(listed),
        messages=tuple(unique.values()),
        numbers=tuple(numbers.values()),
        document=document,
    )


def _refused(
    stream: Stream, status: HTTPStatus, error: DocumentError, letter: tuple[Message, ...] = ()
) -> Conversion:
    body = problem(status, status.phrase, str(error))
    return Conversion(stream, status, body, messages=letter, error=error)


# --- for people --------------------------------------------------------------------------


def lines(conversion: Conversion) -> Iterator[str]:
    """The conversion as text, a few lines at a time."""
    if conversion.document is not None:
        yield from _summary(conversion.stream, conversion.document)
    for index, message in enumerate(conversion.messages):
        yield ""
        yield _title(conversion, index)
        yield from _record(message)
    yield ""
    status = conversion.status
    colour = "green" if status is HTTPStatus.OK else "red"
    yield click.style(f"answer: {status.value} {status.phrase}", fg=colour, bold=True)
    yield from _lines(conversion.answer)


def _summary(stream: Stream, document: Document) -> Iterator[str]:
    states = document.states
    invalid = [n for n, state in enumerate(states, start=1) if isinstance(state, InvalidState)]
    yield f"endpoint {stream.endpoint}: {len(states)} states, {len(invalid)} of them invalid"
    for number, state in enumerate(states, start=1):
        if isinstance(state, InvalidState):
            yield _defect(stream, number, state)
    if document.unprocessed_ids:
        yield (
            f"{len(document.unprocessed_ids)} ids are past server.max_states: not processed, "
            "not listed, to be sent again"
        )


def _defect(stream: Stream, number: int, state: InvalidState) -> str:
    fate = ""
    if stream.dead_letter_topic is None:
        fate = "; without a dead-letter topic it is logged and never acknowledged"
    return click.style(f"state {number}: {state.reason}: {printable(state.detail)}{fate}", fg="red")


def _title(conversion: Conversion, index: int) -> str:
    message = conversion.messages[index]
    dead = message.topic == conversion.stream.dead_letter_topic
    numbers = conversion.numbers[index] if conversion.numbers else ()
    whence = f"of state {', '.join(map(str, numbers))}" if numbers else "of the whole body"
    return click.style(
        f"{'dead letter' if dead else 'event'} {whence}", fg="red" if dead else "cyan", bold=True
    )


def _record(message: Message) -> Iterator[str]:
    yield table(
        [
            ("topic", message.topic),
            ("key", printable(message.key.decode())),
            ("partition", PARTITION),
            *(("header", printable(f"{n}: {value.decode()}")) for n, value in message.headers),
        ]
    )
    yield from _lines(orjson.dumps(orjson.loads(message.value), option=orjson.OPT_INDENT_2))


def _lines(text: bytes) -> Iterator[str]:
    return map(printable, text.decode().rstrip("\n").split("\n"))
