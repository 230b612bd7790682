"""The `convert` command: a dry run of the pipeline. No HTTP and no Kafka."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import click
import orjson

from bridge.ack import answer, problem
from bridge.cli.common import DEFAULT_CONFIG, EXIT_FAILED, load_settings, named_route
from bridge.clip import printable
from bridge.config.settings import Server, Settings
from bridge.console import table
from bridge.errors import DocumentError
from bridge.model import Form, InvalidState, Message, Route
from bridge.parse import form_of, is_blank
from bridge.pipeline import DryRun, Pipeline, Prepared, prepare

PARTITION = "murmur2 of the key, modulo the topic's number of partitions (as in Java)"
NO_DEADLINE = float("inf")


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="SMS_BRIDGE_CONFIG",
    help=f"Configuration file.  [default: $SMS_BRIDGE_CONFIG, or {DEFAULT_CONFIG} if it exists, "
    "or else an example]",
)
@click.option("--endpoint", help="Endpoint that the body was posted to.  [default: the first]")
def convert(file: BinaryIO, config_file: Path | None, endpoint: str | None) -> None:
    """Show the events and the answer of a body.

    A dry run: nothing is sent. FILE is the body of a request, or - for standard input.
    """
    settings = _settings(config_file)
    route = named_route(settings, endpoint)
    conversion = dry_run(file.read(), route, settings.server, datetime.now(UTC))
    for line in lines(conversion):
        click.echo(line)
    if conversion.error is not None:
        line = f":{conversion.error.line}" if conversion.error.line else ""
        click.echo(f"{file.name}{line}: {conversion.error.reason}: {conversion.error}", err=True)
        sys.exit(EXIT_FAILED)


def _settings(config_file: Path | None) -> Settings:
    if config_file is None and DEFAULT_CONFIG.exists():
        config_file = DEFAULT_CONFIG
    if config_file is not None:
        return load_settings(config_file)
    click.echo("no configuration: taking an example", err=True)
    return example_settings()


def example_settings() -> Settings:
    """A configuration of the examples that the required settings come with."""
    fields = Settings.model_fields
    return Settings.model_validate(
        {name: field.examples[0] for name, field in fields.items() if field.examples}
    )


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a body becomes while Kafka accepts everything.

    `numbers` are, of each message, the states it stands for, counted from 1. `error` is set
    if the body is not accepted; its dead letter then is the only message, if any.
    """

    route: Route
    status: HTTPStatus
    answer: bytes
    messages: tuple[Message, ...] = ()
    numbers: tuple[tuple[int, ...], ...] = ()
    prepared: Prepared | None = None
    error: DocumentError | None = None


def dry_run(body: bytes, route: Route, server: Server, received_at: datetime) -> Conversion:
    """Take a body through the pipeline; `received_at` is in UTC."""
    if len(body) > server.max_body_bytes:
        what = f"the body is over {server.max_body_bytes} bytes"
        error = DocumentError("too_large", what)
        return _problem(route, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error)
    if is_blank(body):
        return _problem(route, HTTPStatus.BAD_REQUEST, DocumentError("empty", "the body is empty"))
    form = form_of(body)
    published: list[Message] = []
    pipeline = Pipeline(DryRun(published.append))
    try:
        prepared = prepare(route, body, received_at, max_states=server.max_states)
    except DocumentError as exc:
        letter = pipeline.publish_dead_letter(route, exc, body, received_at, NO_DEADLINE)
        asyncio.run(letter)
        return _problem(route, HTTPStatus.BAD_REQUEST, exc, tuple(published), form)
    receipt = asyncio.run(pipeline.accept(route, prepared, received_at, NO_DEADLINE))
    return Conversion(
        route=route,
        status=HTTPStatus.OK,
        answer=answer(receipt.listed, form),
        messages=tuple(published),
        numbers=_numbers(prepared, published),
        prepared=prepared,
    )


def _numbers(prepared: Prepared, published: list[Message]) -> tuple[tuple[int, ...], ...]:
    """The states that each message stands for: identical ones are one event."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for number, item in enumerate(prepared.items, start=1):
        message = item.message
        if message is not None:
            numbers.setdefault((message.topic, message.event_id), []).append(number)
    return tuple(tuple(numbers[message.topic, message.event_id]) for message in published)


def _problem(
    route: Route,
    status: HTTPStatus,
    error: DocumentError,
    messages: tuple[Message, ...] = (),
    form: Form = Form.XML,
) -> Conversion:
    body = problem(status, status.phrase, str(error), form)
    return Conversion(route, status, body, messages, error=error)


# --- for people --------------------------------------------------------------------------


def lines(conversion: Conversion) -> Iterator[str]:
    """The conversion as text, a few lines at a time."""
    if conversion.prepared is not None:
        yield from _summary(conversion.route, conversion.prepared)
    for index, message in enumerate(conversion.messages):
        yield ""
        yield _title(conversion, index)
        yield from _record(message)
    yield ""
    status = conversion.status
    colour = "green" if status is HTTPStatus.OK else "red"
    yield click.style(f"answer: {status.value} {status.phrase}", fg=colour, bold=True)
    yield from _lines(conversion.answer)


def _summary(route: Route, prepared: Prepared) -> Iterator[str]:
    states = [item.state for item in prepared.items]
    invalid = [n for n, state in enumerate(states, start=1) if isinstance(state, InvalidState)]
    yield f"endpoint {route.endpoint}: {len(states)} states, {len(invalid)} of them invalid"
    for number, state in enumerate(states, start=1):
        if isinstance(state, InvalidState):
            yield _defect(route, number, state)
    if prepared.unprocessed_ids:
        yield (
            f"{len(prepared.unprocessed_ids)} ids are past server.max_states: not processed, "
            "not listed, to be sent again"
        )


def _defect(route: Route, number: int, state: InvalidState) -> str:
    then = ""
    if route.dead_letter_topic is None:
        then = "; without a dead-letter topic it is logged and never acknowledged"
    return click.style(f"state {number}: {state.reason}: {printable(state.detail)}{then}", fg="red")


def _title(conversion: Conversion, index: int) -> str:
    message = conversion.messages[index]
    dead = message.topic == conversion.route.dead_letter_topic
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
