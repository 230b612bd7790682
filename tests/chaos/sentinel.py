"""Records when this machine stood still: a process that wakes every 10 ms and notes the gaps.

What it says excuses late answers, so it must do nothing else.
"""

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
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._process as process:
            process.kill()

    def stalls(self) -> list[Stall]:
        """All that it has noted so far, in order."""
        lines = self._file.read_text().split("\n")[:-1]
        return [Stall(*map(float, line.split())) for line in lines]


def stalled_seconds(stalls: Sequence[Stall], started: float, ended: float) -> float:
    """How long the machine stood still within a time."""
    return sum(stall.within(started, ended) for stall in stalls)


def _watch() -> None:
    parent = sys.stdin.fileno()
    due = time.monotonic() + WAKE_SECONDS
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        now = time.monotonic()
        if now - due > NOTED_SECONDS:
            sys.stdout.write(f"{due} {now}\n")
            sys.stdout.flush()
            if _ended(parent):
                return
        due = now + WAKE_SECONDS


def _ended(parent: int) -> bool:
    import select  # noqa: PLC0415

    return bool(select.select([parent], [], [], 0)[0])


if __name__ == "__main__":
    _watch()
