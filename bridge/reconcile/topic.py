"""What the status topics hold: of each message the latest state, and the ids of all its events."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge import subscriber
from bridge.config.settings import Kafka
from bridge.kafka.consumer import stored


@dataclass(slots=True)
class Held:
    """What the topic holds of one message."""

    precedence: subscriber.Precedence
    final: bool
    received_at: datetime  # of the latest state
    events: tuple[str, ...] = ()  # a set of two would take three times the memory

    def add(self, event: subscriber.StatusEvent) -> None:
        """Take one of its events, in whatever order they come."""
        if event.id not in self.events:
            self.events = (*self.events, event.id)
        if event.precedence > self.precedence:
            self.precedence = event.precedence
            self.final = event.final is True
            self.received_at = event.received_at


class Holdings:
    """What the topics hold of some sources; `unreadable` counts records that are no events."""

    def __init__(self, sources: Collection[str] = ()) -> None:
        self.unreadable = 0
        self._messages: dict[str, dict[str, Held]] = {source: {} for source in sources}

    def add(self, event: subscriber.StatusEvent) -> None:
        """Take an event, if it is of one of the sources."""
        messages = self._messages.get(event.source)
        if messages is None:
            return
        held = messages.get(event.id_sms)
        if held is None:
            held = Held(event.precedence, event.final is True, event.received_at)
            messages[event.id_sms] = held
        held.add(event)

    def has(self, source: str, id_sms: str, event_id: str) -> bool:
        """Whether the topic has this event."""
        held = self._messages.get(source, {}).get(id_sms)
        return held is not None and event_id in held.events

    def in_question(self, source: str, older_than: datetime | None) -> Iterator[str]:
        """The messages whose latest status is not final, or was received before a time."""
        for id_sms, held in self._messages[source].items():
            old = older_than is not None and held.received_at < older_than
            if old or not held.final:
                yield id_sms


async def read_topics(
    settings: Kafka, topics: Sequence[str], sources: Collection[str], since: datetime | None
) -> Holdings:
    """Read status topics from a time on, to their ends as they stand now; raises BridgeError."""
    holdings = Holdings(sources)
    async with stored(settings, topics, since) as found:
        async for record in found.records:
            try:
                event = subscriber.read(record.value, record.headers)
            except subscriber.UnreadableError:
                holdings.unreadable += 1
                continue
            if isinstance(event, subscriber.StatusEvent):
                holdings.add(event)
    return holdings
