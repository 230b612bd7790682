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
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import structlog
import uvicorn
from starlette.types import ASGIApp

from bridge.config.file import ConfigFile
from bridge.config.settings import Server, Settings, meanings
from bridge.duplicates import Deduplicator, RecentEvents
from bridge.gateway.app import Health, PublicApp, admin_app
from bridge.gateway.connections import MAX_CONNECTIONS, Connections, Refused
from bridge.gateway.http_protocol import HttpProtocol
from bridge.gateway.listeners import address_of, copies, listen
from bridge.gateway.not_found import Refusals
from bridge.gateway.reload import Reloads
from bridge.kafka import CAUSES, Publisher, Supervisor
from bridge.observability import logging as logs
from bridge.observability.log_writer import LogWriter
from bridge.observability.metrics import Metrics
from bridge.observability.requests import WriteInfo

if TYPE_CHECKING:
    from bridge import inspector as inspectors
    from bridge.gateway.worker import Reports, Worker
    from bridge.observability.tracing.spans import Tracing

log = structlog.get_logger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SWITCH_SECONDS = 0.001
# Objects more than were given back, some 20 MB: three documents of 10,000 states in flight do not
# set it off, which would hold up everything for some 10 ms each time.
COLLECT_AFTER = 200_000
PRODUCER_SHARE = 0.2  # of the grace, kept for the producer's end
ADMIN_SECONDS = 0.5  # the same, for the private listener's
TICKS_SECONDS = 0.5  # that two servers of uvicorn's take to notice
ADMIN_KEEP_ALIVE_SECONDS = 5
ADMIN_CONNECTIONS = 16  # for each private listener: out of reach of the public one's clients
OWN_DESCRIPTORS = 40  # at most 39 were seen: the listeners', the loop's, Kafka's, files being read


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers, which would raise the signal again at the end.

    A worker accepts connections in its own way.
    """

    def __init__(
        self, config: uvicorn.Config, connections: Connections, worker: "Worker | None"
    ) -> None:
        super().__init__(config)
        self._connections = connections
        self._worker = worker

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        await super().startup(sockets)
        if self._worker is not None:
            acceptor = self._worker.acceptor(self._connections, self._new_protocol)
            self.servers.append(acceptor)  # type: ignore[arg-type]  # it has what uvicorn asks of it

    def _new_protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave the signals alone."""
        return nullcontext()


async def serve(
    settings: Settings,
    tracing: "Tracing | None" = None,
    log_writer: LogWriter | None = None,
    file: ConfigFile | None = None,
    worker: "Worker | None" = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain. The metrics count the lines that the log drops.

    With the file that the settings are from, it reads them again when that changes, or on SIGHUP.
    A `worker` serves the listener that it shares with others, and reports to its parent process.
    Raises OSError if a port cannot be had. Kafka need not be there.
    """
    # The thread that reads large documents gives way to the loop sooner: docs/findings.md.
    sys.setswitchinterval(SWITCH_SECONDS)
    _spare_the_collector()
    with (
        worker.listener if worker else listen(settings.server) as public,
        nullcontext() if worker else listen(settings.admin) as admin,
        listen(settings.inspector) if settings.inspector else nullcontext() as inspector,
        # The parent process decides what a second signal is: systemd sends one to each process.
        signals(at_once=worker is None) as stopped,
    ):
        gateway = _Gateway(settings, tracing, log_writer, worker)
        gateway.start(public, admin, inspector)
        async with gateway.reloading(file):
            await gateway.wait(stopped)
        await gateway.drain()


class _Gateway:
    """Everything that serves, put together; it starts, waits and drains once."""

    def __init__(
        self,
        settings: Settings,
        tracing: "Tracing | None",
        log_writer: LogWriter | None,
        worker: "Worker | None",
    ) -> None:
        self._settings = settings
        self._tracing = tracing
        self._log_writer = log_writer
        self._metrics = metrics = Metrics()
        if log_writer is not None:
            log_writer.on_drop = metrics.dropped_log_lines.inc
        self._supervisor = Supervisor(settings.kafka, settings.topics, on_rebuild=metrics.rebuilt)
        metrics.watch_producer(self._supervisor, CAUSES)
        self._publisher = Publisher(settings.kafka, self._supervisor, tracing)
        self._health = Health(self._why_no_kafka)
        self._inspector = _inspector(settings, self._health)
        refused = Refusals(metrics)
        limit = _public_connections(2 if settings.inspector else 1)
        duplicates = settings.kafka.duplicates
        self._recent = RecentEvents(duplicates.remember, duplicates.seconds)
        self._public_app = PublicApp(
            settings,
            Deduplicator(self._publisher, self._supervisor, self._recent),
            metrics,
            self._health,
            tracing=tracing,
            observer=self._inspector.observe if self._inspector is not None else None,
            write_info=self._write_info(settings),
        )
        self._public = http_server(
            self._public_app.asgi,
            watched_connections("server", limit, refused, metrics),
            worker,
            keep_alive_seconds=settings.server.keep_alive_seconds,
            grace_seconds=_public_grace(settings.server),
        )
        self._admin: HttpServer | Reports = (
            worker.reports(self._health, metrics)
            if worker is not None
            else http_server(
                admin_app(metrics, self._health),
                watched_connections("admin", ADMIN_CONNECTIONS, refused, metrics),
            )
        )

    def _write_info(self, settings: Settings) -> WriteInfo | None:
        return logs.straight(self._log_writer, settings.log.level, settings.log.format)

    def _why_no_kafka(self) -> str | None:
        return None if self._supervisor.ready else self._supervisor.not_ready_because

    def start(
        self, public: socket.socket, admin: socket.socket | None, inspector: socket.socket | None
    ) -> None:
        """Connect to Kafka and accept connections; a worker has no private listener."""
        self._supervisor.start()
        self._public_task = asyncio.create_task(self._public.serve(copies(public) if admin else []))
        self._admin_task = asyncio.create_task(self._admin.serve([admin] if admin else []))
        if admin is None:  # the parent process says where they listen, once all do
            return
        addresses = {"server": address_of(public), "admin": address_of(admin)}
        if self._inspector is not None and inspector is not None:
            host, port, *_ = public.getsockname()
            self._inspector.listening(host, port)
            self._page = http_server(self._inspector.app, Connections(ADMIN_CONNECTIONS))
            self._page_task = asyncio.create_task(self._page.serve([inspector]))
            addresses["inspector"] = address_of(inspector)
        log.info("listening", **addresses)

    @contextlib.asynccontextmanager
    async def reloading(self, file: ConfigFile | None) -> AsyncIterator[None]:
        """Take up what changes in the file while the block lasts."""
        if file is None:
            yield
            return
        reloads = Reloads(file, self._settings, self._use, self._metrics.reloaded)
        async with reloads.running():
            yield

    async def _use(self, settings: Settings) -> None:
        """Go on with these settings. Whatever it raises, nothing has changed by then."""
        serve_by_them = self._public_app.prepare(settings, self._write_info(settings))
        await self._supervisor.use(settings.kafka, settings.topics)
        serve_by_them()
        self._settings = settings
        logs.reconfigure(settings.log.level, settings.log.format)
        duplicates = settings.kafka.duplicates
        self._recent.limit(duplicates.remember, duplicates.seconds)
        # Of connections that are opened from now on, and of the end.
        config = self._public.config
        config.timeout_keep_alive = settings.server.keep_alive_seconds
        config.timeout_graceful_shutdown = _public_grace(settings.server)  # type: ignore[assignment]
        if self._inspector is not None:
            self._inspector.use(_targets(settings), meanings(settings.events))

    async def wait(self, stopped: "asyncio.Future[None]") -> None:
        """Serve until a signal comes, or a listener ends by itself.

        That is a failure: better a restart than half a gateway.
        """
        ends = {stopped, self._public_task, self._admin_task}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)

    async def drain(self) -> None:
        """Answer what is in flight, then end everything, the private listener last."""
        log.info("draining")
        self._health.draining = True
        if self._inspector is not None:
            self._inspector.end()
        await asyncio.sleep(self._settings.server.drain_delay_seconds)
        self._public.should_exit = True
        await self._public_task
        await self._publisher.stop()
        grace = _producer_grace(self._settings.server)
        # The last spans go out beside the last records: each has all of the time.
        spans = self._tracing.stop(grace) if self._tracing is not None else asyncio.sleep(0)
        await asyncio.gather(self._supervisor.stop(grace), spans)
        self._admin.should_exit = True
        if self._inspector is not None:
            self._page.should_exit = True
            await asyncio.wait({self._page_task})  # however it ended
        await self._admin_task
        log.info("stopped")


def _inspector(settings: Settings, health: Health) -> "inspectors.Inspector | None":
    if settings.inspector is None:
        return None
    # It brings templates along, which nobody should pay for who has it off.
    from bridge.inspector import Inspector  # noqa: PLC0415

    return Inspector(
        _targets(settings),
        statuses=meanings(settings.events),
        host=settings.inspector.host,
        not_ready=lambda: health.why_not_ready,
    )


def _targets(settings: Settings) -> "dict[str, inspectors.Target]":
    from bridge.inspector import Target, credentials_of  # noqa: PLC0415 -- as above

    return {each.name: Target(each.path, credentials_of(each.auth)) for each in settings.endpoints}


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


def watched_connections(
    listener: str, limit: int, refused: Refused, metrics: Metrics
) -> Connections:
    """The connections of a listener, shown by the metrics."""
    connections = Connections(limit, refused)
    connections.on_cut = metrics.watch_connections(listener, limit, lambda: len(connections.open))
    return connections


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


def http_server(
    app: ASGIApp,
    connections: Connections,
    worker: "Worker | None" = None,
    *,
    keep_alive_seconds: float = ADMIN_KEEP_ALIVE_SECONDS,
    grace_seconds: float = ADMIN_SECONDS,
) -> HttpServer:
    """A server; by default for a private listener."""
    return HttpServer(
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
        ),
        connections,
        worker,
    )


@contextlib.contextmanager
def signals(*, at_once: bool = True) -> Iterator[asyncio.Future[None]]:
    """A future that the first signal resolves; the second ends the process, if `at_once`."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[None] = loop.create_future()

    def on_signal(number: signal.Signals) -> None:
        if not stopped.done():
            stopped.set_result(None)
        elif at_once:
            logging.shutdown()  # the lines that are still to go out
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stopped
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
