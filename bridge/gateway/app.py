"""The two ASGI applications: the public one with the endpoints, and the private one."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bridge.config.settings import Endpoint, Server, Settings, meanings, route_of
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
    request's time. `applications` may be changed, for requests that begin then.
    """

    def __init__(self, applications: Mapping[str, ASGIApp], default: ASGIApp) -> None:
        self.applications = applications
        self._default = default

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""
        return self.applications.get(scope["path"], self._default)(scope, receive, send)


class PublicApp:
    """The public application, `asgi`: one webhook per endpoint, with and without a trailing slash.

    What follows from the settings can be replaced, in one step. A request that is under way goes on
    as it began, and what is counted, limited or in flight is counted on. `observer` sees all
    requests. `write_info` is the way of the log for lines of level info, if it has a shorter one.
    """

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        metrics: Metrics,
        health: Health,
        *,
        tracing: "Tracing | None" = None,
        observer: Observer | None = None,
        write_info: WriteInfo | None = None,
    ) -> None:
        self._pipeline = Pipeline(publisher)
        self._metrics = metrics
        self._draining = lambda: health.draining
        self._tracing = tracing
        self._observer = observer
        self._capacity = _capacity(settings.server)
        self._reader = Reader(self._capacity, settings.server.max_body_bytes)
        self._dead_letter_limit = RateLimit(
            per_second=DEAD_LETTERS_PER_SECOND, burst=DEAD_LETTERS_AT_ONCE
        )
        self._watchers: dict[str, _Watchers] = {}
        self._not_found = NotFound(metrics, _proxies(settings.server), observer)
        self.asgi = Paths({}, self._not_found)
        self.prepare(settings, write_info)()

    def prepare(self, settings: Settings, write_info: WriteInfo | None) -> Callable[[], None]:
        """Make all that can fail; what it returns has requests served by these settings."""
        server, capacity = settings.server, _capacity(settings.server)
        shared = self._shared(settings)
        watchers = {each.name: self._watchers_of(settings, each) for each in settings.endpoints}
        applications: dict[str, ASGIApp] = {}
        for endpoint in settings.endpoints:
            webhook = self._webhook(settings, endpoint, shared, watchers[endpoint.name])
            for path in (endpoint.path, endpoint.path.rstrip("/") + "/"):
                applications[path] = webhook

        def use() -> None:
            for removed in self._watchers.keys() - watchers.keys():
                self._metrics.forget(removed)
            for each in watchers.values():
                each.log.write_info = write_info
            self._capacity.limit(capacity)
            self._metrics.watch_capacity(self._capacity)
            self._reader.limit(server.max_body_bytes)
            self._not_found.proxies = shared.proxies
            self._watchers, self.asgi.applications = watchers, applications

        return use

    def _shared(self, settings: Settings) -> Shared:
        return Shared(
            pipeline=self._pipeline,
            capacity=self._capacity,
            reader=self._reader,
            dead_letter_limit=self._dead_letter_limit,
            proxies=_proxies(settings.server),
            limits=Limits(
                max_body_bytes=settings.server.max_body_bytes,
                max_states=settings.server.max_states,
                body_timeout_seconds=settings.server.body_timeout_seconds,
                publish_timeout_seconds=settings.kafka.publish_timeout_seconds,
            ),
            draining=self._draining,
        )

    def _watchers_of(self, settings: Settings, endpoint: Endpoint) -> "_Watchers":
        """The endpoint's log and metrics: those that it has, if it has been there before."""
        statuses = meanings(settings.events)
        known = self._watchers.get(endpoint.name)
        if known is not None:
            known.metrics.know(statuses)
            return known
        metrics = EndpointMetrics(self._metrics, endpoint.name, REFUSALS, statuses)
        return _Watchers(RequestMetrics(metrics), RequestLog(endpoint.name))

    def _webhook(
        self, settings: Settings, endpoint: Endpoint, shared: Shared, watchers: "_Watchers"
    ) -> Webhook:
        allow = endpoint.auth.allow if endpoint.auth else ()
        observers: list[Observer] = [watchers.metrics, watchers.log]
        tracing = self._tracing
        if tracing is not None:
            from bridge.observability.tracing.spans import describe  # noqa: PLC0415 -- an extra

            observers.insert(0, describe)
        if self._observer is not None:
            observers.append(self._observer)
        return Webhook(
            route_of(settings, endpoint),
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
    """The public application, for who never changes its settings."""
    return PublicApp(
        settings,
        publisher,
        metrics,
        health,
        tracing=tracing,
        observer=observer,
        write_info=write_info,
    ).asgi


@dataclass(frozen=True, slots=True)
class _Watchers:
    """What counts and tells of an endpoint's requests, for as long as there is the endpoint."""

    metrics: RequestMetrics
    log: RequestLog


def _proxies(server: Server) -> Proxies:
    return Proxies(Networks.of(server.trusted_proxies))


def _capacity(server: Server) -> Capacity:
    return Capacity(
        max_posts=server.max_in_flight,
        max_bytes=server.max_in_flight_bytes,
        max_states=server.max_in_flight_states,
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
