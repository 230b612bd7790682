"""What the pipeline does beyond the webhook's tests: dead letters of events that do not fit."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from bridge.model import Message, Outcome, Result, Route
from bridge.pipeline import MANY, DryRun, Pipeline, Receipt, prepare

ROUTE = Route(
    endpoint="main",
    source="urn:example:sms:main",
    timezone=ZoneInfo("UTC"),
    topic="status",
    dead_letter_topic="rejected",
    type_prefix="com.example.messaging",
    content_mode="structured",
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOO_LARGE = Outcome(error="too large", too_large=True)


class Slow:
    """Says at once of those with `large` keys that they do not fit; the rest waits for `events`.

    A dead letter is published at once.
    """

    def __init__(self, *large: bytes) -> None:
        self.large = large
        self.events = asyncio.Event()
        self.letters: list[list[Message]] = []

    async def publish(
        self,
        messages: Sequence[Message],
        deadline: float,
        on_too_large: Callable[[Message, Outcome], None] = lambda _message, _outcome: None,
    ) -> list[Outcome]:
        del deadline
        if messages[0].topic == "rejected":
            self.letters.append(list(messages))
            return [Outcome(Result.PUBLISHED, 0, n) for n, _ in enumerate(messages)]
        for message in messages:
            if message.key in self.large:
                on_too_large(message, TOO_LARGE)
        await self.events.wait()
        return [TOO_LARGE if m.key in self.large else Outcome() for m in messages]


def document(*ids: str) -> bytes:
    states = "".join(f'<state id_sms="{i}" sms="read">read</state>' for i in ids)
    return f"<response>{states}</response>".encode()


async def accept(publisher: Slow, body: bytes) -> Receipt:
    prepared = prepare(ROUTE, body, NOW, max_states=100)
    return await Pipeline(publisher).accept(ROUTE, prepared, NOW, 0.0)


async def test_a_dead_letter_is_on_its_way_while_other_events_still_are() -> None:
    """They may take all the time there is, and the letter would come too late."""
    publisher = Slow(b"1", b"3")
    accepting = asyncio.create_task(accept(publisher, document("1", "2", "3", "1")))
    async with asyncio.timeout(5):
        while not publisher.letters:
            await asyncio.sleep(0)
    assert [[letter.key for letter in call] for call in publisher.letters] == [[b"1", b"3"]]
    publisher.events.set()
    receipt = await accepting
    assert receipt.listed == ["1", "3"]
    assert receipt.rejected == {"too_large": 3}
    assert len(publisher.letters) == 1


async def test_a_publisher_that_tells_only_at_the_end_will_do() -> None:
    """One call for all of them, and each once."""

    class Late(Slow):
        async def publish(
            self,
            messages: Sequence[Message],
            deadline: float,
            on_too_large: Callable[[Message, Outcome], None] = lambda _message, _outcome: None,
        ) -> list[Outcome]:
            del on_too_large
            return await super().publish(messages, deadline)

    publisher = Late(b"1", b"3")
    publisher.events.set()
    receipt = await accept(publisher, document("1", "2", "3"))
    assert receipt.listed == ["1", "3"]
    assert [[letter.key for letter in call] for call in publisher.letters] == [[b"1", b"3"]]


async def test_others_have_their_turns_while_a_large_document_is_settled() -> None:
    """Its outcomes are counted some at a time: in one go they would hold up every small one."""
    slices = 6
    body = document(*(str(number) for number in range(slices * MANY)))
    prepared = prepare(ROUTE, body, NOW, max_states=slices * MANY)
    accepting = asyncio.create_task(Pipeline(DryRun()).accept(ROUTE, prepared, NOW, 0.0))
    turns = 0
    while not accepting.done():
        await asyncio.sleep(0)
        turns += 1
    assert accepting.result().counts == {("read", Result.PUBLISHED): slices * MANY}
    assert turns > slices
