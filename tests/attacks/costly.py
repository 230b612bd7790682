"""6: documents that keep to all limits and cost the most memory, while Kafka is away."""

import threading
from collections import Counter
from collections.abc import Iterator

from tests.attacks.rig import SECONDS, Row, Watch, attackers, target
from tests.support.wire import Wire, post

DOCUMENTS = 12
STATES = 3900
ATTRIBUTES = 63  # with the id and the time


def run() -> Iterator[Row]:
    """Twelve at once, again and again."""
    statuses: Counter[int | None] = Counter()
    with target() as it:
        it.broker.freeze()
        bodies = iter([_document(n) for n in range(DOCUMENTS)])
        mine = threading.local()

        def attack(stop: threading.Event) -> None:
            if not hasattr(mine, "body"):
                mine.body = next(bodies)
            with Wire(it.public, timeout=30) as wire:
                while not stop.is_set():
                    wire.send(post("/open", mine.body))
                    reply = wire.reply()
                    statuses[reply.status] += 1
                    stop.wait(0.2)
                    if reply.headers.get("connection") == "close":
                        return

        with attackers(DOCUMENTS, attack), Watch(it) as watch:
            threading.Event().wait(SECONDS)
        it.broker.thaw()
    yield (
        f"{DOCUMENTS} documents of {STATES} states with {ATTRIBUTES} attributes, Kafka frozen",
        f"{watch}; answers: {dict(statuses)}",
    )


def _document(number: int) -> bytes:
    attributes = "".join(f' a{n:02}="bcd"' for n in range(ATTRIBUTES - 2))
    each = (
        f'<state id_sms="{number:02}{n:05}" time="2011-01-01 12:57:46"{attributes}>read</state>'
        for n in range(STATES)
    )
    return f"<response>{''.join(each)}</response>".encode()
