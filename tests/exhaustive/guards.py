"""The guards of the real parts, each taken away, and the scenario whose search must notice."""

from dataclasses import dataclass

from tests.chaos.mutants import MUTANTS as CHAOS
from tests.mutants import FAST, Change


@dataclass(frozen=True, slots=True)
class Attack:
    """A change, and the scenario that is searched with it, up to so many faults or its bound."""

    change: Change
    scenario: str
    faults: int | None = None


def _known(name: str) -> Change:
    return next(change for change in (*FAST, *CHAOS) if change.name == name)


PUBLISHER, SUPERVISOR = "kafka/publisher.py", "kafka/supervisor.py"
PRODUCER, DUPLICATES = "kafka/producer.py", "duplicates.py"

SEEN = (
    Attack(_known("acknowledges what is pending"), "sending"),
    Attack(_known("acknowledges an id when any of its states is published"), "poison"),
    Attack(_known("never replaces the producer"), "sending"),
    Attack(_known("remembers an event before the broker's answer"), "losing"),
    Attack(_known("takes the dead letter of a too large event for granted"), "too-large"),
    Attack(_known("takes an abandoned batch for published"), "races"),
    Attack(_known("takes a batch of which the client lets go for published"), "sending"),
    Attack(_known("gives sequence numbers back that may have been used"), "sequence"),
    Attack(_known("believes a repeat whose record was deleted"), "losing"),
    Attack(_known("believes a repeat under another leader"), "losing"),
    Attack(_known("suppresses states by their id alone"), "identity"),
    Attack(_known("identifies a state by its channels alone"), "identity"),
    Attack(_known("identifies a value by its lower case"), "identity"),
    Attack(_known("identifies a dead letter without the child elements"), "identity"),
    Attack(
        Change(
            "hands over what its answer said was not",
            PUBLISHER,
            "            request.closed = True  # whoever fills a batch passes over it\n",
            "            pass\n",
        ),
        "cold",
    ),
    Attack(
        Change(
            "says of what was handed over that it was not sent",
            PUBLISHER,
            "                outcomes[index] = HANDED_OVER\n",
            "                pass\n",
        ),
        "sending",
    ),
    Attack(
        Change(
            "keeps a producer whose batch has failed",
            PUBLISHER,
            "            self._supervisor.give_up(producer, type(exc).__name__)\n",
            "",
        ),
        "sequence",
    ),
    Attack(
        Change(
            "settles each failure as published",
            PUBLISHER,
            "            _settle(taken, Outcome(error=reason))\n"
            "        elif isinstance(exc, _PRODUCER)",
            "            _settle(taken, Outcome(_PUBLISHED))\n"
            "        elif isinstance(exc, _PRODUCER)",
        ),
        "sending",
    ),
    Attack(
        Change(
            "fails all records of a batch for one",
            PUBLISHER,
            "        elif count > 1:\n            if isinstance(exc, _TOO_LARGE):\n",
            "        elif count > 100:\n            if isinstance(exc, _TOO_LARGE):\n",
        ),
        "poison",
    ),
    Attack(
        Change(
            "sends a refused batch again as it was",
            PUBLISHER,
            "                chunk.most = count // 2 if halved else 1\n",
            "                pass\n",
        ),
        "poison",
    ),
    Attack(
        Change(
            "counts a refusal as a delivery",
            PUBLISHER,
            "                chunk.deliveries -= 1  # ",
            "                pass  # ",
        ),
        "poison",
    ),
    Attack(
        Change(
            "ends no request at its deadline",
            PUBLISHER,
            "        self._timeouts.enter(request)\n",
            "",
        ),
        "sending",
    ),
    Attack(
        Change(
            "has no watchdog",
            SUPERVISOR,
            "            if producer.oldest_seconds() > self._settings.publish_timeout_seconds:\n",
            "            if False:\n",
        ),
        "sending",
    ),
    Attack(
        Change(
            "ends one wait, and forgets the others",
            "timeouts.py",
            "        if self._waits:\n            self._ring_at(min(",
            "        if False:\n            self._ring_at(min(",
        ),
        "drain",
    ),
    Attack(
        Change(
            "lets a former producer's failure take the present one away",
            SUPERVISOR,
            "        if self._producer is producer:\n            self.reachable",
            "        if self._producer is not None:\n            self.reachable",
        ),
        "winding-down",
    ),
    Attack(
        Change(
            "never winds a producer down",
            SUPERVISOR,
            "error=explained(cause))\n            self._wind_down(producer)\n",
            "error=explained(cause))\n",
        ),
        "sending",
    ),
    Attack(
        Change(
            "leaves a producer whose first question failed open",
            SUPERVISOR,
            "            await producer.abandon()\n            raise\n",
            "            raise\n",
        ),
        "cold",
    ),
    Attack(
        Change(
            "asks which topic it is before where its log begins",
            SUPERVISOR,
            "                starts = {\n"
            "                    name: await producer.offsets(topic, partitions[name], EARLIEST)\n"
            "                    for name, topic in known.items()\n"
            "                }\n",
            "                before = await producer.describe(known)\n"
            "                starts = {\n"
            "                    name: await producer.offsets(topic, partitions[name], EARLIEST)\n"
            "                    for name, topic in before.items()\n"
            "                }\n"
            "                async def same(_: object) -> dict[str, Topic]:\n"
            "                    return before\n"
            "                producer = type('P', (), {'describe': staticmethod(same)})\n",
        ),
        "asking",
    ),
    Attack(
        Change(
            "flushes at the end for as long as it takes",
            SUPERVISOR,
            "            await producer.close(seconds / 2)\n",
            "            await producer.close(seconds * 99)\n",
        ),
        "drain",
    ),
    Attack(
        Change(
            "leaves a producer open that was given up as the drain ended",
            SUPERVISOR,
            "                if producer.failed.done():  # given up",
            "                if False:  # given up",
        ),
        "ending",
    ),
    Attack(
        Change(
            "takes a topic for its successor",
            DUPLICATES,
            "        if known is None or known.topic_id != now.topic_id:\n",
            "        if known is None:\n",
        ),
        "losing",
    ),
    Attack(
        Change(
            "remembers by the topic as it is when the answer comes",
            DUPLICATES,
            "            if generation == self._cluster.generation == self._generation:\n",
            "            logs = {topic: self._cluster.last_seen(topic) for topic in by_topic}\n"
            "            if generation == self._cluster.generation == self._generation:\n",
        ),
        "remembering",
    ),
    Attack(
        Change(
            "keeps what it remembers of a former topic",
            DUPLICATES,
            "        if known is None or known.topic_id != log.topic_id:\n",
            "        if known is None:\n",
        ),
        "losing-two",
    ),
    Attack(
        Change(
            "keeps what it remembers of a former leader",
            DUPLICATES,
            "            self._recent.forget_partitions(topic, changed)\n",
            "            pass\n",
        ),
        "losing-two",
    ),
    Attack(
        Change(
            "takes valid states for too large ones",
            "kafka/limits.py",
            "        if told is not None and size.sent > told:\n",
            "        if told is not None and size.sent > told // 8:\n",
        ),
        "too-large",
    ),
    Attack(
        Change(
            "writes dead letters in place of all events",
            PUBLISHER,
            "            elif len(message.value) > small and self._limits.too_large(message):\n",
            '            elif topic == "status":\n',
        ),
        "sending",
    ),
    Attack(
        Change(
            "lists ids of states that were not processed",
            "pipeline.py",
            "acknowledged(items, prepared.unprocessed_ids)",
            "acknowledged(items, ())",
        ),
        "past-the-limit",
    ),
    Attack(
        Change(
            "waits for no dead letter",
            "pipeline.py",
            "            await asyncio.gather(*self._publishing)\n",
            "            pass\n",
        ),
        "too-large",
    ),
    Attack(
        Change(
            "gives outcomes to others' states",
            "pipeline.py",
            "        if len(outcomes) == len(items):  # as nearly always\n",
            "        if len(outcomes) <= len(items):\n"
            "            outcomes += outcomes[-1:] * (len(items) - len(outcomes))\n",
        ),
        "sending",
    ),
)

# Guards that the search shows to be held twice: topic, leader and start prove a repeat without the
# producer's generation. Nothing may break with them.
REDUNDANT = (
    Attack(_known("remembers what was sent before a replacement"), "losing-two"),
    Attack(
        Change(
            "counts no replacement",
            SUPERVISOR,
            "        self.generation += 1\n",
            "        self.generation = 1\n",
        ),
        "losing",
        faults=2,
    ),
    Attack(
        Change(
            "keeps the memory of a producer that was replaced",
            DUPLICATES,
            "            self._generation = self._cluster.generation\n"
            "            self._recent.clear()\n",
            "            self._generation = self._cluster.generation\n",
        ),
        "losing",
        faults=2,
    ),
    Attack(
        Change(
            "believes what it asked for before a replacement",
            DUPLICATES,
            "        if self._cluster.generation != self._generation:\n            return {}\n",
            "",
        ),
        "losing",
        faults=2,
    ),
)

# Those that take a second or two to be noticed.
QUICK = frozenset(
    {
        "acknowledges what is pending",
        "acknowledges an id when any of its states is published",
        "gives sequence numbers back that may have been used",
        "suppresses states by their id alone",
        "fails all records of a batch for one",
        "takes valid states for too large ones",
        "writes dead letters in place of all events",
        "lists ids of states that were not processed",
    }
)
