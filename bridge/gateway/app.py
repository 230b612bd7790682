"""The two ASGI applications: the public one with the endpoints, and the private one."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bridge.config.settings import Endpoint, Settings, route_of
from bridge.gateway.admission import Capacity
from bridge.gateway.auth import Authenticator
from bridge.gateway.checks import checks
from bridge.gateway.client_address import Networks, Proxies
from bridge.gateway.not_found import NotFound
from bridge.gateway.reader import Reader
from bridge.gateway.webhook import Limits, Shared, Webhook
from bridge.observability.metrics import CONTENT_TYPE, EndpointMetrics, Metrics
from bridge.observability.requests import (
    REFUSALS,
    Observer,
    Observers,
    RequestLog,
    RequestMetrics,
    WriteInfo,
)
from bridge.pipeline import Pipeline, Publisher
from bridge.ratelimit import RateLimit

if TYPE_CHECKING:
    from bridge.observability.tracing.spans import Tracing

DEAD_LETTERS_PER_SECOND = 1.0  # of whole bodies, each up to a record's limit
DEAD_LETTERS_AT_ONCE = 20


@dataclass(slots=True)
class Health:
    """Whether the process may be sent requests; `not_ready_because` asks Kafka's side."""

    not_ready_because: Callable[[], str | None]  # None if it is
    draining: bool = False

    @property
    def why_not_ready(self) -> str | None:
        """What `/readyz` says; None if the process is ready."""
        return "draining" if self.draining else self.not_ready_because()


class Paths:
    """Hands each request to the application of its path: with fixed paths a lookup is enough.

    Starlette's router tries a pattern per path and fills the scope, a twentieth of a small
    request's time.
    """

    def __init__(self, applications: Mapping[str, ASGIApp], default: ASGIApp) -> None:
        self._applications = applications
        self._default = default

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""
        return self._applications.get(scope["path"], self._default)(scope, receive, send)


def public_app(
    settings: Settings,
    publisher: Publisher,
    metrics: Metrics,
    health: Health,
    *,
    tracing: "Tracing | None" = None,
    observer: Observer | None = None,
    write_info: WriteInfo | None = None,
) -> Paths:
    """One webhook per endpoint, with and without a trailing slash; `observer` sees all requests.

    `write_info` is the way of the log for lines of level info, if it has a shorter one.
    """
    capacity = Capacity(
        max_posts=settings.server.max_in_flight,
        max_bytes=settings.server.max_in_flight_bytes,
        max_states=settings.server.max_in_flight_states,
    )
    metrics.watch_capacity(capacity)
    shared = Shared(
        pipeline=Pipeline(publisher),
        capacity=capacity,
        reader=Reader(capacity, settings.server.max_body_bytes),
        dead_letter_limit=RateLimit(per_second=DEAD_LETTERS_PER_SECOND, burst=DEAD_LETTERS_AT_ONCE),
        proxies=Proxies(Networks.of(settings.server.trusted_proxies)),
        limits=Limits(
            max_body_bytes=settings.server.max_body_bytes,
            max_states=settings.server.max_states,
            body_timeout_seconds=settings.server.body_timeout_seconds,
            publish_timeout_seconds=settings.kafka.publish_timeout_seconds,
        ),
        draining=lambda: health.draining,
    )
    applications: dict[str, ASGIApp] = {}
    for endpoint in settings.endpoints:
        log = RequestLog(endpoint.name, write_info)
        webhook = _webhook(
            settings, endpoint, shared, metrics, log, tracing=tracing, observer=observer
        )
        for path in (endpoint.path, endpoint.path.rstrip("/") + "/"):
            applications[path] = webhook
    return Paths(applications, NotFound(metrics, shared.proxies, observer))


def _webhook(
    settings: Settings,
    endpoint: Endpoint,
    shared: Shared,
    metrics: Metrics,
    log: RequestLog,
    *,
    tracing: "Tracing | None",
    observer: Observer | None,
) -> Webhook:
    route = route_of(settings, endpoint)
    allow = endpoint.auth.allow if endpoint.auth else ()
    observers: list[Observer] = [
        RequestMetrics(EndpointMetrics(metrics, endpoint.name, REFUSALS, route.statuses)),
        log,
    ]
    if tracing is not None:
        from bridge.observability.tracing.spans import describe  # noqa: PLC0415 -- an extra

        observers.insert(0, describe)
    if observer is not None:
        observers.append(observer)
    return Webhook(
        route,
        checks(
            Authenticator.of(endpoint.auth),
            Networks.of(allow) if allow else None,
            shared.proxies,
            shared.capacity,
            settings.server.max_body_bytes,
        ),
        shared,
        Observers(endpoint.name, observers),
        tracing=tracing.endpoint(endpoint.name, endpoint.path) if tracing else None,
    )


async def _nothing() -> None:
    """For a process that knows all about itself."""


def admin_app(
    metrics: Metrics, health: Health, refresh: Callable[[], Awaitable[None]] = _nothing
) -> Starlette:
    """`/livez`, `/readyz` and `/metrics`. None of them waits for Kafka.

    `refresh` is called before the latter two, where others are asked for what they say.
    """
    metrics.watch_readiness(lambda: health.why_not_ready is None)

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        await refresh()
        why_not = health.why_not_ready
        return PlainTextResponse(f"{why_not or 'ok'}\n", status_code=503 if why_not else 200)

    async def exposition(_: Request) -> Response:
        await refresh()
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", exposition),
        ]
    )
