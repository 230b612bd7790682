# ruff: noqa: INP001 - no package: it is imported by its bare name
"""In the gateway of a calm run: tells once a second how many tasks its event loop has.

Python imports a module of this name by itself; the file is $SMS_CHAOS_TASKS with the process's id.
"""

import asyncio
import os
import threading
import time
from pathlib import Path

import uvloop

SECONDS = 1.0


class _Telling(uvloop.Loop):
    def __init__(self) -> None:
        super().__init__()
        threading.Thread(target=_tell, args=(self,), daemon=True).start()


def _tell(loop: asyncio.AbstractEventLoop) -> None:
    file = Path(f"{os.environ['SMS_CHAOS_TASKS']}.{os.getpid()}")
    new = file.with_name(f"{file.name}.new")
    while True:
        new.write_text(str(len(asyncio.all_tasks(loop))))
        new.rename(file)
        time.sleep(SECONDS)


if "SMS_CHAOS_TASKS" in os.environ:
    uvloop.Loop = _Telling  # type: ignore[misc]  # what uvloop itself makes a loop of
