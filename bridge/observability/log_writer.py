"""Where the log's lines go: a descriptor whose reader may be slow or gone, or its disk full.

Nobody waits for it and nobody hears of its errors: what cannot be written now is kept for later,
up to a limit, and what cannot be kept is counted.
"""

import asyncio
import os
import select
import threading
import time
from collections.abc import Callable

FLUSH_SECONDS = 0.02
RETRY_SECONDS = 0.005  # a pipe holds 64 KiB, so that 13 MB/s get through it
END_SECONDS = 1.0
# The ids of all states in flight, 50,000 by default, which an outage of Kafka fails at once.
MAX_WAITING_BYTES = 4 * 1024 * 1024
PIECE_BYTES = select.PIPE_BUF  # what a pipe that is ready takes without a wait


class LogWriter:
    """A file of lines that go out together, `FLUSH_SECONDS` after the first of them was written.

    A line of each request, written on its own, would cost it more than all else about the line.
    Where no loop is running they go out at once, as far as the descriptor takes them. `on_drop` is
    called with the number of lines that are dropped, by one thread at a time, and `tell` with that
    of all of them, once others go out again; it may write one.
    """

    def __init__(self, descriptor: int, tell: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._tell = tell
        self.on_drop: Callable[[int], None] = _nobody
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)
        self._lines: list[bytes] = []
        self._begun = memoryview(b"")  # lines of which a part may be out
        self._torn = False  # whether what is out ends within a line
        self._size = 0  # of all that waits
        self._dropped = 0  # lines that nobody was told of yet
        self._due_in: asyncio.AbstractEventLoop | None = None
        self._taking = threading.Lock()
        self._writing = threading.Lock()

    def write(self, line: bytes) -> int:
        """Take a line, or drop it if too much waits already."""
        with self._taking:
            if self._size > MAX_WAITING_BYTES:
                self._drop(1)
            else:
                self._lines.append(line)
                self._size += len(line)
        return len(line)

    def write_line(self, line: bytes) -> None:
        """Take a line, to go out soon."""
        self.write(line)
        self.flush()

    def flush(self) -> None:
        """Have all that was written go out soon."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._pour()
            return
        if self._due_in is not loop:  # one that has ended flushes no more
            self._call_in(loop, FLUSH_SECONDS)

    def end(self) -> None:
        """Write what is left; if nobody takes it, for no longer than END_SECONDS."""
        self._pour(END_SECONDS)

    def _call_in(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._due_in = loop
        loop.call_later(seconds, self._on_time, loop)

    def _on_time(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_in = None
        self._pour()
        if self._size and self._due_in is None:
            self._call_in(loop, RETRY_SECONDS)

    def _pour(self, seconds: float = 0.0) -> None:
        """Write as much as goes without a wait, or within so many seconds."""
        if not self._writing.acquire(blocking=False):
            return  # another thread is at it
        try:
            wrote = self._write_until(time.monotonic() + seconds)
        except BlockingIOError:
            return  # somebody else has just filled it
        except OSError:
            self._give_up()
            return
        finally:
            self._writing.release()
        if wrote and self._dropped and not self._size:
            dropped, self._dropped = self._dropped, 0
            self._tell(dropped)

    def _write_until(self, deadline: float) -> bool:
        wrote = False
        while self._size and self._ready.poll(max(deadline - time.monotonic(), 0) * 1000):
            if not self._begun:
                self._begin()
            written = os.write(self._descriptor, self._begun[:PIECE_BYTES])
            self._torn = self._begun[written - 1] != ord("\n")
            self._begun = self._begun[written:]
            with self._taking:
                self._size -= written
            wrote = True
        return wrote

    def _begin(self) -> None:
        with self._taking:
            # What follows a line that could not be ended begins one of its own.
            self._begun = memoryview(b"\n" * self._torn + b"".join(self._lines))
            self._size += self._torn
            self._lines.clear()

    def _give_up(self) -> None:
        """Drop what waits: the descriptor is refusing it."""
        with self._taking:
            begun = sum(map(bool, bytes(self._begun).split(b"\n")))
            self._drop(begun + len(self._lines))
            self._begun = memoryview(b"")
            self._lines.clear()
            self._size = 0

    def _drop(self, lines: int) -> None:
        self._dropped += lines
        self.on_drop(lines)


def _nobody(_: int) -> None:
    """For a log whose lines nobody counts."""
