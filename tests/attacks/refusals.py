"""14: refusals that the sender, who sends everything before it reads, does not see."""

from collections.abc import Iterator

from bridge.demo.child import wait_until
from tests.attacks.rig import Row, target
from tests.support.senders import document
from tests.support.wire import Address, Wire, chunked_post, post

Request = tuple[str, str, tuple[str, ...]]  # method, path, more lines of the head

SIZES = (5_000_000, 50_000_000)
REFUSED: dict[int, Request] = {
    401: ("POST", "/token", ()),
    403: ("POST", "/allowed", ()),
    404: ("POST", "/elsewhere", ()),
    405: ("PUT", "/open", ()),
    413: ("POST", "/open", ()),
    415: ("POST", "/open", ("Content-Encoding: gzip",)),
}
FORMS = {"with a length": post, "chunked": chunked_post}


def run() -> Iterator[Row]:
    """Every status, size and form."""
    with target() as it:
        for size in SIZES:
            for form in FORMS:
                seen = {
                    status: _see(it.public, form, size, status, what)
                    for status, what in REFUSED.items()
                }
                yield _name(size, form), _words(seen)
    with target(server={"max_in_flight": 1}, kafka={"publish_timeout_seconds": 30}) as it:
        it.broker.freeze()
        with Wire(it.public) as waiting:
            waiting.send(post("/open", document("1")))
            wait_until(lambda: it.in_flight().startswith("1 posts"), "the post is in flight")
            for size in SIZES:
                seen = {503: _see(it.public, "chunked", size, 503, REFUSED[413])}
                yield f"{_name(size, 'chunked')}, full", _words(seen)
        it.broker.thaw()


def _name(size: int, form: str) -> str:
    return f"{size // 1_000_000} MB, {form}"


def _words(seen: dict[int, str]) -> str:
    missed = ", ".join(f"{status}: {what}" for status, what in seen.items() if what)
    return f"{sum(not what for what in seen.values())} of {len(seen)} seen" + (
        f" ({missed})" if missed else ""
    )


def _see(address: Address, form: str, size: int, status: int, what: Request) -> str:
    """What came instead of the status; empty where it came."""
    method, path, lines = what
    data = FORMS[form](path, b"x" * size, *lines).replace(b"POST", method.encode(), 1)
    try:
        with Wire(address) as wire:
            wire.send(data)
            came = wire.reply().status
    except (OSError, EOFError) as exc:
        return type(exc).__name__
    return "" if came == status else str(came)
