"""How spans leave the process: in batches, from a thread of the library's own, over OTLP/HTTP.

What the library logs passes through here: seldom, and without what an address may hold.
"""

import logging
import re
from collections.abc import Mapping

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from bridge import __version__
from bridge.observability.tracing import MESSAGE_IDS, is_set, words
from bridge.observability.tracing.spans import Tracing
from bridge.ratelimit import Repeats

log = structlog.get_logger(__name__)

SERVICE = "sms-bridge"  # if the environment names none
COMPLAINTS_PER_SECOND = 1 / 30

# Of a URL: user and password, and the query.
_SECRETS = re.compile(r"(?<=//)[^/\s]+@|\?[^\s'\"()]+")
_QUOTES_A_HEADER = "opentelemetry.util.re"


def tracing(environ: Mapping[str, str]) -> Tracing:
    """Tracing to the collector that the environment names.

    Raises ValueError for settings of the export that cannot be.
    """
    _hush()
    provider = TracerProvider(resource=resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    message_ids = is_set(environ, MESSAGE_IDS)
    propagators = words(environ, "OTEL_PROPAGATORS")
    log.info("tracing is on", message_ids=message_ids)
    return Tracing(
        provider,
        message_ids=message_ids,
        honour_incoming=not propagators or "tracecontext" in propagators,
    )


def resource() -> Resource:
    """Who exports: as the environment says, and by the program's own name if it does not."""
    given = Resource.create({SERVICE_VERSION: __version__})
    if str(given.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return given.merge(Resource({SERVICE_NAME: SERVICE}))
    return given


class Complaints(logging.Handler):
    """Passes on what the library complains of: of each of its parts a line in 30 s."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._repeats = Repeats(per_second=COMPLAINTS_PER_SECOND, burst=1)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count what is held back."""
        held_back = self._repeats.held_back(record.name)
        if held_back is not None:
            log.warning("tracing failed", error=_safe(record), suppressed=held_back)


def _safe(record: logging.LogRecord) -> str:
    if record.name == _QUOTES_A_HEADER:  # with the collector's credentials
        return "a header of OTEL_EXPORTER_OTLP_HEADERS cannot be read"
    return _SECRETS.sub("", record.getMessage())


def _hush() -> None:
    complaints = Complaints()
    # urllib3, which carries the spans, writes the whole address of each request at debug.
    for library in ("opentelemetry", "urllib3"):
        logger = logging.getLogger(library)
        logger.handlers = [complaints]
        logger.setLevel(logging.WARNING)
        logger.propagate = False
