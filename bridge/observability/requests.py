"""One request as it went, for whoever watches: values alone. It must not cost an unwatched one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.errors import DocumentError
from bridge.model import InvalidState, Message, Outcome, State


@dataclass(slots=True)
class Course:
    """What a request leaves behind on its way, by reference: it lives as long as its request.

    `body` is None where the request was refused before anyone looked at it. Of each state there
    is one message (None where no topic takes its dead letter) and one outcome. `burial` is the
    outcome of the dead letter of a body that was refused for `error`.
    """

    body: bytes | None = None
    states: Sequence[State | InvalidState] = ()
    messages: Sequence[Message | None] = ()
    outcomes: Sequence[Outcome] = ()
    listed: Sequence[str] = ()
    unlisted: Sequence[str] = ()
    error: DocumentError | None = None
    burial: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One request and its answer.

    `answered_at` is in UTC. `status` is None where the client left before the end of its body.
    `refused`: nothing of the request was looked at; `credentials` then says what was wrong with
    them, if that was it ("wrong", "missing"). It holds neither the request's head nor its query.
    """

    endpoint: str
    request_id: str
    peer: str | None
    answered_at: datetime
    seconds: float
    status: int | None
    answer: bytes
    refused: bool
    credentials: str | None
    course: Course


Observer = Callable[[Observation], None]
"""Takes observations, at once, on the loop; it must never raise."""
