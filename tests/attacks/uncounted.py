"""2: bytes that are no body's: trailers without an end, and chunks of one byte."""

import threading
from collections.abc import Callable, Iterator

from tests.attacks.rig import TOKEN, Honest, Row, Target, beside, target
from tests.support.senders import document
from tests.support.wire import Wire, chunk, chunked_post, head

CONNECTIONS = 4
BEARER = f"Authorization: Bearer {TOKEN}"
TRAILER = b"x: " + b"y" * 60 + b"\r\n"
BLOCKS = {
    "trailers": (TRAILER * 1000, chunked_post("/token", document("1")).removesuffix(b"\r\n")),
    "chunks of one byte": (
        chunk(b" ") * 10_000,
        head("POST", "/token", "Transfer-Encoding: chunked"),
    ),
}


def run() -> Iterator[Row]:
    """Each from four connections, without a token and with one."""
    for name, (block, begin) in BLOCKS.items():
        for lines, again, who in (
            ((), False, "without a token"),
            ((), True, "without a token, begun again when answered"),
            ((BEARER,), True, "with a token"),
        ):
            head_lines = "".join(f"\r\n{line}" for line in lines).encode() + b"\r\n"
            first = begin.replace(b"\r\n", head_lines, 1)
            with target() as it:
                honest = Honest(it.public, "/token", (BEARER,))
                attack = _endless(it, first, block, again=again)
                yield f"{name}, {who}", beside(it, CONNECTIONS, attack, honest)


def _endless(
    it: Target, first: bytes, block: bytes, *, again: bool
) -> Callable[[threading.Event], None]:
    """Send on whatever is answered, or `again`, on another connection, as soon as it is."""

    def attack(stop: threading.Event) -> None:
        with Wire(it.public, timeout=1.0) as wire:
            wire.send(first)
            while not stop.is_set() and not (again and wire.answered):
                wire.send(block)

    return attack
