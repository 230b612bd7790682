# ruff: noqa: INP001 - no package: it is imported by its bare name
"""In the gateway of a calm run: tells once a second how many tasks its event loop has.

Python imports a module of this name by itself; the file is $SMS_CHAOS_TASKS with the process's id.
"""

import asyncio
import gc
import os
import threading
import time
from pathlib import Path

SECONDS = 1.0


def _loops() -> list[asyncio.AbstractEventLoop]:
    return [each for each in gc.get_objects() if isinstance(each, asyncio.AbstractEventLoop)]


def _tell(file: Path) -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    while True:
        time.sleep(SECONDS)
        loops = loops or _loops()
        new = file.with_suffix(".new")
        new.write_text(str(sum(len(asyncio.all_tasks(loop)) for loop in loops)))
        new.rename(file)


if "SMS_CHAOS_TASKS" in os.environ:
    told = Path(f"{os.environ['SMS_CHAOS_TASKS']}.{os.getpid()}")
    threading.Thread(target=_tell, args=(told,), daemon=True).start()
