"""How the program logs: structlog and the standard library through one pipe to stderr.

Tracebacks come without the values of variables: a request's head holds secrets.
"""

import logging
import sys
from typing import Literal

import orjson
import structlog
from structlog.typing import Processor

Format = Literal["json", "console"]


def configure(level: str, form: Format) -> None:
    """Send all logs of this process to stderr, one line each (tracebacks included in JSON)."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(form),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Its start and stop are ours to tell.
    logging.getLogger("uvicorn").setLevel("WARNING")


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


def _dumps(value: object, **options: object) -> str:
    del options  # the standard library's, which the encoder does not know
    return orjson.dumps(value, default=str).decode()
