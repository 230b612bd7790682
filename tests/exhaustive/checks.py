"""What must hold when a request is answered.

What must hold at other moments is held there (world.py, schedule.py).
"""

from itertools import zip_longest
from typing import TYPE_CHECKING

from bridge.model import Result
from bridge.pipeline import Receipt
from tests.exhaustive.provider import ROUTE, Attempt, Document

if TYPE_CHECKING:
    from tests.exhaustive.world import World

NOT_SENT = "not sent in time"  # what is said of a record that was not handed over


def answer(world: "World", document: Document, attempt: Attempt, receipt: Receipt) -> None:
    """Note in the world what does not hold of this answer."""
    _only_posted(world, document, attempt)
    _durable(world, document, attempt)
    _identities(world, document)
    _alone(world, document, attempt)
    _handed_over(world, attempt, receipt)


def _only_posted(world: "World", document: Document, attempt: Attempt) -> None:
    posted = {document.states[n].id_sms for n in attempt.states}
    if attempt.heard - posted:
        world.break_("I11", f"{sorted(attempt.heard - posted)} listed, and not posted")


def _durable(world: "World", document: Document, attempt: Attempt) -> None:
    """What is listed is in Kafka, or was at some moment of the request.

    What the brokers lose later is theirs to answer for, and nobody could have known.
    """
    for n, item in zip_longest(attempt.states, attempt.items):
        state = document.states[n]
        if state.id_sms not in attempt.heard:
            continue
        if item is not None and item.message is not None:  # perhaps a dead letter by now
            world.of.setdefault(item.message.value, (attempt, state.xml))
        topic = ROUTE.dead_letter_topic if state.letter else ROUTE.topic
        there = (
            _was_there(world, (str(topic), value), attempt.step)
            for value, (_, xml) in world.of.items()
            if xml == state.xml
        )
        if item is None or not state.taken or not any(there):
            said = f"id {state.id_sms} is listed without {state.xml[:60]} in topic {topic}"
            world.break_("I1", said)


def _was_there(world: "World", place: tuple[str, bytes], since: int) -> bool:
    return world.present.get(place, 0) > 0 or world.gone.get(place, -1) >= since


def _identities(world: "World", document: Document) -> None:
    ids: dict[str, str] = {}
    states: dict[str, str] = {}
    for attempt in document.attempts:
        for n, item in zip(attempt.states, attempt.items, strict=False):
            if item.message is None or item.message.topic != ROUTE.topic:
                continue
            xml, event_id = document.states[n].xml, item.message.event_id
            if ids.setdefault(xml, event_id) != event_id:
                world.break_("I2", f"{xml[:60]} has two ids")
            if states.setdefault(event_id, xml) != xml:
                world.break_("I3", f"{event_id} is the id of two states")


def _alone(world: "World", document: Document, attempt: Attempt) -> None:
    """With no fault but a state's own, all other ids are listed at once."""
    if attempt.undisturbed and not world.faults and world.drain is None:
        states = [document.states[n] for n in attempt.states]
        processed = len(attempt.items)
        due = {s.id_sms for s in states[:processed] if s.taken}
        due -= {s.id_sms for s in states[:processed] if not s.taken}
        due -= {s.id_sms for s in states[processed:]}
        if due - attempt.heard:
            world.break_("I7", f"{sorted(due - attempt.heard)} not listed, with nothing against it")


def _handed_over(world: "World", attempt: Attempt, receipt: Receipt) -> None:
    """Of what is said not to have been sent, nothing was handed over."""
    for item in receipt.items:
        if item.message is None or item.outcome.error != NOT_SENT:
            continue
        if item.outcome.result is not Result.FAILED or item.message.value in world.handed:
            world.break_("I5", f"post {attempt.number}: said not to have been sent")
