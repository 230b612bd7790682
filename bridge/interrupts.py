"""What Ctrl-C does to a command: it ends with 130, and never with a traceback.

Imported before all else, so it imports next to nothing itself.
"""

import atexit
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_INTERRUPTED = 130  # as shells say of SIGINT


def leave_at_once() -> None:
    """Have Ctrl-C end the process at once, even within an import, or while Python clears away.

    Where SIGINT is ignored, as a shell has it for what runs in its background, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
        # As the last thing, once all threads have ended: Python then gives the signal its own
        # action back, which would end the process by it in place of its status.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt inside: for work that ends in order, or tells how far."""
    before = signal.getsignal(signal.SIGINT)
    if before is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(*_: object) -> None:
    os._exit(EXIT_INTERRUPTED)
