"""What the status topics hold: of each message the latest state, and the ids of all its events."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bridge import subscriber
from bridge.config.settings import Kafka
from bridge.errors import BridgeError
from bridge.kafka.admin import describe_topics, missing_topic
from bridge.kafka.consumer import stored

Message = subscriber.Message


@dataclass(slots=True)
class Held:
    """What the topic holds of one message: some 500 bytes."""

    precedence: subscriber.Precedence
    final: bool
    received_at: datetime  # of the latest state
    events: set[str] = field(default_factory=set)

    def add(self, event: subscriber.StatusEvent) -> None:
        """Take one of its events, in whatever order they come."""
        self.events.add(event.id)
        if event.precedence > self.precedence:
            self.precedence = event.precedence
            self.final = event.final is True
            self.received_at = event.received_at


@dataclass(slots=True)
class Holdings:
    """What the topics hold of some sources; `unreadable` counts records that are no events."""

    messages: dict[Message, Held] = field(default_factory=dict)
    unreadable: int = 0

    def add(self, event: subscriber.StatusEvent) -> None:
        """Take an event."""
        held = self.messages.get(event.message)
        if held is None:
            held = Held(event.precedence, event.final is True, event.received_at)
            self.messages[event.message] = held
        held.add(event)

    def has(self, source: str, id_sms: str, event_id: str) -> bool:
        """Whether the topic has this event."""
        held = self.messages.get(Message(source, id_sms))
        return held is not None and event_id in held.events

    def in_question(self, source: str, older_than: datetime | None) -> Iterator[str]:
        """The messages whose latest status is not final, or was received before a time."""
        for message, held in self.messages.items():
            old = older_than is not None and held.received_at < older_than
            if message.source == source and (old or not held.final):
                yield message.id_sms


async def read_topics(
    settings: Kafka, topics: Sequence[str], sources: Collection[str], since: datetime | None
) -> Holdings:
    """Read status topics from a time on, to their ends as they stand now; raises BridgeError."""
    found = await describe_topics(settings, topics)
    if missing := [missing_topic(settings, name) for name in topics if name not in found]:
        raise BridgeError("\n".join(missing))
    holdings = Holdings()
    for topic in topics:
        async with stored(settings, topic, since) as records:
            async for record in records:
                try:
                    event = subscriber.read(record.value, record.headers)
                except subscriber.UnreadableError:
                    holdings.unreadable += 1
                    continue
                if isinstance(event, subscriber.StatusEvent) and event.source in sources:
                    holdings.add(event)
    return holdings
