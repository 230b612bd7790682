"""The standard streams of the program: all three descriptors taken, and no traceback of theirs.

What cannot be written to standard error is dropped; what cannot be written to standard output
ends the command with one line that says so.
"""

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ERROR_SECONDS = 1.0  # for a reader who is slow
_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2


def prepare() -> None:
    """Make ready, before anything else opens a descriptor."""
    _take_descriptors()
    output = io.FileIO(_STANDARD_OUTPUT, "w", closefd=False)
    sys.stdout = _text(_Output, output, sys.stdout)
    sys.stderr = _text(io.TextIOWrapper, _Error(_STANDARD_ERROR, "w", closefd=False), sys.stderr)


def _take_descriptors() -> None:
    """Put /dev/null in the place of each that the program was started without.

    Else the next file or socket gets its number: others would write their lines to it, and libuv
    aborts the process if it closes a descriptor of its own with such a number.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)


class _Output(io.TextIOWrapper):
    """Sees errors here and not at the descriptor: interrupted there, a line is written twice."""

    def write(self, text: str, /) -> int:
        """Write, or end the program."""
        with _told():
            return super().write(text)

    def flush(self) -> None:
        """Write what is left, or end the program."""
        with _told():
            super().flush()


@contextmanager
def _told() -> Iterator[None]:
    """Say in one line that the output cannot be written; a closed pipe is the caller's to see."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STANDARD_OUTPUT)  # Python flushes once more
        why = os.strerror(exc.errno or 0)
        raise SystemExit(f"sms-bridge: cannot write the output: {why}") from exc


class _Error(io.FileIO):
    _patience = ERROR_SECONDS

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write, or do without: what is said of an error must not hide it, nor its status."""
        ready = select.poll()
        ready.register(self.fileno(), select.POLLOUT)
        try:
            if ready.poll(self._patience * 1000):
                return super().write(memoryview(data)[: select.PIPE_BUF])  # no wait for these
            self._patience = 0.0
        except OSError:
            pass
        return memoryview(data).nbytes


def _text(kind: type[io.TextIOWrapper], raw: io.FileIO, stream: TextIO | None) -> io.TextIOWrapper:
    return kind(
        io.BufferedWriter(raw),
        encoding=stream.encoding if stream else None,
        errors=stream.errors if stream else "backslashreplace",
        line_buffering=raw.fileno() == _STANDARD_ERROR or raw.isatty(),
    )
