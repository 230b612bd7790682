"""Several processes that serve one port, and the parent that starts, restarts and ends them.

It opens the listeners and hands the public one down, answers on the private one for all, and writes
all their lines. It reads no request, and knows nothing of Kafka.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from bridge.config.file import ConfigFile
from bridge.config.settings import Settings
from bridge.gateway.accept import Loads
from bridge.gateway.app import Health, admin_app
from bridge.gateway.listeners import address_of, listen
from bridge.gateway.not_found import Refusals
from bridge.gateway.reload import Reloads
from bridge.gateway.server import (
    ADMIN_CONNECTIONS,
    http_server,
    signals,
    watched_connections,
)
from bridge.gateway.worker import Handed, Report, sent
from bridge.observability import logging as logs
from bridge.observability.log_writer import LogWriter
from bridge.observability.metrics import EXITED, HUNG, KILLED
from bridge.observability.totals import Totals

log = structlog.get_logger(__name__)

REPORT_SECONDS = 1.0  # between two reports that nobody waits for
ANSWER_SECONDS = 0.5  # for a report that somebody waits for
HUNG_SECONDS = 30.0  # without a report, and
STARTING_SECONDS = 300.0  # without the first: many start at once, on a share of a processor
STABLE_SECONDS = 10.0  # a process that ends sooner is restarted later and later
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
LATE_SECONDS = 1.0  # after the drain's own end, for processes that do not keep to it
MAX_REPORT_BYTES = 64 * 1024 * 1024
PIECE_BYTES = 64 * 1024
MAX_LINE_BYTES = 64 * 1024  # of what a worker writes: its log's are far shorter


@dataclass(slots=True)
class _Worker:
    """A process that serves, as its parent sees it.

    `unanswered` counts reports that were asked for since it was heard of last. A clock would count
    the time in which the parent itself was stopped, too, as by `docker pause`.
    """

    number: int  # from 1
    process: asyncio.subprocess.Process
    control: asyncio.StreamWriter
    unanswered: int = 0
    report: Report | None = None
    hangs: bool = False
    asked: int = 0
    answered: asyncio.Condition = field(default_factory=asyncio.Condition)

    def ask(self) -> None:
        """Ask for a report."""
        self.asked += 1
        self.control.write(b"?")

    async def take(self, report: Report) -> None:
        """Take a report."""
        self.report, self.unanswered = report, 0
        async with self.answered:
            self.answered.notify_all()

    async def fresh(self) -> None:
        """Ask for a report, and wait for it."""
        self.ask()
        asked = self.asked
        async with self.answered:
            await self.answered.wait_for(lambda: self.report and self.report["asked"] >= asked)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it has not ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


async def supervise(
    settings: Settings,
    command: Sequence[str],
    log_writer: LogWriter | None,
    file: ConfigFile | None = None,
) -> int:
    """Keep `server.processes` processes serving until SIGTERM or SIGINT, then drain them all.

    `command` starts one of them, with what it is handed as one more argument. Each reads its
    configuration again by itself when the file changes, and gets each SIGHUP. Returns the exit
    status: 0; that of a process that could not start; or 1 if one did not end in time.

    Raises OSError if a port cannot be had.
    """
    with (
        listen(settings.server) as public,
        listen(settings.admin) as admin,
        signals() as stopped,
    ):
        parent = _Parent(settings, command, log_writer, file, public)
        parent.start(admin)
        async with parent.reloading():
            await parent.wait(stopped)
        return await parent.drain()


class _Parent:
    """Starts the workers and keeps them running; it starts, waits and drains once."""

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        log_writer: LogWriter | None,
        file: ConfigFile | None,
        public: socket.socket,
    ) -> None:
        self._settings = settings
        self._command = command
        self._log_writer = log_writer
        self._file = file
        self._public = public
        self._count = settings.server.processes
        self._loop = asyncio.get_running_loop()
        self._loads = Loads.new(self._count)
        self._workers: dict[int, _Worker] = {}
        self._all_have_served = False
        self._failed: asyncio.Future[int] = self._loop.create_future()
        self._draining = asyncio.Event()
        self._totals = Totals(self._count)
        if log_writer is not None:
            log_writer.on_drop = self._totals.dropped_log_lines.inc
        self._health = Health(self._why_not_ready)
        self._admin = http_server(
            admin_app(self._totals, self._health, self._refresh),
            watched_connections("admin", ADMIN_CONNECTIONS, Refusals(self._totals), self._totals),
        )

    def start(self, admin: socket.socket) -> None:
        """Start every worker, and answer for them."""
        self._addresses = {"server": address_of(self._public), "admin": address_of(admin)}
        self._admin_task = self._loop.create_task(self._admin.serve([admin]))
        self._watching = self._loop.create_task(self._watch())
        self._keepers = [self._loop.create_task(self._keep(n + 1)) for n in range(self._count)]

    async def wait(self, stopped: "asyncio.Future[None]") -> None:
        """Serve until a signal comes, a worker cannot start at all, or a part of this ends."""
        ends: set[asyncio.Future[Any]] = {stopped, self._failed, self._admin_task, self._watching}
        ends.update(self._keepers)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)

    @contextlib.asynccontextmanager
    async def reloading(self) -> AsyncIterator[None]:
        """Take up what changes in the file while the block lasts; each worker does so by itself."""
        if self._file is None:
            yield
            return
        reloads = Reloads(self._file, self._settings, self._use, lambda _: None)
        async with reloads.running(self._hang_up):
            yield

    def _hang_up(self) -> None:
        """Pass a SIGHUP on to who serves; what still starts reads the same files anyway."""
        for worker in self._workers.values():
            if worker.report is not None:
                worker.signal(signal.SIGHUP)

    async def _use(self, settings: Settings) -> None:
        """Drain as these settings say, and log so."""
        self._settings = settings
        logs.reconfigure(settings.log.level, settings.log.format)

    async def drain(self) -> int:
        """Have every worker answer what is in flight, and end; the private listener goes last."""
        log.info("draining")
        self._health.draining = True
        self._draining.set()
        self._public.close()  # each worker has its own until its delay is over
        for worker in self._workers.values():
            worker.signal(signal.SIGTERM)
        server = self._settings.server
        limit = server.drain_delay_seconds + server.shutdown_grace_seconds + LATE_SECONDS
        _, late = await asyncio.wait(self._keepers, timeout=limit)
        for worker in self._workers.values():
            log.error("process killed", process=worker.number, reason="did not end in time")
            worker.signal(signal.SIGKILL)
        await asyncio.gather(*self._keepers)
        self._watching.cancel()
        self._admin.should_exit = True
        await self._admin_task
        log.info("stopped")
        return self._failed.result() if self._failed.done() else int(bool(late))

    # --- one worker after the other ------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Start a worker, and another one whenever it ends, until the drain."""
        failures = 0
        while not self._draining.is_set():
            started = self._loop.time()
            try:
                worker, reports = await self._spawn(number)
            except OSError as exc:
                served, cause, status, about = False, EXITED, 1, {"error": str(exc)}
            else:
                status = await self._run(worker, reports)
                served = worker.report is not None
                cause = HUNG if worker.hangs else KILLED if status < 0 else EXITED
                about = {"pid": str(worker.process.pid)}
            if self._draining.is_set():
                return
            about |= {"cause": cause, "status": str(status)}
            if not served and not self._all_have_served:
                log.error("process could not start", process=number, **about)
                if not self._failed.done():
                    self._failed.set_result(max(status, 1))
                return
            failures = 0 if self._loop.time() - started > STABLE_SECONDS else failures + 1
            pause = min(FIRST_BACKOFF_SECONDS * 2 ** min(failures - 1, 10), MAX_BACKOFF_SECONDS)
            pause = pause if failures else 0.0
            self._totals.process_restarts.labels(cause).inc()
            log.error("process ended", process=number, restart_seconds=pause, **about)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), pause)

    async def _spawn(self, number: int) -> tuple[_Worker, asyncio.StreamReader]:
        """Start a worker. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            handed = Handed(
                parent=os.getpid(),
                index=number - 1,
                processes=self._count,
                listener=self._public.fileno(),
                loads=self._loads.descriptor,
                control=theirs.fileno(),
            )
            process = await asyncio.create_subprocess_exec(
                *(*self._command, str(handed)),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE if self._log_writer else None,
                pass_fds=(handed.listener, handed.loads, handed.control),
                start_new_session=True,  # Ctrl-C is for the parent alone
            )
        reader, control = await asyncio.open_unix_connection(sock=ours, limit=MAX_REPORT_BYTES)
        control.write(sent(self._file.in_use if self._file else {}))
        return _Worker(number, process, control), reader

    async def _run(self, worker: _Worker, reports: asyncio.StreamReader) -> int:
        """Listen to a worker until it has ended, and return its status."""
        self._workers[worker.number] = worker
        if self._draining.is_set():
            worker.signal(signal.SIGTERM)
        _, _, status = await asyncio.gather(
            self._relay(worker), self._listen_to(worker, reports), worker.process.wait()
        )
        worker.control.close()
        del self._workers[worker.number]
        self._loads.leave(worker.number - 1)
        self._totals.ended(worker.number)
        return status

    async def _listen_to(self, worker: _Worker, reports: asyncio.StreamReader) -> None:
        try:
            while (line := await reports.readline()).endswith(b"\n"):
                first = worker.report is None
                report: Report = orjson.loads(line)
                self._totals.update(worker.number, report["metrics"])
                await worker.take(report)
                if first:
                    self._serves(worker)
        except ConnectionError:
            pass  # it ended before it read what we ask
        except ValueError as exc:  # no JSON, or over MAX_REPORT_BYTES: the others serve on
            log.error("report of a process is not valid", process=worker.number, error=str(exc))  # noqa: TRY400 -- its fault
            worker.signal(signal.SIGKILL)

    def _serves(self, worker: _Worker) -> None:
        log.info("process started", process=worker.number, pid=worker.process.pid)
        serving = sum(each.report is not None for each in self._workers.values())
        if serving == self._count and not self._all_have_served:
            self._all_have_served = True
            log.info("listening", **self._addresses, processes=self._count)

    async def _relay(self, worker: _Worker) -> None:
        """Write a worker's lines: written by several processes, long ones would be torn."""
        stream, writer = worker.process.stderr, self._log_writer
        if stream is None or writer is None:
            return
        rest = b""
        while piece := await stream.read(PIECE_BYTES):
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                writer.write(_marked(line, worker.number))
            writer.flush()
        if rest:
            writer.write_line(_marked(rest, worker.number))

    # --- all of them ---------------------------------------------------------------------

    def _why_not_ready(self) -> str | None:
        """None if any is ready: connections go to whichever process accepts them."""
        reports = [worker.report for worker in self._workers.values() if worker.report]
        reasons = [report["not_ready_because"] for report in reports]
        return None if None in reasons else next(iter(reasons), "no process serves")

    async def _refresh(self) -> None:
        """Ask every worker how it is; what one has said last stands if it does not answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.gather(*(w.fresh() for w in self._workers.values() if w.report))

    async def _watch(self) -> None:
        """Ask for reports all the time, and kill who has not answered for long."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            for worker in self._workers.values():
                worker.ask()
                worker.unanswered += 1
                silent = worker.unanswered * REPORT_SECONDS
                limit = STARTING_SECONDS if worker.report is None else HUNG_SECONDS
                if silent > limit and not worker.hangs:
                    worker.hangs = True
                    log.error("process hangs", process=worker.number, silent_seconds=int(silent))
                    worker.signal(signal.SIGKILL)


def _marked(line: bytes, number: int) -> bytes:
    """A worker's line with its number, as the last field if it is JSON."""
    if line.startswith(b"{") and line.endswith(b"}"):
        return b'%s,"process":%d}\n' % (line[:-1], number)
    return b"[%d] %s\n" % (number, line)
