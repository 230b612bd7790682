"""What happens, in words."""

from typing import TYPE_CHECKING, Any

from bridge.pipeline import Receipt
from tests.exhaustive.broker import Ask, Flight
from tests.exhaustive.gateway import Gateway
from tests.exhaustive.provider import Attempt, Document

if TYPE_CHECKING:
    from tests.exhaustive.world import World

_WORDS = {
    "serve": "the broker takes and answers {}",
    "stick": "the connection is dead, and nobody tells the client: {}",
    "keep": "the broker takes, and does not answer yet: {}",
    "take_and_lose": "the broker takes, the connection ends, the client sends again: {}",
    "take_and_break": "the broker takes, and says UNKNOWN_SERVER_ERROR of {}",
    "take_and_expire": "the broker takes, and the client lets expire: {}",
    "take_and_let_go": "the broker takes, and the client lets go of {}",
    "reply": "the cluster answers {}",
    "up": "the broker is back",
    "down": "the broker goes away",
    "append": "the broker takes {}",
    "answer": "its answer arrives: {}",
    "create": "topic {} is created anew",
    "post": "the provider posts {}",
    "drain": "SIGTERM to gateway {}",
    "reload": "gateway {} is given other credentials",
    "ring": "time passes to the next timer ({})",
    "lose": "the connection ends, the client sends again: {}",
    "deny": "the broker denies {}",
    "broken": "the broker says UNKNOWN_SERVER_ERROR of {}",
    "expire": "the client lets {} expire",
    "let_go": "the client lets go of {}",
    "defer": "the next callback waits until no other is ready",
    "throttle": "the answer asks to wait: {}",
    "stale": "the cluster's answer is on its way: {}",
    "fail": "no answer to {}",
    "truncate": "another leader without the last batch: {}",
    "trim": "retention empties {}",
    "delete": "topic {} is deleted",
    "unheard": "the answer does not reach the provider: {}",
}


def happening(world: "World", kind: str, what: Any, cost: int) -> str:
    """An event; one that counts as a fault says so."""
    if isinstance(what, Flight):
        what = f"{named(world, what)} of {what.client.gateway}"
    elif isinstance(what, Ask):
        what = f"{what.gateway}'s {what.kind}{what.arguments or ''}"
    elif isinstance(what, Document):
        what = f"document {world.documents.index(what) + 1}, post {len(world.attempts) + 1}"
    elif isinstance(what, Gateway):
        what = what.name
    return f"{'FAULT ' if cost else ''}{_WORDS[kind].format(what)}"


def named(world: "World", flight: Flight) -> str:
    """A batch: its producer and sequence number, where it goes, and whose records it holds."""
    of = [f"{r.key.decode()} of post {_post(world, r.value)}" for r in flight.records]
    where = f"{flight.topic}/{flight.partition}"
    return f"batch {flight.client.pid}:{flight.sequence} to {where} [{', '.join(of)}]"


def answered(attempt: Attempt, receipt: Receipt) -> str:
    """What a post is told."""
    outcomes = ", ".join(f"{i.state.id_sms} {i.outcome.result}" for i in receipt.items)
    listed = ", ".join(sorted(attempt.heard)) or "nothing"
    return f"{attempt.gateway} answers post {attempt.number}: lists {listed} ({outcomes})"


def _post(world: "World", value: bytes) -> object:
    known = world.of.get(value)
    return known[0].number if known else "?"
