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
        for lines, who in (((), "without a token"), ((BEARER,), "with a token")):
            with target() as it:
                first = begin.replace(
                    b"\r\n", "".join(f"\r\n{x}" for x in lines).encode() + b"\r\n", 1
                )
                honest = Honest(it.public, "/token", (BEARER,))
                yield f"{name}, {who}", beside(it, CONNECTIONS, _endless(it, first, block), honest)


def _endless(it: Target, first: bytes, block: bytes) -> Callable[[threading.Event], None]:
    def attack(stop: threading.Event) -> None:
        with Wire(it.public, timeout=1.0) as wire:
            wire.send(first)
            while not stop.is_set():
                wire.send(block)

    return attack
