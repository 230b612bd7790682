"""What no endpoint answers for, counted and logged: other paths, and what is no HTTP request."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

import structlog
from starlette.types import Receive, Scope, Send

from bridge.gateway.client_address import Proxies
from bridge.gateway.request_ids import RequestIds
from bridge.gateway.responses import refusal
from bridge.observability.metrics import NO_ENDPOINT, Metrics
from bridge.observability.requests import (
    LINES_AT_ONCE,
    LINES_PER_SECOND,
    Disposition,
    Observer,
    Observers,
    Request,
    RequestLog,
)
from bridge.ratelimit import Repeats

log = structlog.get_logger(__name__)


class Refusals:
    """Notes requests that are refused before any application sees them."""

    def __init__(self, metrics: Metrics) -> None:
        self._requests = metrics.requests
        self._repeats = Repeats(per_second=LINES_PER_SECOND, burst=LINES_AT_ONCE)

    def __call__(self, status: HTTPStatus, detail: str, peer: str | None) -> None:
        """Count and log one, whatever becomes of that."""
        with suppress(Exception):
            self._requests.labels(NO_ENDPOINT, int(status)).inc()
            suppressed = self._repeats.held_back(status)
            if suppressed is not None:
                log.warning(
                    "request refused",
                    endpoint=NO_ENDPOINT,
                    status=int(status),
                    error=detail,
                    peer=peer,
                    suppressed=suppressed,
                )


class NotFound:
    """Answers 404. The log shows who asked for which path, without what may be a token.

    `proxies` may be changed.
    """

    def __init__(self, metrics: Metrics, proxies: Proxies, observer: Observer | None) -> None:
        self.proxies = proxies
        self._request_ids = RequestIds()
        count = metrics.answers_elsewhere.inc
        observers: list[Observer] = [lambda _: count(), RequestLog(NO_ENDPOINT)]
        self._observers = Observers(NO_ENDPOINT, [*observers, *([observer] if observer else [])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        del receive
        headers = dict(reversed(scope["headers"]))
        request = Request(
            endpoint="",
            request_id=self._request_ids.of(headers.get(b"x-request-id")),
            scope=scope,
            headers=headers,
            find_client=partial(self.proxies.client, scope["client"], scope["headers"]),
            disposition=Disposition.NOT_FOUND,
            status=int(HTTPStatus.NOT_FOUND),
            answered_at=datetime.now(UTC),
        )
        request.seconds = time.perf_counter() - request.started
        self._observers(request)
        await refusal(HTTPStatus.NOT_FOUND, "no endpoint has this path").send(send, close=True)
