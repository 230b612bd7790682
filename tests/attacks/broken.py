"""13: what the HTTP parser refuses, and who learns of it."""

import time
from collections.abc import Iterator

from tests.attacks.rig import Row, Target, target
from tests.support.wire import Wire, head

SLOW_SECONDS = 15.0
SETTLE_SECONDS = 0.5

CASES = {
    "a space in the URL": b"POST /open it HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "two lengths": head("POST", "/open", "Content-Length: 1", "Content-Length: 2") + b"xx",
    "TLS on the plain port": bytes.fromhex("16030100c8010000c40303") + b"x" * 194,
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "a head of 70 KB": head("POST", "/open", "X: " + "y" * 70_000),
    "a head that is too slow": b"POST /open HTTP/1.1\r\nHost",
}


def run() -> Iterator[Row]:
    """What is answered, counted and logged."""
    with target() as it:
        for name, data in CASES.items():
            yield name, _case(it, data)


def _case(it: Target, data: bytes) -> str:
    counted, lines = it.answers(), len(_complaints(it))
    with Wire(it.public, timeout=SLOW_SECONDS) as wire:
        wire.send(data)
        try:
            status = str(wire.reply().status)
        except (OSError, EOFError, ValueError, IndexError) as exc:
            status = type(exc).__name__
    time.sleep(SETTLE_SECONDS)
    more = it.answers() - counted
    words = ", ".join(f"{n} {code}" for code, n in more.items()) or "nothing"
    logged = _complaints(it)[lines:]
    peer = logged[-1].get("peer") if logged else None
    return f"answered {status}; counted {words}; the log: {peer or 'no peer'}"


def _complaints(it: Target) -> list[dict[str, object]]:
    return [line for line in it.gateway.logs() if line.get("peer")]
