"""How the program logs: structlog and the standard library through one writer to stderr.

Tracebacks come without the values of variables: a request's head holds secrets.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO, Literal, cast

import orjson
import structlog
from structlog.typing import Processor

from bridge.clip import clipped
from bridge.observability.log_writer import LogWriter
from bridge.ratelimit import Repeats

log = structlog.get_logger(__name__)

Format = Literal["json", "console"]

LIBRARIES = ("aiokafka", "asyncio", "uvicorn")  # that say the same of each of many requests
LIBRARY_PER_SECOND = 0.1  # of each line of their code
OWN_REPEATING = "bridge.kafka."  # ours that do so: webhook.py watches over its own lines
OWN_PER_SECOND = 0.1
OWN_AT_ONCE = 20

MAX_LINE_BYTES = 16 * 1024
# Characters of each text, and entries of each list, in a line that is longer: as many as fit.
CLIPPED_TO = (8192, 1024, 64)
FIRST = ("timestamp", "level", "event", "logger")  # what is read first, and kept of every line


def configure(level: str, form: Format) -> LogWriter | None:
    """Send all logs of this process to stderr, one line each (tracebacks included in JSON).

    Returns what writes them, or None if this process itself collects them.

    Our own lines do not pass through the standard library, which would cost a small request a
    sixth of its time; they look the same.
    """
    writer, file, handler = _outlet()
    _Logger.filter_at(level)
    structlog.configure(
        processors=[OwnRepeats(), *_own_processors(form)],
        logger_factory=structlog.BytesLoggerFactory(file),
        wrapper_class=_Logger,
        # For speed; a command for people needs none, and leaves the process as it was.
        cache_logger_on_first_use=form == "json",
    )
    handler.setFormatter(_formatter(form))
    logging.basicConfig(handlers=[handler], force=True)
    _set_library_levels(level)
    handler.addFilter(_is_news)
    # With the brokers down aiokafka writes some forty lines a second.
    handler.addFilter(LibraryRepeats())
    return writer


def reconfigure(level: str, form: Format) -> None:
    """Change what `configure` has set, for every logger that there is; rates go on as they were."""
    _Logger.filter_at(level)
    # structlog's loggers share this list, and keep it once they are in use.
    structlog.get_config()["processors"][1:] = _own_processors(form)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_formatter(form))
    _set_library_levels(level)


class _Logger(structlog.make_filtering_bound_logger("info")):  # type: ignore[misc]
    """Of the class that structlog has for a level, which can be changed: loggers keep theirs."""

    @classmethod
    def filter_at(cls, level: str) -> None:
        cls.__bases__ = (structlog.make_filtering_bound_logger(level),)


_SHARED: list[Processor] = [
    structlog.stdlib.add_logger_name,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def _own_processors(form: Format) -> list[Processor]:
    return [_json_line] if form == "json" else [*_SHARED, *_renderers(form), _encoded]


def _formatter(form: Format) -> logging.Formatter:
    """What makes a line of one of the standard library's records."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *_renderers(form),
        ],
    )


def _set_library_levels(level: str) -> None:
    logging.root.setLevel(level.upper())
    # Starts, stops and requests of our own are ours to tell.
    for library in ("uvicorn", "httpx2", "httpcore2"):  # the last writes cookies, too
        logging.getLogger(library).setLevel("WARNING")
    logging.getLogger("aiokafka").setLevel(logging.root.level)  # whatever a command had set before
    # At debug it writes its requests, and the one that logs in holds the password.
    logging.getLogger("aiokafka.conn").setLevel(max(logging.INFO, logging.root.level))


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line is not aiokafka's on a fault that we tell ourselves, with what to do.

    What it did not expect has a traceback.
    """
    is_aiokafka = record.name.partition(".")[0] == "aiokafka"
    return not is_aiokafka or bool(record.exc_info) or logging.root.level <= logging.DEBUG


def straight(
    writer: LogWriter | None, level: str, form: Format
) -> Callable[[dict[str, Any]], None] | None:
    """Writes lines of level info past structlog, which takes twice as long for the same line.

    A line has its `event` and `logger`. None if there are to be none, or they are for people.
    """
    if writer is None or form != "json" or logging.getLevelName(level.upper()) > logging.INFO:
        return None
    write_line = writer.write_line

    def write(line: dict[str, Any]) -> None:
        write_line(_dumps(_ordered("info", line)) + b"\n")

    return write


def _outlet() -> tuple[LogWriter | None, BinaryIO, logging.Handler]:
    """Standard error, for our own lines and for the standard library's."""
    try:
        writer = LogWriter(sys.stderr.fileno(), _tell_of_dropped)
    except OSError:  # no descriptor: somebody in this process collects it
        return None, sys.stderr.buffer, logging.StreamHandler(sys.stderr)
    return writer, cast("BinaryIO", writer), _Lines(writer)


def _tell_of_dropped(lines: int) -> None:
    log.warning("log lines dropped", lines=lines)


class _Lines(logging.Handler):
    """Brings the standard library's records to the same writer, the last of them at the end."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            self._writer.write(self.format(record).encode(errors="backslashreplace") + b"\n")
            self._writer.flush()
        except Exception:  # noqa: BLE001 -- as every handler has it
            self.handleError(record)

    def flush(self) -> None:
        """Have what was written go out: at once if no loop is running."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is left, of our own lines too; `logging.shutdown` comes here."""
        self._writer.end()
        super().close()


class LibraryRepeats(logging.Filter):
    """Lets each line of the libraries' code log once in ten seconds, with a count of the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._repeats = Repeats(per_second=LIBRARY_PER_SECOND, burst=1, clock=clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written; it then counts those that were not."""
        if record.name.split(".", 1)[0] not in LIBRARIES:
            return True
        held_back = self._repeats.held_back(f"{record.pathname}:{record.lineno}")
        if held_back:
            record.msg, record.args = f"{record.getMessage()} ({held_back} suppressed)", ()
        return held_back is not None


class OwnRepeats:
    """Lets our own lines on Kafka through at a bounded rate, each kind with a count of the others.

    A topic that refuses every record has the producer replaced with each of them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._repeats = Repeats(per_second=OWN_PER_SECOND, burst=OWN_AT_ONCE, clock=clock)

    def __call__(self, logger: Any, _: str, line: structlog.typing.EventDict) -> Any:
        """The line, or structlog's word that there is to be none."""
        if not logger.name.startswith(OWN_REPEATING):
            return line
        held_back = self._repeats.held_back(line["event"])
        if held_back is None:
            raise structlog.DropEvent
        if held_back:
            line["suppressed"] = held_back
        return line


def _renderers(form: Format) -> list[Processor]:
    """What makes a line of text of an event."""
    if form == "json":
        return [
            structlog.processors.format_exc_info,
            lambda _, __, line: {name: line[name] for name in FIRST} | dict(line),
            structlog.processors.JSONRenderer(serializer=lambda line, **_: _dumps(line).decode()),
        ]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
        _short,
    ]


def _json_line(logger: Any, method: str, line: structlog.typing.EventDict) -> bytes:
    """What the processors for the standard library's records do, in one step: half the time."""
    if "exc_info" in line:
        line = structlog.processors.format_exc_info(logger, method, line)
    line["logger"] = logger.name
    return _dumps(_ordered(method, line))


def _ordered(level: str, line: Mapping[str, Any]) -> dict[str, Any]:
    """The line with what is read first at its beginning: cheaply, since each request has one."""
    return {"timestamp": datetime.now(UTC), "level": level, "event": line["event"], **line}


def _dumps(line: Mapping[str, Any]) -> bytes:
    """One line in JSON, no longer than a line may be, whatever it was to say."""
    written = _written(line)
    for limit in CLIPPED_TO:
        if len(written) <= MAX_LINE_BYTES:
            return written
        written = _written({name: _clipped(value, limit) for name, value in line.items()})
    if len(written) <= MAX_LINE_BYTES:
        return written
    kept = {name: _clipped(line[name], CLIPPED_TO[-1]) for name in FIRST if name in line}
    return _written(kept | {"clipped": True})


def _written(line: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, str, orjson.OPT_UTC_Z)
    except TypeError:  # text that is none, a number beyond 64 bits: better told than missing
        return orjson.dumps({name: ascii(value) for name, value in line.items()})


def _clipped(value: Any, limit: int) -> Any:
    if value is None or isinstance(value, (bool, float, datetime)):
        return value
    if isinstance(value, Mapping):
        items = islice(value.items(), limit)
        return {clipped(str(name), limit): _clipped(each, limit) for name, each in items}
    if isinstance(value, (list, tuple)):
        return [_clipped(each, limit) for each in value[:limit]]
    if isinstance(value, int) and value.bit_length() <= 64:  # noqa: PLR2004 -- as JSON has them
        return value
    return clipped(str(value), limit)


def _short(_: object, __: str, line: Any) -> str:
    """A line for people, with what follows it of a traceback."""
    text = str(line)
    raw = text.encode(errors="backslashreplace")
    if len(raw) <= MAX_LINE_BYTES:
        return text
    kept = raw[: MAX_LINE_BYTES - 64].decode(errors="ignore")
    return f"{kept}… ({len(text)} characters)"


def _encoded(_: object, __: str, line: Any) -> bytes:
    return str(line).encode(errors="backslashreplace")
