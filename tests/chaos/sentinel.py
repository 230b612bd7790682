"""Records when this machine stood still: a process that wakes every 10 ms and notes the gaps.

What it says excuses late answers, so it must do nothing else.
"""

import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

WAKE_SECONDS = 0.01
NOTED_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class Stall:
    """When the machine did not run what was due, on the monotonic clock that processes share."""

    started: float
    ended: float

    def within(self, started: float, ended: float) -> float:
        """How many seconds of it fall into a time."""
        return max(0.0, min(self.ended, ended) - max(self.started, started))


class Sentinel:
    """The process, for as long as the `with` block lasts; it ends with its parent too."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "stalls"
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with self._file.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=out
            )
        while not self._file.stat().st_size:  # it notes its first moment
            time.sleep(WAKE_SECONDS)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._process as process:
            process.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stalls(self) -> list[Stall]:
        """All that it has noted so far, in order."""
        lines = self._file.read_text().split("\n")[:-1]
        noted = [Stall(*map(float, line.split())) for line in lines]
        return [stall for stall in noted if stall.ended > stall.started]


def stalled_seconds(stalls: Sequence[Stall], started: float, ended: float) -> float:
    """How long the machine stood still within a time."""
    return sum(stall.within(started, ended) for stall in stalls)


def _watch() -> None:
    parent = sys.stdin.fileno()
    due = time.monotonic()
    _note(due, due)
    while True:
        due = time.monotonic() + WAKE_SECONDS
        time.sleep(WAKE_SECONDS)
        now = time.monotonic()
        if now - due > NOTED_SECONDS:
            _note(due, now)
        if _ended(parent):
            return


def _note(due: float, now: float) -> None:
    sys.stdout.write(f"{due} {now}\n")
    sys.stdout.flush()


def _ended(parent: int) -> bool:
    """Whether nobody holds the other end any more."""
    return bool(select.select([parent], [], [], 0)[0])


if __name__ == "__main__":
    _watch()
