"""What one large body costs, body to answer, in a process of its own: `… cost NAME` prints it.

Both figures are the same on any machine, however busy: the calls of functions that its reading
takes, and whether it is answered while the process may grow by no more than `--megabytes`. The
kernel enforces that. Its peaks are of no use here: `ru_maxrss` stays what the parent had before
the exec, so that under a large one nothing ever seems to be added.
"""

import argparse
import asyncio
import json
import resource
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge.config.settings import Settings
from bridge.gateway import app as applications
from bridge.gateway import reader
from bridge.observability import logging as logs
from bridge.observability.metrics import Metrics
from bridge.parse import limits
from tests.fuzz import Shape
from tests.hostile.corpus import LARGE, LARGE_BYTES, STATE
from tests.support.asgi import Reply, request
from tests.support.counted import counting
from tests.support.fakes import RecordingPublisher

WARM_UP = f"<response>{STATE * 2000}</response>".encode()
MEGABYTE = 2**20


class Inline(Executor):
    """In place of the thread that reads large documents: all is done, and counted, in one."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take what a pool of threads is given."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Do it now."""
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except MemoryError:
            pass  # what its traceback holds must go first: the interpreter needs memory to go on
        except BaseException as exc:  # noqa: BLE001 -- as the pool does
            future.set_exception(exc)
        if not future.done():
            future.set_exception(MemoryError("too little for this document"))
        return future


@contextmanager
def growth_limited(megabytes: float) -> Iterator[None]:
    """Let the process take no more than so much memory on top of what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + int(megabytes * MEGABYTE)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def main() -> None:
    """Print what the body of that name costs."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.cost", description=__doc__)
    parser.add_argument("name", choices=LARGE)
    parser.add_argument("--megabytes", type=float, required=True)
    parser.add_argument("--any-depth", action="store_true", help="do without the limit on nesting")
    options = parser.parse_args()
    if options.any_depth:
        limits.MAX_DEPTH = limits.MAX_ELEMENTS = sys.maxsize
    make, _ = LARGE[options.name]
    body = make()
    assert len(body) <= LARGE_BYTES, len(body)
    reader.ThreadPoolExecutor = Inline  # type: ignore[assignment,attr-defined]
    logs.configure("info", "json")
    json.dump(asyncio.run(_cost(body, options.megabytes)), sys.stdout)


def _patient() -> Settings:
    """As shipped, but for the deadline: a busy machine may take its time."""
    settings = Shape().settings()
    kafka = settings.kafka.model_copy(update={"publish_timeout_seconds": 3600.0})
    return settings.model_copy(update={"kafka": kafka})


async def _cost(body: bytes, megabytes: float) -> dict[str, object]:
    app = applications.public_app(
        _patient(), RecordingPublisher(), Metrics(), applications.Health(lambda: None)
    )

    async def post(body: bytes) -> Reply:
        reply = await request(app, body)
        assert reply is not None
        return reply

    await post(WARM_UP)
    with growth_limited(megabytes):
        within = await post(body)
    with counting() as calls:
        reply = await post(body)
    return {"status": reply.status, "calls": calls.count, "suffices": within == reply}


if __name__ == "__main__":
    main()
