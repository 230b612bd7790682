"""How the program logs: structlog and the standard library through one sink to stderr.

Tracebacks come without the values of variables: a request's head holds secrets.
"""

import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO, Literal, cast

import orjson
import structlog
from structlog.typing import Processor

from bridge.clip import clipped
from bridge.observability.log_writer import LogWriter
from bridge.ratelimit import Repeats as KindLimits

log = structlog.get_logger(__name__)

Format = Literal["json", "console"]

LIBRARIES = ("aiokafka", "asyncio", "uvicorn")  # that say the same of each of many requests
OWN_REPEATING = "bridge.kafka."  # ours that do so: webhook.py watches over its own lines
OWN_PER_SECOND = 0.1
OWN_AT_ONCE = 20

MAX_LINE_BYTES = 16 * 1024
# Characters of each text, and entries of each list, in a line that is longer: as many as fit.
CLIPPED_TO = (8192, 1024, 64)
KEPT_ALWAYS = ("event", "logger", "level", "timestamp")


def configure(level: str, form: Format) -> LogWriter | None:
    """Send all logs of this process to stderr, one line each (tracebacks included in JSON).

    Returns what writes them, or None if this process itself collects them.

    Our own lines do not pass through the standard library, which would cost a small request a
    sixth of its time; they look the same.
    """
    level = level.upper()
    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers = _renderers(form)
    ours = [_json_line] if form == "json" else [*shared, *renderers, _as_bytes]
    writer, file, handler = _outlet()
    structlog.configure(
        processors=[OwnRepeats(), *ours],
        logger_factory=structlog.BytesLoggerFactory(file),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                *shared,
                structlog.stdlib.ExtraAdder(),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderers,
                _as_text,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # Its start and stop are ours to tell.
    logging.getLogger("uvicorn").setLevel("WARNING")
    # At debug it writes its requests, and the one that logs in holds the password.
    logging.getLogger("aiokafka.conn").setLevel(max(logging.INFO, logging.root.level))
    # With the brokers down aiokafka writes some forty lines a second.
    for library in LIBRARIES:
        handler.addFilter(Repeats(library))
    return writer


def _outlet() -> tuple[LogWriter | None, BinaryIO, logging.Handler]:
    """Standard error, for our own lines and for the standard library's."""
    try:
        sink = LogWriter(sys.stderr.fileno(), _tell_of_dropped)
    except OSError:  # no descriptor: somebody in this process collects it
        return None, sys.stderr.buffer, logging.StreamHandler(sys.stderr)
    return sink, cast("BinaryIO", sink), _Lines(sink)


def _tell_of_dropped(lines: int) -> None:
    log.warning("log lines dropped", lines=lines)


class _Lines(logging.Handler):
    """Brings the records of the standard library to the same sink, the last of them at the end."""

    def __init__(self, sink: LogWriter) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            self._sink.write(self.format(record).encode(errors="backslashreplace") + b"\n")
            self._sink.flush()
        except Exception:  # noqa: BLE001 -- as every handler has it
            self.handleError(record)

    def flush(self) -> None:
        """Have what was written go out: at once if no loop is running."""
        self._sink.flush()

    def close(self) -> None:
        """Write what is left, of our own lines too; `logging.shutdown` comes here."""
        self._sink.end()
        super().close()


class Repeats(logging.Filter):
    """Lets each message of a library through once per `seconds`, with a count of the others.

    Messages are the same if they come from the same line of the library.
    """

    def __init__(
        self,
        library: str,
        *,
        seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._library = library
        self._seconds = seconds
        self._clock = clock
        self._passed_at: dict[str, float] = {}
        self._held_back: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written; it then counts those that were not."""
        if record.name.split(".", 1)[0] != self._library:
            return True
        place, now = f"{record.pathname}:{record.lineno}", self._clock()
        if now - self._passed_at.get(place, -math.inf) < self._seconds:
            self._held_back[place] += 1
            return False
        self._passed_at[place] = now
        held_back = self._held_back.pop(place, 0)
        if held_back:
            record.msg, record.args = f"{record.getMessage()} ({held_back} suppressed)", ()
        return True


class OwnRepeats:
    """Lets our own lines on Kafka through at a bounded rate, each kind with a count of the others.

    A topic that refuses every record has the producer replaced with each of them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._kinds = KindLimits(per_second=OWN_PER_SECOND, burst=OWN_AT_ONCE, clock=clock)

    def __call__(self, logger: Any, _: str, line: structlog.typing.EventDict) -> Any:
        """The line, or structlog's word that there is to be none."""
        if not logger.name.startswith(OWN_REPEATING):
            return line
        held_back = self._kinds.held_back(line["event"])
        if held_back is None:
            raise structlog.DropEvent
        if held_back:
            line["suppressed"] = held_back
        return line


def _renderers(form: Format) -> list[Processor]:
    if form == "console":
        return [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_dumps),
    ]


def _json_line(logger: Any, method: str, line: structlog.typing.EventDict) -> bytes:
    """What the processors for the standard library's records do, in one step: half the time."""
    if "exc_info" in line:
        line = structlog.processors.format_exc_info(logger, method, line)
    line["logger"] = logger.name
    line["level"] = method
    line["timestamp"] = datetime.now(UTC)
    return _dumps(line)


def _dumps(line: Mapping[str, Any], **options: object) -> bytes:
    """One line in JSON, no longer than a line may be, whatever it was to say."""
    del options  # the standard library's, which the encoder does not know
    written = _written(line)
    for limit in CLIPPED_TO:
        if len(written) <= MAX_LINE_BYTES:
            return written
        written = _written({name: _clipped(value, limit) for name, value in line.items()})
    if len(written) <= MAX_LINE_BYTES:
        return written
    kept = {name: _clipped(line[name], CLIPPED_TO[-1]) for name in KEPT_ALWAYS if name in line}
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


def _as_text(_: object, __: str, line: Any) -> str:
    return line.decode() if isinstance(line, bytes) else _short(str(line))


def _as_bytes(_: object, __: str, line: Any) -> bytes:
    if isinstance(line, bytes):
        return line
    return _short(str(line)).encode(errors="backslashreplace")


def _short(text: str) -> str:
    """A line for people, with what follows it of a traceback."""
    raw = text.encode(errors="backslashreplace")
    if len(raw) <= MAX_LINE_BYTES:
        return text
    kept = raw[: MAX_LINE_BYTES - 64].decode(errors="ignore")
    return f"{kept}… ({len(text)} characters)"
