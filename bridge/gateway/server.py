"""Runs the gateway: start, serve, drain, stop. The only place that takes signals."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import structlog
import uvicorn
from starlette.types import ASGIApp

from bridge.config.settings import Admin, Inspector, Server, Settings
from bridge.duplicates import Deduplicator, RecentEvents
from bridge.gateway.app import Health, admin_app, public_app
from bridge.gateway.connections import MAX_CONNECTIONS, Connections
from bridge.gateway.http_protocol import HttpProtocol
from bridge.gateway.not_found import Refusals
from bridge.kafka import CAUSES, Publisher, Supervisor
from bridge.observability.metrics import Metrics

if TYPE_CHECKING:
    from bridge import inspector as inspectors

if TYPE_CHECKING:
    from bridge.observability.tracing.spans import Tracing

log = structlog.get_logger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
BACKLOG = 2048
ACCEPTS = 16  # new connections in one turn of the loop
SWITCH_SECONDS = 0.001
COLLECT_AFTER = 50_000  # objects more than were given back, some 5 MB
PRODUCER_SHARE = 0.2  # of the grace, kept for the producer's end
ADMIN_SECONDS = 0.5  # the same, for the private listener's
TICKS_SECONDS = 0.5  # that two servers of uvicorn's take to notice
ADMIN_KEEP_ALIVE_SECONDS = 5
ADMIN_CONNECTIONS = 16  # for each private listener: out of reach of the public one's clients
OWN_DESCRIPTORS = 40  # at most 39 were seen: the listeners', the loop's, Kafka's, files being read


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers, which would raise the signal again at the end."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


async def serve(settings: Settings, tracing: "Tracing | None" = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises OSError where a port cannot be had. Kafka need not be there.
    """
    # The thread that reads large documents gives way to the loop sooner: docs/reliability.md.
    sys.setswitchinterval(SWITCH_SECONDS)
    _spare_the_collector()
    metrics = Metrics()
    supervisor = Supervisor(settings.kafka, settings.topics, on_rebuild=metrics.rebuilt)
    metrics.watch_producer(supervisor, CAUSES)
    publisher = Publisher(settings.kafka, supervisor, tracing)
    refused = Refusals(metrics)
    connections = Connections(_public_connections(2 if settings.inspector else 1), refused)
    admin_connections = Connections(ADMIN_CONNECTIONS, refused)
    metrics.watch_connections("server", connections)
    metrics.watch_connections("admin", admin_connections)
    health = Health(lambda: None if supervisor.ready else supervisor.not_ready_because)
    duplicates = settings.kafka.duplicates
    recent = RecentEvents(duplicates.remember, duplicates.seconds)
    inspector = _inspector(settings, health)
    observer = None if inspector is None else inspector.observe
    public = _uvicorn(
        public_app(
            settings,
            Deduplicator(publisher, supervisor, recent),
            metrics,
            health,
            tracing=tracing,
            observer=observer,
        ),
        connections,
        keep_alive_seconds=settings.server.keep_alive_seconds,
        grace_seconds=_public_grace(settings.server),
    )
    admin = _uvicorn(
        admin_app(metrics, health),
        admin_connections,
        keep_alive_seconds=ADMIN_KEEP_ALIVE_SECONDS,
        grace_seconds=ADMIN_SECONDS,
    )
    with (
        _listen(settings.server) as public_socket,
        _listen(settings.admin) as admin_socket,
        _listen(settings.inspector) if settings.inspector else nullcontext() as inspector_socket,
        _signals() as stopped,
    ):
        supervisor.start()
        public_task = asyncio.create_task(public.serve(_copies(public_socket)))
        admin_task = asyncio.create_task(admin.serve([admin_socket]))
        page = _Page(inspector, inspector_socket, public_socket)
        log.info(
            "listening",
            server=_address(public_socket),
            admin=_address(admin_socket),
            **page.facts,
        )
        # A listener that ends by itself is a failure: better a restart than half a gateway.
        await asyncio.wait({stopped, public_task, admin_task}, return_when=asyncio.FIRST_COMPLETED)
        log.info("draining")
        health.draining = True
        page.end()
        await asyncio.sleep(settings.server.drain_delay_seconds)
        public.should_exit = True
        await public_task
        await publisher.stop()
        grace = _producer_grace(settings.server)
        # The last spans go out beside the last records: each has all of the time.
        spans = tracing.stop(grace) if tracing is not None else asyncio.sleep(0)
        await asyncio.gather(supervisor.stop(grace), spans)
        admin.should_exit = True
        await asyncio.gather(admin_task, page.stop())
        log.info("stopped")


class _Page:
    """The inspector's listener, where there is an inspector; it serves until it is stopped."""

    def __init__(
        self,
        inspector: "inspectors.Inspector | None",
        listener: socket.socket | None,
        gateway: socket.socket,
    ) -> None:
        self._inspector = inspector
        self.facts: dict[str, str] = {}
        if inspector is None or listener is None:
            return
        host, port, *_ = gateway.getsockname()
        inspector.listening(host, port)
        self.facts["inspector"] = _address(listener)
        self._server = _uvicorn(
            inspector.app,
            Connections(ADMIN_CONNECTIONS),
            keep_alive_seconds=ADMIN_KEEP_ALIVE_SECONDS,
            grace_seconds=ADMIN_SECONDS,
        )
        self._task = asyncio.create_task(self._server.serve([listener]))

    def end(self) -> None:
        """Let go of the pages that are open."""
        if self._inspector is not None:
            self._inspector.end()

    async def stop(self) -> None:
        """Close the listener. However it ended, the gateway goes on to its own end."""
        if self._inspector is not None:
            self._server.should_exit = True
            await asyncio.wait({self._task})


def _inspector(settings: Settings, health: Health) -> "inspectors.Inspector | None":
    if settings.inspector is None:
        return None
    # It brings templates along, which nobody should pay for who has it off.
    from bridge.inspector import Inspector, Target, credentials_of  # noqa: PLC0415

    return Inspector(
        {
            endpoint.name: Target(endpoint.path, credentials_of(endpoint.auth))
            for endpoint in settings.endpoints
        },
        host=settings.inspector.host,
        not_ready=lambda: health.why_not_ready,
    )


def _spare_the_collector() -> None:
    """Have it look at cycles less often: a request makes none, and requests come and go.

    With Python's own threshold the requests in flight alone set it off all the time, and what
    the program consists of would be looked at again and again.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


def _public_grace(server: Server) -> float:
    grace = server.shutdown_grace_seconds
    return max(grace * (1 - PRODUCER_SHARE) - ADMIN_SECONDS, grace / 2)


def _producer_grace(server: Server) -> float:
    grace = server.shutdown_grace_seconds * PRODUCER_SHARE
    return max(grace - TICKS_SECONDS, grace / 2)


def _public_connections(private_listeners: int) -> int:
    """How many connections the public listener may have, with as many descriptors as can be had.

    Beyond the limit the ones that are silent longest are cut: nobody is refused for want of a
    descriptor, and the private listener keeps its own.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # the kernel's own limit is below it
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    reserved = OWN_DESCRIPTORS + private_listeners * ADMIN_CONNECTIONS
    return max(1, min(MAX_CONNECTIONS, descriptors - reserved))


def _uvicorn(
    app: ASGIApp, connections: Connections, *, keep_alive_seconds: float, grace_seconds: float
) -> _Uvicorn:
    return _Uvicorn(
        uvicorn.Config(
            app,
            http=partial(HttpProtocol, connections=connections),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # Both reach calls of asyncio that take fractions.
            timeout_keep_alive=keep_alive_seconds,  # type: ignore[arg-type]
            timeout_graceful_shutdown=grace_seconds,  # type: ignore[arg-type]
        )
    )


def _listen(where: Server | Admin | Inspector) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # All of IPv6's addresses are IPv4's too (RFC 3493, 5.3), whatever the system's default is.
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(
            address, family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
    except OSError as exc:
        why = os.strerror(exc.errno) if exc.errno else str(exc)
        name = _written(where.host, where.port)
        raise OSError(f"cannot listen on {name}: {why}") from exc
    listener.setblocking(False)
    return listener


def _copies(listener: socket.socket) -> list[socket.socket]:
    """The listener as several sockets: uvloop takes one new connection of each in a turn.

    With one alone, whoever connects would wait for those who are kept alive and busy.
    """
    return [listener, *(listener.dup() for _ in range(ACCEPTS - 1))]


def _address(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return _written(host, port)


def _written(host: str, port: int) -> str:
    """An address as URLs have it (RFC 3986, 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Future[None]]:
    """A future that the first signal resolves; the second ends the process at once."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[None] = loop.create_future()

    def on_signal(number: signal.Signals) -> None:
        if stopped.done():
            logging.shutdown()  # the lines that are still to go out
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            stopped.set_result(None)

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stopped
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
