"""Hand-written stand-ins that several test files share. They record, and answer on script."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

from bridge.model import Message, Outcome, Result
from tests.contract.events import check

Verdict = Result | Literal["too_large"]


class RecordingPublisher:
    """Keeps what it is given, and answers each message as `decide` says: published by default.

    An event that is not as its schema says fails the test.

    `calls` holds the messages of each call, `deadlines` the deadline of each. While `hold` is
    cleared, calls wait.
    """

    def __init__(self, decide: Callable[[Message], Verdict] = lambda _: Result.PUBLISHED) -> None:
        self._decide = decide
        self.calls: list[list[Message]] = []
        self.messages: list[Message] = []
        self.deadlines: list[float] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def publish(
        self,
        messages: Sequence[Message],
        deadline: float,
        on_too_large: Callable[[Message, Outcome], None] = lambda _message, _outcome: None,
    ) -> list[Outcome]:
        """One outcome a message, in order."""
        del on_too_large
        for message in messages:
            check(message.value, message.headers)
        self.calls.append(list(messages))
        self.messages.extend(messages)
        self.deadlines.append(deadline)
        await self.hold.wait()
        return [self._outcome(message) for message in messages]

    def _outcome(self, message: Message) -> Outcome:
        verdict = self._decide(message)
        if verdict == "too_large":
            return Outcome(Result.FAILED, error="over the topic's limit", too_large=True)
        if verdict is Result.PUBLISHED:
            return Outcome(verdict, partition=0, offset=0)
        return Outcome(verdict, error=f"scripted: {verdict.value}")
