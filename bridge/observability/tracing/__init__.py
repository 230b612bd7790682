"""Whether requests are traced: OpenTelemetry's own environment variables say so.

Imports nothing of it if they do not: no start pays for what nobody asked for.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from bridge.observability.tracing.spans import Tracing

log = structlog.get_logger(__name__)

MESSAGE_IDS = "SMS_BRIDGE_TRACE_MESSAGE_IDS"
PROTOCOL = "http/protobuf"
NOT_INSTALLED = (
    "opentelemetry is not installed: it is the extra `otel` of the checkout or wheel that the "
    "bridge was installed from, and of an image built with requirements-otel.txt"
)


def start(environ: Mapping[str, str]) -> "Tracing | None":
    """Tracing, if it is asked for and can be had; a line says why it cannot.

    `environ` decides whether; the rest the library reads from the process's own environment.
    """
    if not _wanted(environ):
        return None
    why_not = _why_off(environ)
    if why_not is None:
        try:
            from bridge.observability.tracing.export import tracing  # noqa: PLC0415 -- optional, and slow

            return tracing(environ)
        except ImportError:
            why_not = NOT_INSTALLED
        except Exception as exc:  # noqa: BLE001 -- what is wrong with it must not keep all else down
            why_not = f"its settings are not usable ({type(exc).__name__})"
    log.warning("tracing is off", because=why_not)
    return None


def is_set(environ: Mapping[str, str], name: str) -> bool:
    """Whether a variable says `true`, the one word that OpenTelemetry takes for yes."""
    return environ.get(name, "").strip().lower() == "true"


def words(environ: Mapping[str, str], name: str) -> list[str]:
    """The words of a variable that holds a list."""
    return [word for part in environ.get(name, "").split(",") if (word := part.strip().lower())]


def _wanted(environ: Mapping[str, str]) -> bool:
    if is_set(environ, "OTEL_SDK_DISABLED"):
        return False
    exporters = words(environ, "OTEL_TRACES_EXPORTER")
    if exporters:
        return exporters != ["none"]
    return _endpoint(environ) != ""


def _why_off(environ: Mapping[str, str]) -> str | None:
    """What is asked for and not there. Endpoints can hold secrets, and are not repeated."""
    exporters = words(environ, "OTEL_TRACES_EXPORTER")
    if exporters and "otlp" not in exporters:
        return f"OTEL_TRACES_EXPORTER is {','.join(exporters)}, and otlp is all there is"
    protocol = _first(environ, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in ("", PROTOCOL):
        return f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, and {PROTOCOL} is all there is"
    if not (_endpoint(environ) or "http://").lower().startswith(("http://", "https://")):
        return "OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https://"
    return None


def _endpoint(environ: Mapping[str, str]) -> str:
    return _first(environ, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def _first(environ: Mapping[str, str], *names: str) -> str:
    return next((value for name in names if (value := environ.get(name, "").strip())), "")
