"""11: heads that say something else of the body than the parser takes it for."""

from collections.abc import Iterator

from tests.attacks.rig import Row, target
from tests.support.senders import document
from tests.support.wire import Wire, chunk, head, post

UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA")


def run() -> Iterator[Row]:
    """Transfer-Encoding, and a request for another protocol behind another request."""
    with target() as it:
        for value in ("gzip, chunked", "gzip", "chunked"):
            with Wire(it.public, timeout=3.0) as wire:
                begin = head("POST", "/open", f"Transfer-Encoding: {value}")
                wire.send(begin + chunk(document("1")) + b"0\r\n\r\n")
                yield f"Transfer-Encoding: {value}", _statuses(wire, 1)
        with Wire(it.public, timeout=3.0) as wire:
            first, second = post("/open", document("1")), post("/open", document("2"), *UPGRADE)
            wire.send(first + second)
            yield "Upgrade: h2c behind another request, in one piece", _statuses(wire, 2)


def _statuses(wire: Wire, number: int) -> str:
    statuses = []
    for _ in range(number):
        try:
            statuses.append(str(wire.reply().status))
        except (OSError, EOFError) as exc:
            statuses.append(type(exc).__name__)
    return ", ".join(statuses)
