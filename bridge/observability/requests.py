"""One request and what became of it, and those who look on: log and metrics. They decide nothing.

An observer is called once, when the answer is known and before it is sent. Whatever it does, the
answer stands as it is.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Protocol

import orjson
import structlog

from bridge.clip import ID_CHARACTERS, beginning, clipped, printable
from bridge.errors import DocumentError
from bridge.model import MAX_LISTED_CHARACTERS, Form, Outcome, Result, Trace
from bridge.observability.metrics import EndpointMetrics
from bridge.observability.redelivery import Redelivery
from bridge.pipeline import Prepared, Receipt
from bridge.ratelimit import Repeats

log = structlog.get_logger(__name__)

MAX_IDS_BYTES = 4 * 1024  # in one line, as JSON has them: a traceback finds room beside them
PATH_CHARACTERS = 200  # of one that no endpoint has
LINES_PER_SECOND = 0.1  # of requests that are refused for one reason
LINES_AT_ONCE = 5


_NEVER = datetime.min.replace(tzinfo=UTC)


class Disposition(Enum):
    """What was done with a request; log level and metrics follow from it."""

    NOT_FOUND = "not_found"
    METHOD = "method"  # another one than POST
    ADDRESS = "address"  # it may not post
    CREDENTIALS = "credentials"  # wrong ones, or none
    OVERLOADED = "overloaded"  # too much was in flight
    NO_LENGTH = "no_length"
    COMPRESSED = "compressed"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TOO_SLOW = "body_too_slow"
    MALFORMED = "malformed"  # its body's chunks cannot be read
    EMPTY = "empty"  # it has no body
    LEFT = "left"  # the client left before the end of its body
    STOPPING = "stopping"  # the gateway stopped before it was done
    FAULT = "fault"  # the program failed on it
    UNREADABLE = "unreadable"  # its body is no document of the provider
    LATE = "late"  # its document could not be read in time
    READ = "read"  # its document was read: `receipt` says what became of each state


_DONE = Disposition.READ
_READ = (_DONE, Disposition.UNREADABLE, Disposition.LATE)  # no set: members hash in Python
_OVERLOADED = (Disposition.OVERLOADED, Disposition.LATE)
FOREIGN = "foreign"  # its document holds no state, but something else
# Reasons for which nothing of a request of an endpoint is an event, beside those of its content.
REFUSALS = (
    *(
        disposition.value
        for disposition in Disposition
        if disposition not in {Disposition.NOT_FOUND, Disposition.UNREADABLE, Disposition.READ}
    ),
    FOREIGN,
)


class Span(Protocol):
    """A request's span, as tracing.spans has it."""

    trace: Trace
    trace_id: str

    def end(self) -> None:
        """End it, whatever has happened."""
        ...


@dataclass(slots=True)
class Request:
    """One request, from its head to its answer; it goes with its last observer.

    `find_client` tells who sent it, through the proxies that are trusted: asked for only where
    somebody wants to know. `credentials` says what was wrong with them, if that was it ("wrong",
    "missing"), `coding` names the one that its body is compressed with, and `detail` what cannot be
    read of the body's chunks. `prepared` is its document, `receipt` what became of it. `seconds`
    run from its head to its answer, `publish_seconds` from its first record to what became of the
    last. `status` is None if nobody was there to answer.
    """

    endpoint: str
    request_id: str
    scope: Mapping[str, Any]
    headers: Mapping[bytes, bytes]
    find_client: Callable[[], object]
    started: float = field(default_factory=time.perf_counter)
    span: Span | None = None
    credentials: str | None = None
    coding: str | None = None
    declared_bytes: int | None = None
    detail: str | None = None
    body: bytes | None = None
    form: Form = Form.XML
    error: DocumentError | None = None
    dead_letter: Outcome | None = None
    prepared: Prepared | None = None
    receipt: Receipt | None = None
    publish_seconds: float = 0.0
    exception: BaseException | None = None
    disposition: Disposition = Disposition.FAULT
    status: int | None = None
    answer: bytes = b""
    answered_at: datetime = _NEVER
    seconds: float = 0.0

    @property
    def was_read(self) -> bool:
        """Whether its body was looked at."""
        return self.disposition in _READ

    @property
    def reason(self) -> str | None:
        """Why nothing of it is an event, in one fixed word; None if something is, or may be.

        Of a document whose states are all rejected it is the reason for most of them.
        """
        if self.error is not None:
            return self.error.reason
        receipt = self.receipt
        if receipt is None or self.disposition is not _DONE:
            return self.disposition.value
        rejected = receipt.rejected
        if rejected and not receipt.valid:
            return max(rejected, key=rejected.__getitem__)
        return FOREIGN if receipt.is_foreign else None

    @property
    def unlisted(self) -> Sequence[str]:
        """The ids of its document that the answer does not list, each once, in order."""
        if self.receipt is not None and self.disposition is _DONE:
            return self.receipt.unlisted
        return self.prepared.ids if self.prepared is not None else ()

    @property
    def peer(self) -> str | None:
        """The address that it was sent from: the last proxy's, if there is one."""
        return self.scope["client"][0] if self.scope["client"] else None

    @property
    def client(self) -> str | None:
        """Who sent it."""
        client = self.find_client()
        return None if client is None else str(client)


Observer = Callable[[Request], None]
WriteInfo = Callable[[dict[str, Any]], None]
"""Writes a line of level info: its fields, `event` and `logger` among them."""


class Observers:
    """All who look on, in their order; one that fails costs neither the others nor the answer."""

    def __init__(self, endpoint: str, observers: Iterable[Observer]) -> None:
        self._endpoint = endpoint
        self._observers = tuple(observers)
        self._failures = Repeats(per_second=LINES_PER_SECOND, burst=LINES_AT_ONCE)

    def __call__(self, request: Request) -> None:
        """Let each see the request."""
        for observer in self._observers:
            try:
                observer(request)
            except Exception as exc:  # noqa: BLE001 -- whatever it is, the answer stands
                self._tell(exc)

    def guard(self, hook: Callable[..., None], *args: Any) -> None:
        """Call something else that looks on."""
        try:
            hook(*args)
        except Exception as exc:  # noqa: BLE001 -- as above
            self._tell(exc)

    def _tell(self, exc: Exception) -> None:
        with suppress(Exception):
            suppressed = self._failures.held_back(None)
            if suppressed is not None:
                log.error(
                    "observability hook failed",
                    endpoint=self._endpoint,
                    exc_info=exc,
                    suppressed=suppressed,
                )


class RequestLog:
    """Writes one line a request; refusals at a bounded rate.

    The ids that were not listed are all written, in as many lines as they need: what is to be asked
    of the provider once it has given up. The rate of refusals does not hold them back.
    `write_info` writes the lines of level info, where there is a shorter way for them; it may be
    changed.
    """

    def __init__(self, endpoint: str, write_info: WriteInfo | None = None) -> None:
        self._endpoint = endpoint
        self._log = log.bind(endpoint=endpoint)
        self.write_info = write_info
        self._repeats = Repeats(per_second=LINES_PER_SECOND, burst=LINES_AT_ONCE)

    def __call__(self, request: Request) -> None:
        """Write it."""
        fields = self._fields(request)
        unlisted = request.unlisted
        if not unlisted:
            self._write(request, fields)
            return
        ids = _lines_of(unlisted)
        fields["unlisted"], fields["unlisted_ids"] = len(unlisted), next(ids)
        self._write(request, fields)
        for more in ids:
            self._log.warning("unlisted ids", request_id=request.request_id, unlisted_ids=more)

    def _fields(self, request: Request) -> dict[str, Any]:
        """What the line says of the request's course."""
        fields: dict[str, Any] = {
            "endpoint": self._endpoint,
            "request_id": request.request_id,
            "status": request.status,
            "seconds": round(request.seconds, 6),
        }
        if request.span is not None:
            fields["trace_id"] = request.span.trace_id
        if request.body is not None:
            fields["bytes"] = len(request.body)
        receipt = request.receipt
        if receipt is not None:
            fields["states"] = len(receipt.items)
            fields["listed"] = len(receipt.listed)
            fields["repeated"] = receipt.repeated
            for result, count in receipt.results.items():
                fields[_NAMES[result]] = count
            if _is_remarkable(request) or receipt.past_max_states:
                _add_remarkable(fields, request, receipt)
        if request.reason is not None:
            _add_refusal(fields, request)
        return fields

    def _write(self, request: Request, fields: dict[str, Any]) -> None:
        if not request.was_read:
            self._write_refusal(request, fields)
            return
        if request.reason is not None:
            fields["peer"], fields["client"] = request.peer, request.client
        if _is_remarkable(request):
            self._log.warning("request", **fields)
        elif self.write_info is not None:
            fields["event"], fields["logger"] = "request", __name__
            self.write_info(fields)
        else:
            self._log.info("request", **fields)

    def _write_refusal(self, request: Request, fields: dict[str, Any]) -> None:
        """Write what was not read, at a bounded rate unless it names ids."""
        if "unlisted" not in fields:
            suppressed = self._repeats.held_back(request.disposition)
            if suppressed is None:
                return
            fields["suppressed"] = suppressed
        fields["peer"], fields["client"] = request.peer, request.client
        left = request.disposition is Disposition.LEFT
        write = self._log.error if request.exception is not None else self._log.warning
        write("client left before the end of its body" if left else "request", **fields)


def _is_remarkable(request: Request) -> bool:
    """Whether not all that it brought was listed, or it brought something else than states."""
    receipt = request.receipt
    return receipt is None or bool(receipt.unlisted or receipt.rejected or receipt.is_foreign)


def _add_refusal(fields: dict[str, Any], request: Request) -> None:
    fields["reason"] = request.reason
    if request.disposition is Disposition.NOT_FOUND:
        fields["path"] = _path_of(request.scope)
    for name in ("credentials", "coding", "declared_bytes", "detail"):
        if getattr(request, name) is not None:
            fields[name] = getattr(request, name)
    if request.error is not None:
        dead_letter = request.dead_letter
        fields["detail"] = str(request.error)
        fields["line"] = request.error.line
        fields["dead_letter"] = dead_letter.result.value if dead_letter is not None else "none"
    if request.exception is not None:
        fields["exc_info"] = request.exception


def _path_of(scope: Mapping[str, Any]) -> str:
    """The path, without what may be a token: a query, or one that was mistyped."""
    path: str = scope["path"]
    shown = re.split("[?&=;]", path, maxsplit=1)[0][:PATH_CHARACTERS]
    return printable(shown) + "…" * (shown != path)


def _add_remarkable(fields: dict[str, Any], request: Request, receipt: Receipt) -> None:
    if receipt.unlisted or receipt.rejected:
        results = receipt.results
        fields |= {_NAMES[result]: results.get(result, 0) for result in Result}
        fields["rejected"] = receipt.rejected
        fields["errors"] = receipt.errors[:3]
    if receipt.past_max_states:
        fields["past_max_states"] = receipt.past_max_states
    if receipt.is_foreign:
        fields["beginning"] = beginning(request.body or b"")


_NAMES = {result: result.value for result in Result}  # an enum's value is looked up in Python


def _lines_of(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids, in order, as many at a time as a line has room for; one that is too long is cut."""
    line: list[str] = []
    size = 0
    for id_sms in ids:
        shown = clipped(id_sms, ID_CHARACTERS)
        if not shown.isascii():  # JSON holds no half of a surrogate pair
            shown = shown.encode(errors="backslashreplace").decode()
        size += len(orjson.dumps(shown)) + 1
        if size > MAX_IDS_BYTES:
            yield line
            line, size = [], len(orjson.dumps(shown)) + 1
        line.append(shown)
    if line:
        yield line


class RequestMetrics:
    """Counts a request; most of it is rare, and costs nothing if there is none."""

    def __init__(self, metrics: EndpointMetrics) -> None:
        self._metrics = metrics
        self.know = metrics.know
        self._redelivery = Redelivery()
        metrics.watch_unlisted(self._redelivery.oldest_seconds)

    def __call__(self, request: Request) -> None:
        """Count it."""
        metrics = self._metrics
        if request.status is not None:
            seconds = request.seconds if request.was_read else None
            metrics.answered(request.status, seconds)
        if request.disposition in _OVERLOADED:
            metrics.overloaded.inc()
        reason = request.reason
        if reason is not None:
            metrics.refused(reason)
        if request.error is not None:
            metrics.rejected(request.error.reason)
            if request.dead_letter is None or request.dead_letter.result is not Result.PUBLISHED:
                metrics.lost_bodies.inc()
        if request.receipt is not None:
            metrics.document_bytes.observe(len(request.body or b""))
            if request.receipt.items:
                metrics.publish_seconds.observe(request.publish_seconds)
            self._count(request.receipt)

    def _count(self, receipt: Receipt) -> None:
        metrics = self._metrics
        metrics.document(receipt.counts)
        if receipt.valid:
            metrics.valid_documents.inc()
        metrics.ids(listed=len(receipt.listed), unlisted=len(receipt.unlisted))
        for reason, count in receipt.rejected.items():
            metrics.rejected(reason, count)
        if receipt.repeated:
            metrics.suppressed_duplicates.inc(receipt.repeated)
        if receipt.unknown_statuses:
            for status in metrics.name_unknown(receipt.unknown_statuses):
                log.warning("unknown status", endpoint=metrics.endpoint, status=status)
        if receipt.unreadable_times:
            metrics.unreadable_times.inc(receipt.unreadable_times)
        metrics.late(receipt.delays)
        if receipt.gaps or receipt.unlisted or self._redelivery:
            metrics.redelivered(self._gaps(receipt))

    def _gaps(self, receipt: Receipt) -> Iterable[float]:
        """The seconds since each event that had come before came last."""
        unlisted = frozenset(receipt.unlisted)
        events = {
            item.message.event_id: item.state.id_sms not in unlisted
            or len(item.state.id_sms) > MAX_LISTED_CHARACTERS  # never listed: nothing waits for it
            for item in receipt.items
            if item.message is not None
        }
        return {**receipt.gaps, **self._redelivery.came(events)}.values()
