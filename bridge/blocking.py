"""Runs beside the event loop what may block without end, such as the reading of a file.

Unlike `asyncio.to_thread`, whose threads the process waits for before it ends: there, a network's
file system that hangs would keep it from ending for as long.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def unblocked(work: Callable[[], T], name: str) -> T:
    """What `work` returns or raises, from a thread of that name which ends with the process."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if answer.done():  # whoever asked has gone
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # there is one without an error

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as exc:  # noqa: BLE001 -- for whoever waits, whatever it is
            error = exc
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await answer
