"""What one large body costs, body to answer, in a process of its own: `… cost NAME` prints it.

Seconds are of this process's own work on a processor, the least of a few runs; megabytes are
what the largest run added to what it held before.
"""

import asyncio
import json
import resource
import sys
import time

from bridge.gateway.app import Health, public_app
from bridge.observability.metrics import Metrics
from tests.asgi import Reply, request
from tests.fakes import RecordingPublisher
from tests.fuzz import Shape, quiet
from tests.hostile.corpus import DOCUMENT, LARGE, LARGE_BYTES

RUNS = 3
GIVE_UP_SECONDS = 5.0


def main(name: str) -> None:
    make, _ = LARGE[name]
    body = make()
    assert len(body) <= LARGE_BYTES, len(body)
    with quiet():
        json.dump(asyncio.run(_measure(body)), sys.stdout)


async def _measure(body: bytes) -> dict[str, float]:
    await _post(DOCUMENT.encode())
    before = _peak()
    took: list[float] = []
    while len(took) < RUNS and sum(took) < GIVE_UP_SECONDS:
        started = time.process_time()
        reply = await _post(body)
        took.append(time.process_time() - started)
    megabytes = (_peak() - before) / 1024
    return {"seconds": min(took), "megabytes": megabytes, "status": reply.status}


async def _post(body: bytes) -> Reply:
    shape = Shape()
    app = public_app(shape.settings(), RecordingPublisher(), Metrics(), Health(lambda: None))
    reply = await request(app, body)
    assert reply is not None
    return reply


def _peak() -> int:
    """The most memory that this process has held so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(sys.argv[1])
