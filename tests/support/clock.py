"""A wall clock that can be moved under a program while it runs: libfaketime's.

The monotonic clock goes on as it is, as it does when the kernel's wall clock is set.
"""

from collections.abc import Mapping
from pathlib import Path

LIBRARIES = ("/usr/lib", "/usr/local/lib", "/opt/homebrew/lib")


class FaketimeUnavailableError(Exception):
    """This machine has no libfaketime."""


class WallClock:
    """What a program sees that is started with `environment`: `file` holds the offset."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._library = _library()
        self.move(0)

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",  # each look at the clock is one at the file
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    @property
    def environment_of_a_broker(self) -> Mapping[str, str]:
        """For a JVM, which asks for the time so often that the file is looked at once a second.

        It waits on the monotonic clock by itself: libfaketime's fix of that stops it for good.
        """
        rarely = {
            **self.environment,
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }
        del rarely["FAKETIME_NO_CACHE"]
        return rarely

    def move(self, seconds: int) -> None:
        """Set it to so many seconds from the true time, in one step."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}s\n")
        new.rename(self._file)


def _library() -> Path:
    for directory in LIBRARIES:
        for found in sorted(Path(directory).glob("**/faketime/libfaketimeMT.so.1")):
            return found
    raise FaketimeUnavailableError("install Debian's package faketime")
