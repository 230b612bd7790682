"""However long a value from outside is: no log line, span, metric or refusal grows with it."""

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import pytest
import structlog
from aiokafka.errors import KafkaError
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bridge.clip import (
    BEGINNING_CHARACTERS,
    DETAIL_CHARACTERS,
    ID_CHARACTERS,
    beginning,
    clipped,
    reason_of,
)
from bridge.config.settings import Kafka
from bridge.errors import DocumentError
from bridge.gateway.app import Health, public_app
from bridge.inspector.store import KEPT_TEXT, Store
from bridge.kafka import Publisher, Supervisor
from bridge.kafka.supervisor import Timing
from bridge.model import Message, Outcome, Result
from bridge.observability import logging as logs
from bridge.observability.metrics import Metrics
from bridge.observability.tracing.spans import Tracing
from bridge.pipeline import OnTooLarge
from tests.support.asgi import request
from tests.support.fake_kafka import FakeProducer, durable, message
from tests.support.settings import settings

LONG = 100_000  # characters: six times a line
MARK_CHARACTERS = 40
FIELD_CHARACTERS = DETAIL_CHARACTERS + 2 * MARK_CHARACTERS  # with a few words before it
REFUSAL_BYTES = 8 * FIELD_CHARACTERS
VALUES = {
    "letters": "x" * LONG,
    "emoji": "\U0001f600" * LONG,
    "quotes": '"\\' * (LONG // 2),
    "line ends": "a\r\n\t" * (LONG // 4),
    "markup": "<&>" * (LONG // 3),
}


def test_what_is_short_enough_stays_as_it_is() -> None:
    assert clipped("", 3) == ""
    assert clipped("abc", 3) == "abc"


def test_what_is_clipped_says_so_and_how_long_it_was() -> None:
    assert clipped("abcdefghij", 3) == "abc… (10 characters)"


def test_the_beginning_of_a_body_is_printable_and_short() -> None:
    assert beginning(b"<error>\x1b[2J\n\xd0\x87\xff</error>") == "<error>\\x1b[2J\\nЇ\\xff</error>"
    for value in VALUES.values():
        assert len(beginning(value.encode())) == BEGINNING_CHARACTERS + len("…")


def test_an_error_says_its_text_or_else_its_name_and_no_more_than_is_read() -> None:
    assert reason_of(ValueError("no")) == "no"
    assert reason_of(TimeoutError()) == "TimeoutError"
    assert len(reason_of(ValueError("x" * LONG))) <= FIELD_CHARACTERS
    assert len(str(DocumentError("not_xml", "x" * LONG))) <= FIELD_CHARACTERS


# --- a sweep: every place where a value enters, with every kind of value ------------------


class Sent(NamedTuple):
    """A request: its body, and what else `request` is told."""

    body: bytes
    options: dict[str, Any] = {}  # noqa: RUF012 -- never changed


def _xml(inner: str, head: str = "") -> Sent:
    return Sent(f"{head}<response>{inner}</response>".encode())


def _state(**attributes: str) -> Sent:
    given = {"id_sms": "1", "time": "2011-01-01 12:57:46"} | attributes
    text = given.pop("text", "read")
    names = "".join(f" {name}={_quoted(value)}" for name, value in given.items())
    return _xml(f"<state{names}>{escape(text)}</state>")


def _quoted(value: str) -> str:
    return quoteattr(value, {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})


def _header(name: str, value: str) -> Sent:
    """As a server would let it pass: a header has no line ends, and a head is 64 KiB at most."""
    text = value.encode("ascii", "xmlcharrefreplace").decode().translate({10: " ", 13: " "})
    return Sent(b"<response/>", {"headers": {name: text[:60_000]}})


def _name(value: str) -> str:
    """What of it can be a name in XML."""
    return "n" + "".join(c for c in value if c.isalpha() or ord(c) > 0xFFFF).replace(
        "\U0001f600", "\U00010000"
    )


PLACES: Mapping[str, Callable[[str], Sent]] = {
    "id": lambda v: _state(id_sms=v),
    "a hundred ids": lambda v: _xml(
        "".join(f"<state id_sms={_quoted(f'{n}{v[:1000]}')}>read</state>" for n in range(150))
    ),
    "time": lambda v: _state(time=v),
    "status": lambda v: _state(text=v),
    "channel": lambda v: _state(sms=v),
    "attribute": lambda v: _state(other=v),
    "attribute's name": lambda v: _xml(f'<state id_sms="1" {_name(v)}="v">read</state>'),
    "child element": lambda v: _xml(f'<state id_sms="1"><{_name(v)}/></state>'),
    "element": lambda v: _xml(f"<{_name(v)}/>"),
    "root": lambda v: Sent(f"<{_name(v)}/>".encode()),
    "text": lambda v: _xml(escape(v)),
    "no XML": lambda v: Sent(v.encode()),
    "entity": lambda v: _xml(f"&{_name(v)};"),
    "declared encoding": lambda v: _xml("", f'<?xml version="1.0" encoding="{_name(v)}"?>'),
    "encoding in UTF-16": lambda v: Sent(
        f'<?xml version="1.0" encoding="{_name(v)}"?><response/>'.encode("utf-16")
    ),
    "document type": lambda v: Sent(f"<!DOCTYPE {_name(v)}><response/>".encode()),
    "instruction": lambda v: _xml(f"<?{_name(v)} ?><broken>"),
    "method": lambda v: Sent(b"", {"method": v}),
    "path": lambda v: Sent(b"", {"path": f"/{v}"}),
    "query": lambda v: Sent(b"<response/>", {"query": v}),
    **{
        name: lambda v, name=name: _header(name, v)  # type: ignore[misc]
        for name in (
            "x-request-id",
            "x-forwarded-for",
            "content-encoding",
            "content-type",
            "authorization",
            "traceparent",
            "tracestate",
            "user-agent",
            "expect",
        )
    },
}


class Answering:
    """In place of Kafka: what it answers, or raises, may be as long as anything else."""

    def __init__(self, answer: Outcome | BaseException) -> None:
        self._answer = answer

    async def publish(
        self,
        messages: Sequence[Message],
        deadline: float,
        on_too_large: OnTooLarge = lambda _message, _outcome: None,
    ) -> list[Outcome]:
        del deadline, on_too_large
        if isinstance(self._answer, BaseException):
            raise self._answer
        return [self._answer] * len(messages)


def _answers(value: str) -> Iterator[Outcome | BaseException]:
    yield Outcome(Result.PUBLISHED, 0, 0)
    yield Outcome(Result.FAILED, error="refused")
    yield Outcome(Result.FAILED, error=value, too_large=True)
    yield RuntimeError(value)
    yield asyncio.CancelledError(value)


class Watched:
    """The public application with all that looks on: the log as written, spans, metrics, pages."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.spans = InMemorySpanExporter()
        self.store = Store()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self._tracing = Tracing(provider, message_ids=True)
        self._settings = settings(server={"trusted_proxies": ["127.0.0.1"]})

    async def answer(self, sent: Sent, kafka: Outcome | BaseException) -> None:
        app = public_app(
            self._settings,
            Answering(kafka),
            self.metrics,
            Health(lambda: None),
            tracing=self._tracing,
            observer=self.store.add,
        )
        reply = await request(app, sent.body, **sent.options)
        assert reply is not None
        if reply.headers["content-type"] == "application/problem+xml":
            assert len(reply.body) < REFUSAL_BYTES

    def series(self) -> set[bytes]:
        """Every series that there is, without its value."""
        lines = self.metrics.exposition().splitlines()
        return {line.rsplit(b" ", 1)[0] for line in lines if line.startswith(b"sms_bridge")}

    def attributes(self) -> Iterator[str]:
        """Every text that left in a span."""
        for span in self.spans.get_finished_spans():
            for value in (span.attributes or {}).values():
                yield from (str(v) for v in (value if isinstance(value, tuple) else (value,)))
            yield from (span.name, span.status.description or "")


@pytest.fixture
def written() -> Iterator[io.BytesIO]:
    """Where the log writes to, in JSON; loggers of modules are as before afterwards."""
    file = io.BytesIO()
    structlog.configure(
        processors=[logs._json_line], logger_factory=structlog.BytesLoggerFactory(file)
    )
    yield file
    structlog.reset_defaults()


@pytest.mark.parametrize("place", PLACES)
async def test_nothing_that_looks_on_grows_with_what_is_sent(
    place: str, written: io.BytesIO
) -> None:
    watched = Watched()
    await watched.answer(_state(), Outcome(Result.PUBLISHED, 0, 0))
    before = watched.series()
    for value in VALUES.values():
        for kafka in _answers(value):
            await watched.answer(PLACES[place](value), kafka)

    lines = written.getvalue().splitlines()
    assert lines
    for line in lines:
        assert len(line) <= logs.MAX_LINE_BYTES
        _assert_short(json.loads(line))
    assert watched.series() == before
    assert max(map(len, watched.attributes())) <= ID_CHARACTERS + MARK_CHARACTERS
    for entry in watched.store.entries():
        for row in entry.rows:
            assert max(map(len, (row.id_sms, row.detail, row.error))) <= KEPT_TEXT


def _assert_short(line: dict[str, Any]) -> None:
    """Each value was clipped where it entered; the bound on lines is for what nobody foresaw."""
    for name, value in line.items():
        if name not in {"exception", "errors"}:  # what the stand-in for Kafka says is not clipped
            for text in value if isinstance(value, list) else [value]:
                assert len(str(text)) <= FIELD_CHARACTERS, name


async def test_the_ids_that_are_not_listed_are_clipped_each(written: io.BytesIO) -> None:
    refused = Outcome(Result.FAILED, error="refused")
    await Watched().answer(PLACES["id"](VALUES["letters"]), refused)
    line = json.loads(written.getvalue())
    assert line["unlisted_ids"] == [f"{'x' * ID_CHARACTERS}… ({LONG} characters)"]


async def test_what_a_broker_says_is_clipped_before_it_is_told_to_anybody() -> None:
    """Why a record failed, and why there is no connection: in the log and at `/readyz`."""
    said = KafkaError(VALUES["letters"])
    reasons: list[str] = []

    async def connect(_: Kafka) -> FakeProducer:
        reasons.append(supervisor.not_ready_because)
        if len(reasons) == 1:
            raise said
        return FakeProducer(lambda *_: said)

    settings = Kafka(dead_letter_topic=None, topic="status")
    timing = Timing(watch=0.01, backoff=(0.001, 0.01))
    supervisor = Supervisor(
        settings, ["status"], connect=connect, describe_configs=durable, timing=timing
    )
    publisher = Publisher(settings, supervisor)
    supervisor.start()
    try:
        deadline = asyncio.get_running_loop().time() + 30
        (outcome,) = await publisher.publish([message(b"x")], deadline)
    finally:
        await publisher.stop()
        await supervisor.stop(1)
    assert reasons[1].startswith("cannot reach Kafka: ")
    assert 0 < len(reasons[1]) <= FIELD_CHARACTERS
    assert 0 < len(outcome.error or "") <= FIELD_CHARACTERS


# --- what nobody foresaw ------------------------------------------------------------------


@pytest.fixture
def own_logging() -> Iterator[None]:
    """The process's own logging is as before after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_line_of_any_logger_is_longer_than_a_line_may_be(
    capsys: pytest.CaptureFixture[str],
    own_logging: None,
    form: logs.Format,
    value: str,
) -> None:
    del own_logging
    logs.configure("info", form)
    ours, theirs = structlog.get_logger("ours"), logging.getLogger("theirs")
    fields: list[Any] = [value, [value] * 300, {value: value}, ["x" * 60] * 5000, value.encode()]
    for field in fields:
        ours.info("said", field=field)
    ours.info("said", **{f"n{number}": value for number in range(300)})
    ours.info(value)
    theirs.warning("said %s", value)
    try:
        _raise(value)
    except ValueError:
        theirs.exception("it broke")
        ours.exception("it broke")
    shown = capsys.readouterr().err
    if form == "json":
        lines = shown.splitlines()
        assert len(lines) == len(fields) + 5
        for line in lines:
            assert len(line.encode()) <= logs.MAX_LINE_BYTES
            assert {"event", "logger", "level", "timestamp"} <= json.loads(line).keys()
        assert all("Traceback" in json.loads(line)["exception"] for line in lines[-2:])
    else:
        assert len(shown.encode()) <= (len(fields) + 5) * (logs.MAX_LINE_BYTES + 1)
        assert shown.count("Traceback") == 2


def _raise(text: str) -> None:
    raise ValueError(text)
