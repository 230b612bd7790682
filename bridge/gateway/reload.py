"""Reads the configuration again while the gateway serves: on SIGHUP, and when a file has changed.

All of it is taken up or none: whatever is wrong, what was read before stays in use. How it is taken
up is the caller's business.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import structlog

from bridge.blocking import unblocked
from bridge.config.changes import Changes, changes
from bridge.config.file import ConfigFile, Contents
from bridge.config.settings import Settings
from bridge.config.warnings import warnings
from bridge.errors import BridgeError
from bridge.observability.metrics import REFUSED, RELOADED

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0  # as long a file must have stayed as it is: one half written is not read
NEEDS_RESTART = "cannot change while the gateway runs: restart it"


class Reloads:
    """Follows one configuration.

    `use` takes settings up, in one step or not at all; `count` is called with the result of each
    reload.
    """

    def __init__(
        self,
        file: ConfigFile,
        settings: Settings,
        use: Callable[[Settings], Awaitable[None]],
        count: Callable[[str], None],
        *,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._file = file
        self._settings = settings
        self._use = use
        self._count = count
        self._poll_seconds = poll_seconds
        self._asked = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self, also: Callable[[], object] = lambda: None) -> AsyncIterator[None]:
        """Reload on SIGHUP, and after changes, while the block lasts; `also` hears of SIGHUP."""

        def ask() -> None:
            self._asked.set()
            also()

        with _on_hangup(ask):
            task = asyncio.create_task(self._run(), name="reload")
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait({task})

    async def _run(self) -> None:
        while True:
            try:
                await self._wait()
                await self._reload()
            except Exception:  # whatever it is, what is in use goes on
                log.exception("configuration not reloaded")
                self._count(REFUSED)
                await asyncio.sleep(self._poll_seconds)

    async def _wait(self) -> None:
        """Wait until somebody asks, or a file has changed, and not again since the last look."""
        seen: Contents = self._file.read
        while not await self._is_asked():
            before, seen = seen, await unblocked(self._file.on_disk, "reload")
            if before == seen != self._file.read:
                return

    async def _is_asked(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):  # wait_for can lose a cancellation
                await self._asked.wait()
        asked = self._asked.is_set()
        self._asked.clear()
        return asked

    async def _reload(self) -> None:
        try:
            # A large file takes a second to read.
            settings = await unblocked(self._file.load, "reload")
        except BridgeError as exc:  # ConfigError, or what else the program was told does not fit
            self._refuse(str(exc).splitlines())
            return
        differences = changes(self._settings, settings)
        if differences.refused:
            file = self._file.path
            self._refuse([f"{file}: {key}: {NEEDS_RESTART}" for key in differences.refused])
            return
        if differences:
            await self._use(settings)
        self._tell(differences, settings)
        self._settings = settings
        self._file.take_up()
        self._count(RELOADED)

    def _refuse(self, problems: list[str]) -> None:
        log.error("configuration not reloaded; the former one stays in use", problems=problems)
        self._count(REFUSED)

    def _tell(self, differences: Changes, settings: Settings) -> None:
        if not differences:
            log.info("configuration reloaded: nothing has changed")
            return
        keys = ("changed", "added", "removed")
        log.info("configuration reloaded", **{key: getattr(differences, key) for key in keys})
        before = list(warnings(self._settings))
        for warning in warnings(settings):
            if warning not in before:
                log.warning(warning.what, **warning.fields)


@contextlib.contextmanager
def _on_hangup(call: Callable[[], object]) -> Iterator[None]:
    """Have SIGHUP call this, and never end the process by it, whenever it comes.

    The loop's own way would leave a moment in which it does.
    """
    loop = asyncio.get_running_loop()
    former = signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(call))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, former)
