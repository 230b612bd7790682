"""What no endpoint answers for, counted and logged: other paths, and what is no HTTP request."""

import time
from contextlib import suppress
from http import HTTPStatus

import structlog
from starlette.types import Receive, Scope, Send

from bridge.gateway.client_address import Proxies
from bridge.gateway.request_ids import RequestIds
from bridge.gateway.responses import not_found
from bridge.observability.metrics import NO_ENDPOINT, Metrics
from bridge.ratelimit import Repeats

log = structlog.get_logger(__name__)

LINES_PER_SECOND = 0.1
LINES_AT_ONCE = 5


class Refusals:
    """Notes requests that are refused before any application sees them."""

    def __init__(self, metrics: Metrics) -> None:
        self._requests = metrics.requests
        self._repeats = Repeats(per_second=LINES_PER_SECOND, burst=LINES_AT_ONCE)

    def __call__(self, status: HTTPStatus, detail: str, peer: str | None) -> None:
        """Count and log one, whatever becomes of that."""
        with suppress(Exception):
            self._requests.labels(NO_ENDPOINT, int(status)).inc()
            held_back = self._repeats.held_back(status)
            if held_back is not None:
                log.warning(
                    "request refused",
                    endpoint=None,
                    status=int(status),
                    error=detail,
                    peer=peer,
                    suppressed=held_back,
                )


class Nowhere:
    """Answers 404. The log shows who asked, and not for what: a mistyped URL may hold a secret."""

    def __init__(self, metrics: Metrics, proxies: Proxies) -> None:
        self._answers = metrics.answers_elsewhere
        self._proxies = proxies
        self._request_ids = RequestIds()
        self._repeats = Repeats(per_second=LINES_PER_SECOND, burst=LINES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()
        with suppress(Exception):  # who cannot be told of is answered all the same
            self._answers.inc()
            self._note(scope, began)
        await not_found(scope, receive, send)

    def _note(self, scope: Scope, began: float) -> None:
        held_back = self._repeats.held_back(HTTPStatus.NOT_FOUND)
        if held_back is None:
            return
        given = dict(reversed(scope["headers"])).get(b"x-request-id")
        client = self._proxies.client(scope["client"], scope["headers"])
        log.warning(
            "request",
            request_id=self._request_ids.of(given),
            endpoint=None,
            status=int(HTTPStatus.NOT_FOUND),
            seconds=round(time.perf_counter() - began, 6),
            peer=scope["client"][0] if scope["client"] else None,
            client=None if client is None else str(client),
            suppressed=held_back,
        )
