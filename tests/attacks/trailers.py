"""1: what stands after the last chunk, taken for headers."""

import shutil
from collections.abc import Iterator

from tests.attacks.rig import ALLOWED, ENDPOINTS, TOKEN, Row, target
from tests.support.front_proxies import FrontProxy, plain
from tests.support.senders import document
from tests.support.wire import Address, Wire, chunked_post

TIMES = 5
PROVIDER, STRANGER = "127.0.0.5", "127.0.0.6"


def run() -> Iterator[Row]:
    """Each claim five times, directly and through two proxies."""
    with target(server={"trusted_proxies": ["127.0.0.1"]}) as it:
        claims = {
            "X-Forwarded-For": ("/allowed", f"X-Forwarded-For: {ALLOWED}"),
            "Authorization": ("/token", f"Authorization: Bearer {TOKEN}"),
            "Content-Encoding": ("/open", "Content-Encoding: gzip"),
        }
        for name, (path, line) in claims.items():
            yield f"trailer {name}", _changed(it.public, path, line, "")
    endpoints = [
        e | {"auth": {"allow": [PROVIDER]}} if e["name"] == "allowed" else e for e in ENDPOINTS
    ]
    for program in ("haproxy", "nginx"):
        found = shutil.which(program, path="/usr/sbin:/usr/bin:/usr/local/sbin")
        if found is None:
            yield f"through {program}", "not tried: it is not installed"
            continue
        with (
            target(server={"trusted_proxies": ["127.0.0.1"]}, endpoints=endpoints) as it,
            FrontProxy(found, plain(found, it.public)) as proxy,
        ):
            line = f"X-Forwarded-For: {PROVIDER}"
            yield f"through {program}", _changed(proxy.address, "/allowed", line, STRANGER)


def _changed(address: Address, path: str, line: str, source: str) -> str:
    honest = _status(address, path, "", source)
    statuses = [_status(address, path, f"{line}\r\n", source) for _ in range(TIMES)]
    changed = [status for status in statuses if status != honest]
    return f"{len(changed)} of {TIMES} changed, from {honest} to {changed[0] if changed else '-'}"


def _status(address: Address, path: str, trailers: str, source: str) -> int:
    with Wire(address, source=source) as wire:
        wire.send(chunked_post(path, document("1"), trailers=trailers))
        return wire.reply().status
