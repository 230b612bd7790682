"""8: clients that say that nothing more comes, and wait for their answer."""

from collections.abc import Iterator

from bridge.demo.child import wait_until
from tests.attacks.rig import Row, Target, target
from tests.support.senders import document
from tests.support.wire import Wire, chunked_post, head, post


def run() -> Iterator[Row]:
    """After the body, on both listeners."""
    with target() as it:
        for name, make in (("with a length", post), ("chunked", chunked_post)):
            mark = f"half-closed-{make.__name__}"
            with Wire(it.public) as wire:
                wire.send(make("/open", document("1"), f"X-Request-Id: {mark}"))
                wire.half_close()
                came = wire.rest()

            statuses = _logged(it, mark)
            yield f"half-closed, {name}", f"{len(came)} bytes came back, the log says {statuses}"
        with Wire(it.admin) as wire:
            wire.send(head("GET", "/livez"))
            wire.half_close()
            yield "half-closed, /livez", f"{len(wire.rest())} bytes came back"


def _logged(it: Target, mark: str) -> str:
    """The status that the request's line has."""
    wait_until(lambda: mark in it.gateway.output, "the log has the request")
    lines = [line for line in it.gateway.logs() if line.get("request_id") == mark]
    return ", ".join(str(line.get("status")) for line in lines)
