"""4b: large documents of one sender, and the middling ones of another."""

import threading
from collections.abc import Callable, Iterator
from itertools import count

from tests.attacks.rig import SECONDS, Honest, Row, Watch, attackers, target
from tests.support.wire import Wire, post

CONNECTIONS = 6
LARGE_STATES, LARGE_BYTES = 10_000, 3_500_000
MIDDLING_STATES, MIDDLING_BYTES = 400, 41_000


def run() -> Iterator[Row]:
    """Six connections of valid documents without a pause."""
    numbers = count()
    with target() as it:

        def attack(stop: threading.Event) -> None:
            with Wire(it.public, timeout=30) as wire:
                while not stop.is_set():
                    name = f"large{next(numbers)}"
                    wire.send(post("/open", states(name, LARGE_STATES, LARGE_BYTES)))
                    if wire.reply().headers.get("connection") == "close":
                        return

        alone, honest = (Honest(it.public, body=_middling(who)) for who in ("alone", "beside"))
        alone.go(2.0)
        with attackers(CONNECTIONS, attack), Watch(it) as watch:
            honest.go(SECONDS)
        large = it.answers()[200] - alone.statuses[200] - honest.statuses[200]
        beside = f"beside {honest.milliseconds()}, {honest.of_all()}; {watch}"
        yield (
            "posts of 41 kB beside six connections of 3.5 MB",
            f"alone {alone.milliseconds()}; {beside}; {large} large ones were 200",
        )


def _middling(who: str) -> Callable[[int], bytes]:
    return lambda n: states(f"{who}{n}", MIDDLING_STATES, MIDDLING_BYTES)


def states(name: str, number: int, size: int) -> bytes:
    """A valid document of so many states and about so many bytes."""
    one = size // number - 72
    each = (
        f'<state id_sms="{name}.{n:05}" time="2011-01-01 12:57:46" note="{"x" * one}">read</state>'
        for n in range(number)
    )
    return f"<response>{''.join(each)}</response>".encode()
