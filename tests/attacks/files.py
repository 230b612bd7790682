"""7: more silent connections than the process may have open files."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

from bridge.errors import BridgeError
from tests.attacks.rig import Row, Target, target
from tests.support.senders import document
from tests.support.wire import Address, Wire, head, post

TIMES = 10
SETTLE_SECONDS = 1.0


def run() -> Iterator[Row]:
    """With a soft limit that can be raised, and with hard ones."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    for limit, connections in (("1024:", 1100), ("1024:1024", 1100), ("64:64", 100)):
        name = f"{connections} silent connections, ulimit -n {limit}"
        try:
            with target(prefix=("prlimit", f"--nofile={limit}")) as it:
                yield name, _besiege(it, connections)
        except (BridgeError, TimeoutError) as exc:
            yield name, f"did not come up: {''.join(exc.__notes__)[-200:]}"


def _besiege(it: Target, connections: int) -> str:
    with ExitStack() as stack:
        connected = 0
        for _ in range(connections):
            try:
                stack.enter_context(socket.create_connection(it.public, timeout=2))
            except OSError:
                continue
            connected += 1
        time.sleep(SETTLE_SECONDS)
        livez = sum(_status(it.admin, head("GET", "/livez")) == 200 for _ in range(TIMES))
        data = post("/open", document("1"))
        posts = sum(_status(it.public, data) == 200 for _ in range(TIMES))
    return f"{connected} connected; then /livez {livez} of {TIMES}, posts {posts} of {TIMES}"


def _status(address: Address, data: bytes) -> int | None:
    try:
        with Wire(address, timeout=1.0) as wire:
            wire.send(data)
            return wire.reply().status
    except (OSError, EOFError):
        return None
