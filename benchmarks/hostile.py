"""What each hostile body costs beside an honest document of its size, in turns.

Time of a processor, body to answer, in a process of its own without HTTP and Kafka.
"""

import argparse
import asyncio
import json
import sys
import time

from bridge.gateway.app import Health, public_app
from bridge.observability.metrics import Metrics
from tests.fuzz import Shape, quiet
from tests.hostile.corpus import LARGE
from tests.support.asgi import request
from tests.support.fakes import RecordingPublisher

HONEST = "full_states"


async def _seconds(body: bytes) -> float:
    app = public_app(Shape().settings(), RecordingPublisher(), Metrics(), Health(lambda: None))
    started = time.process_time()
    await request(app, body)
    return time.process_time() - started


def main() -> None:
    """Print the seconds of each body, and of the honest one beside it, round by round."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--rounds", type=int, required=True)
    rounds = parser.parse_args().rounds
    honest = LARGE[HONEST][0]()
    found: dict[str, list[tuple[float, float]]] = {}
    with quiet():
        for name, (make, _) in LARGE.items():
            body = make()
            found[name] = [
                (asyncio.run(_seconds(body)), asyncio.run(_seconds(honest))) for _ in range(rounds)
            ]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
