"""What may block without end holds up neither the loop nor the end of the process."""

import subprocess
import sys
import threading

import pytest

from bridge.blocking import unblocked

HANGS = """
import asyncio, time, uvloop
from bridge.blocking import unblocked

async def main():
    hanging = asyncio.create_task(unblocked(lambda: time.sleep(600), "hangs"))
    print(await unblocked(lambda: "beside it", "ends"))
    hanging.cancel()

uvloop.run(main())
"""


async def test_it_returns_and_raises_what_the_work_does() -> None:
    assert await unblocked(lambda: threading.current_thread().name, "of-its-own") == "of-its-own"
    with pytest.raises(ZeroDivisionError):
        await unblocked(lambda: 1 // 0, "fails")


def test_the_process_ends_whatever_hangs() -> None:
    """The threads of asyncio and of executors are waited for."""
    command = [sys.executable, "-c", HANGS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "beside it\n", "")
