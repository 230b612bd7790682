"""The two ASGI applications: the public one with the endpoints, and the private one."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bridge.config.settings import Endpoint, Settings
from bridge.event import Stream
from bridge.gateway.admission import Capacity
from bridge.gateway.auth import Authenticator
from bridge.gateway.client_address import Networks, Proxies
from bridge.gateway.not_found import Nowhere
from bridge.gateway.reader import Reader
from bridge.gateway.webhook import Webhook
from bridge.observability.metrics import CONTENT_TYPE, Metrics
from bridge.observability.requests import Course, Observation, Observer
from bridge.pipeline import Pipeline, Publisher
from bridge.ratelimit import RateLimit

if TYPE_CHECKING:
    from bridge.observability.tracing.spans import Tracing

BURIALS_PER_SECOND = 1.0  # dead letters of whole bodies, each up to a record's limit
BURIALS_AT_ONCE = 20


@dataclass(slots=True)
class Health:
    """Whether the process may be sent requests; `hindrance` says what Kafka lacks, if anything."""

    hindrance: Callable[[], str | None]
    draining: bool = False

    @property
    def why_not_ready(self) -> str | None:
        """What `/readyz` says; None where the process is ready."""
        return "draining" if self.draining else self.hindrance()


def stream_of(settings: Settings, endpoint: Endpoint) -> Stream:
    """Where the endpoint's events come from and go to."""
    return Stream(
        endpoint=endpoint.name,
        source=endpoint.source,
        timezone=ZoneInfo(endpoint.timezone),
        topic=settings.topic_of(endpoint),
        dead_letter_topic=settings.kafka.dead_letter_topic,
        type_prefix=settings.events.type_prefix,
        content_mode=settings.events.content_mode,
    )


class Paths:
    """Hands each request to the application of its path: with fixed paths a lookup is enough.

    Starlette's router tries a pattern per path and fills the scope, a twentieth of a small
    request's time.
    """

    def __init__(self, applications: Mapping[str, ASGIApp], default: ASGIApp) -> None:
        self._applications = applications
        self._default = default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._applications.get(scope["path"], self._default)(scope, receive, send)


def public_app(
    settings: Settings,
    publisher: Publisher,
    metrics: Metrics,
    health: Health,
    *,
    tracing: "Tracing | None" = None,
    observer: Observer | None = None,
) -> Paths:
    """One webhook per endpoint, with and without a trailing slash; `observer` watches them all."""
    capacity = Capacity(
        max_posts=settings.server.max_in_flight,
        max_bytes=settings.server.max_in_flight_bytes,
        max_states=settings.server.max_in_flight_states,
    )
    metrics.watch_capacity(capacity)
    reader = Reader(capacity, settings.server.max_body_bytes)
    burials = RateLimit(per_second=BURIALS_PER_SECOND, burst=BURIALS_AT_ONCE)
    pipeline = Pipeline(publisher)
    applications: dict[str, ASGIApp] = {}
    proxies = Proxies(Networks.of(settings.server.trusted_proxies))
    for endpoint in settings.endpoints:
        allow = endpoint.auth.allow if endpoint.auth else ()
        webhook = Webhook(
            stream_of(settings, endpoint),
            authenticator=Authenticator.of(endpoint.auth),
            allow=Networks.of(allow) if allow else None,
            proxies=proxies,
            pipeline=pipeline,
            capacity=capacity,
            reader=reader,
            burials=burials,
            metrics=metrics,
            server=settings.server,
            publish_timeout_seconds=settings.kafka.publish_timeout_seconds,
            draining=lambda: health.draining,
            tracing=tracing.endpoint(endpoint.name, endpoint.path) if tracing else None,
            observer=observer,
        )
        for path in (endpoint.path, endpoint.path.rstrip("/") + "/"):
            applications[path] = webhook
    nowhere = Nowhere(metrics, proxies)
    return Paths(applications, nowhere if observer is None else _watched(nowhere, observer))


def _watched(nowhere: Nowhere, observer: Observer) -> ASGIApp:
    """Tell of requests to other paths, but not of which: a secret may be in them."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(Exception):  # whoever looks on has no say in the answer
            observer(_turned_away(scope))
        await nowhere(scope, receive, send)

    return answer


def _turned_away(scope: Scope) -> Observation:
    return Observation(
        endpoint="",
        request_id="",
        peer=scope["client"][0] if scope["client"] else None,
        answered_at=datetime.now(UTC),
        seconds=0.0,
        status=HTTPStatus.NOT_FOUND,
        answer=b"",
        refused=True,
        credentials=None,
        course=Course(),
    )


def admin_app(metrics: Metrics, health: Health) -> Starlette:
    """`/livez`, `/readyz` and `/metrics`. None of them waits for Kafka."""
    metrics.watch_readiness(lambda: health.why_not_ready is None)

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        why_not = health.why_not_ready
        return PlainTextResponse(f"{why_not or 'ok'}\n", status_code=503 if why_not else 200)

    async def exposition(_: Request) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", exposition),
        ]
    )
