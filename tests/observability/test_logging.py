"""What is written to the log: one line each, no secrets, no floods."""

import io
import json
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import structlog

from bridge.observability import logging as logs
from bridge.observability.log_writer import LogWriter


class Written:
    """What has been written to standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def getvalue(self) -> str:
        return self._capsys.readouterr().err


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """What the log writes to; the process's own logging is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    clients = [logging.getLogger(name) for name in ("aiokafka", "aiokafka.conn")]
    client_levels = [client.level for client in clients]
    yield Written(capsys)
    for client, client_level in zip(clients, client_levels, strict=True):
        client.setLevel(client_level)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_requests_of_the_client_s_are_never_written(stderr: Written) -> None:
    """Its line at debug shows what it sends, and the login of PLAIN holds the password.

    Nor what a server that gives tokens answers.
    """
    logs.configure("debug", "json")
    logging.getLogger("aiokafka.conn").debug("Request to %s: %s", "kafka", "hunter2")
    logging.getLogger("httpcore2.http11").debug("answer: %s", [(b"Set-Cookie", b"hunter2")])
    logging.getLogger("aiokafka.client").debug("shown")
    assert [json.loads(line)["event"] for line in stderr.getvalue().splitlines()] == ["shown"]
    logs.configure("error", "json")
    logging.getLogger("aiokafka.conn").warning("less than was asked for")
    assert stderr.getvalue() == ""


def test_both_kinds_of_loggers_write_one_json_line_each(stderr: Written) -> None:
    logs.configure("info", "json")
    structlog.get_logger("ours").info("said", count=3)
    logging.getLogger("theirs").warning("said %s", "too")
    ours, theirs = (json.loads(line) for line in stderr.getvalue().splitlines())
    assert (ours["event"], ours["count"], ours["logger"]) == ("said", 3, "ours")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("said too", "warning", "theirs")
    assert ours["timestamp"].endswith("Z")


@pytest.mark.parametrize("library", ["aiokafka", "aiokafka.conn", "aiokafka.producer.sender"])
def test_the_client_repeats_nothing_that_we_say_unless_at_debug(
    stderr: Written, library: str
) -> None:
    """With the brokers away each of its modules says so, in words of its own."""
    logs.configure("info", "json")
    logging.getLogger(library).error("Unable connect to the broker")
    assert stderr.getvalue() == ""
    unexpected = RuntimeError("nobody expected this")
    logging.getLogger(library).error("Unexpected error in sender routine", exc_info=unexpected)
    assert "nobody expected this" in stderr.getvalue()
    logs.configure("debug", "json")
    logging.getLogger(library).error("Unable connect to the broker")
    assert "Unable connect" in stderr.getvalue()


def test_a_line_begins_with_when_how_bad_and_what(
    stderr: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way it takes: ours, another library's, and that of a request."""
    lines: list[bytes] = []
    writer = LogWriter(2, lambda _: None)
    monkeypatch.setattr(writer, "write_line", lines.append)
    logs.configure("info", "json")
    structlog.get_logger("ours").bind(endpoint="main").warning("said", count=3)
    logging.getLogger("theirs").warning("said %s", "too", extra={"count": 3})
    write_info = logs.straight(writer, "info", "json")
    assert write_info is not None
    write_info({"endpoint": "main", "event": "request", "logger": "ours"})
    for line in [*stderr.getvalue().splitlines(), *(line.decode() for line in lines)]:
        assert list(json.loads(line))[:3] == ["timestamp", "level", "event"], line


def test_a_line_that_goes_straight_is_the_one_that_structlog_writes(
    stderr: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line too long for the log is cut in either case."""
    lines: list[bytes] = []
    writer = LogWriter(2, lambda _: None)
    monkeypatch.setattr(writer, "write_line", lines.append)
    logs.configure("info", "json")
    write_info = logs.straight(writer, "info", "json")
    assert write_info is not None
    said: tuple[Mapping[str, Any], ...] = ({"count": 3, "seconds": 0.25}, {"text": "й" * 100_000})
    for fields in said:
        structlog.get_logger("ours").info("said", **fields)
        write_info({**fields, "event": "said", "logger": "ours"})

    theirs = stderr.getvalue().splitlines()
    ours = [line.decode().removesuffix("\n") for line in lines]
    assert [_timeless(line) for line in ours] == [_timeless(line) for line in theirs]


def _timeless(line: str) -> str:
    return re.sub(r"T\d\d:\d\d:[0-9.]+Z", "T", line)


@pytest.mark.parametrize(("level", "form"), [("warning", "json"), ("info", "console")])
def test_no_line_goes_straight_that_is_not_for_the_log(level: str, form: logs.Format) -> None:
    assert logs.straight(LogWriter(2, lambda _: None), level, form) is None
    assert logs.straight(None, "info", "json") is None


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_does_not_show_the_values_of_variables(
    stderr: Written, form: logs.Format
) -> None:
    logs.configure("info", form)
    secret = "t0ken" + "-in-a-variable"
    try:
        secret.index("another")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("it broke")
    written = stderr.getvalue()
    assert "ValueError: substring not found" in written
    assert secret not in written


def test_the_level_is_kept(stderr: Written) -> None:
    logs.configure("warning", "json")
    structlog.get_logger("ours").info("quiet")
    structlog.get_logger("ours").warning("loud")
    assert [json.loads(line)["event"] for line in stderr.getvalue().splitlines()] == ["loud"]


def record(name: str, line: int, text: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "file.py", line, text, (), None)


def test_a_library_that_repeats_itself_is_counted_and_not_written() -> None:
    now = [0.0]
    repeats = logs.LibraryRepeats(lambda: now[0])
    said = [record("aiokafka", 1, f"broker {n} is away") for n in range(40)]
    assert [repeats.filter(r) for r in said] == [True] + [False] * 39
    assert repeats.filter(record("aiokafka.client", 2, "something else"))
    now[0] = 10.1
    again = record("aiokafka", 1, "broker 7 is away")
    assert repeats.filter(again)
    assert again.getMessage() == "broker 7 is away (39 suppressed)"


def test_other_libraries_are_not_counted() -> None:
    repeats = logs.LibraryRepeats()
    assert all(repeats.filter(record("aiokafkaesque", 1, "another")) for _ in range(5))
    assert all(repeats.filter(record("bridge.gateway.webhook", 1, "document")) for _ in range(5))


@pytest.mark.parametrize("form", ["json", "console"])
def test_our_own_lines_name_their_logger_in_either_format(
    stderr: Written, form: logs.Format
) -> None:
    logs.configure("info", form)
    structlog.get_logger("ours").info("said", count=3)
    (line,) = stderr.getvalue().splitlines()
    assert "said" in line
    assert "ours" in line


def test_a_line_that_is_no_json_is_told_all_the_same(stderr: Written) -> None:
    logs.configure("info", "json")
    structlog.get_logger("ours").info("said", text="\udcff", number=1 << 70)
    line = json.loads(stderr.getvalue())
    assert "said" in line["event"]
    assert "udcff" in line["text"]


def test_our_own_lines_on_kafka_are_counted_and_not_written_without_end(stderr: Written) -> None:
    """A topic that refuses every record; other lines are not held back by it."""
    logs.configure("info", "json")
    kafka, ours = structlog.get_logger("bridge.kafka.publisher"), structlog.get_logger("bridge.x")
    for number in range(100):
        kafka.warning("batch failed", partition=number)
    kafka.warning("replacing the producer")
    for number in range(100):
        ours.info("request", number=number)
    events = [json.loads(line)["event"] for line in stderr.getvalue().splitlines()]
    assert events.count("batch failed") == logs.OWN_AT_ONCE
    assert events.count("replacing the producer") == 1
    assert events.count("request") == 100


def test_what_was_held_back_is_told_by_the_next_line() -> None:
    now = [0.0]
    repeats = logs.OwnRepeats(clock=lambda: now[0])

    def said() -> int | None:
        logger = structlog.BytesLogger(io.BytesIO(), name="bridge.kafka.publisher")
        try:
            return repeats(logger, "warning", {"event": "batch failed"}).get("suppressed", 0)  # type: ignore[no-any-return]
        except structlog.DropEvent:
            return None

    assert [said() for _ in range(logs.OWN_AT_ONCE + 7)] == [0] * logs.OWN_AT_ONCE + [None] * 7
    now[0] = 10.5
    assert said() == 7
