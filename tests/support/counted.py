"""Work as a number that is the same on any machine, however busy: calls of functions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from cProfile import Profile
from typing import ParamSpec

P = ParamSpec("P")


class Calls:
    """How many there were, of Python's functions and of C's, in this thread."""

    count = 0


@contextmanager
def counting() -> Iterator[Calls]:
    """Count for as long as the block lasts; the number is there after it."""
    calls, profile = Calls(), Profile()
    profile.enable()
    try:
        yield calls
    finally:
        profile.disable()
        calls.count = sum(entry.callcount for entry in profile.getstats())


def calls_of(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> int:
    """What one piece of work takes."""
    with counting() as calls:
        work(*args, **kwargs)
    return calls.count
