"""4: bodies that never come to their end, and the honest posts beside them."""

import threading
from collections.abc import Iterator
from functools import partial

from tests.attacks.rig import MAX_BODY_BYTES, SECONDS, Honest, Row, Watch, attackers, target
from tests.support.wire import Address, Wire, head

MISSING_BYTES = 10
AGAIN_SECONDS = 0.5


def run() -> Iterator[Row]:
    """From 9 and from 64 connections, which begin again when they are cut."""
    begin = head("POST", "/open", f"Content-Length: {MAX_BODY_BYTES}")
    data = begin + b" " * (MAX_BODY_BYTES - MISSING_BYTES)
    for number in (9, 64):
        with target() as it:
            honest = Honest(it.public)
            with attackers(number, partial(_stop_short, it.public, data)), Watch(it) as watch:
                honest.go(SECONDS)
            yield (
                f"{number} connections that lack the last {MISSING_BYTES} bytes",
                f"honest posts: {honest.of_all()}, {honest.milliseconds()}; {watch}",
            )


def _stop_short(address: Address, data: bytes, stop: threading.Event) -> None:
    with Wire(address) as wire:
        wire.send(data)
        while not stop.wait(0.05) and not wire.answered:
            pass
    stop.wait(AGAIN_SECONDS)
