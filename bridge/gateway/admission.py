"""How much work the process takes on at once: POSTs, bytes of bodies, and states.

Three rules keep a place for small documents whatever else comes: large documents leave a part of
everything to smaller ones, bodies of which more is to come leave as much, and when there is no room
the slowest of these are cut, or those that are larger than what needs the room.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.model import Form

SMALL_BYTES = 32 * 1024  # some 350 states, 10 ms: docs/findings.md has the measurement
SMALL_MARKS = 2500  # of XML or JSON in a small body: more are read beside the loop
MIDDLING_BYTES = 256 * 1024
# Of the bytes and the states in flight, how much there may be once a document of a size is in.
MIDDLING_SHARE = 7 / 8
LARGE_SHARE = 3 / 4  # of the bytes, for bodies of which more is to come, too
ALONE_SHARE = 1 / 4  # if others have no more, a document is let in however heavy it is
# A body of which more is to come is slow when it has not grown by so much for so long.
PROGRESS_BYTES = 64 * 1024
PROGRESS_SECONDS = 1.0

# What a document costs in memory until its request is answered: measured, the dearer content mode,
# for every shape that the limits of parse/ let pass. tests/gateway/test_memory.py holds it.
STATE_BYTES = 4096  # that one counted state stands for: `max_in_flight_states` of them must fit
_BYTES_OF_A_STATE = 2200
_BYTES_OF_AN_ATTRIBUTE = 180
_BYTES_OF_A_CHARACTER = 8  # one that needs four bytes makes the others of its text need them
_BYTES_OF_AN_ELEMENT = 500  # while it is read, states past `max_states` and all else included


def weight(states: int, attributes: int, characters: int) -> int:
    """As how many states a document counts: as many as it has, or more if they are heavy."""
    cost = (
        states * _BYTES_OF_A_STATE
        + attributes * _BYTES_OF_AN_ATTRIBUTE
        + characters * _BYTES_OF_A_CHARACTER
    )
    return max(states, cost // STATE_BYTES)


def is_small(body: bytes) -> bool:
    """Whether a body is read at once, on the loop. An item of JSON can be two bytes."""
    return len(body) <= SMALL_BYTES and body.count(b",") + body.count(b"<") <= SMALL_MARKS


def weight_unread(body: bytes, form: Form, *, max_states: int) -> int:
    """As how many states a document counts while it is read: any element may be one."""
    if form is Form.JSON:
        elements = body.count(b"[") + body.count(b"{")
        attributes = body.count(b",") + elements
    else:
        elements, attributes = body.count(b"<") - body.count(b"</"), body.count(b"=")
    states = weight(min(elements, max_states), attributes, len(body))
    return states + elements * _BYTES_OF_AN_ELEMENT // STATE_BYTES


def _share(size: int) -> float:
    if size <= SMALL_BYTES:
        return 1.0
    return MIDDLING_SHARE if size <= MIDDLING_BYTES else LARGE_SHARE


def _nobody_waits() -> None:
    pass


@dataclass(slots=True)
class Capacity:
    """The limits, and what is in use of each.

    A POST counts from the end of its body on, a large one from the start of its reading; bytes
    count as they arrive. `freed` is called when something was given back.
    """

    max_posts: int
    max_bytes: int
    max_states: int
    posts: int = 0
    bytes: int = 0
    states: int = 0
    unfinished_bytes: int = 0
    unfinished: "dict[Lease, None]" = field(default_factory=dict)
    freed: Callable[[], None] = _nobody_waits
    clock: Callable[[], float] = time.monotonic

    def limit(self, like: "Capacity") -> None:
        """Take over another one's limits; what is in use counts on, even if it is beyond them."""
        self.max_posts, self.max_bytes, self.max_states = (
            like.max_posts,
            like.max_bytes,
            like.max_states,
        )

    @property
    def exhausted(self) -> bool:
        """Whether no further POST should begin; unfinished bodies would make room for it."""
        return (
            self.posts >= self.max_posts
            or self.finished_bytes >= self.max_bytes
            or self.states >= self.max_states
        )

    @property
    def finished_bytes(self) -> int:
        """The bytes that cannot be given back before a request is answered."""
        return self.bytes - self.unfinished_bytes

    def has_room(self, states: int, others: int, size: int) -> bool:
        """Whether a document of that size may have so many states beside those of others.

        One that is heavier than what is left is let in if others have few: it would else be
        refused at every one of its attempts.
        """
        return (
            states + others <= self.max_states * _share(size)
            or others <= self.max_states * ALONE_SHARE
        )

    def make_room(self, lease: "Lease") -> bool:
        """Cut unfinished bodies, the heaviest burden first, until there is room for this one.

        False if there is none all the same.
        """
        if not self._is_short(lease):
            return True
        if self.finished_bytes <= self.max_bytes:
            now = self.clock()
            others = [other for other in self.unfinished if other.may_be_cut(lease, now)]
            for other in sorted(others, key=lambda other: other.burden(now), reverse=True):
                other.be_cut(by=lease)
                if not self._is_short(lease):
                    return True
        return False

    def _is_short(self, lease: "Lease") -> bool:
        return self.bytes > self.max_bytes or (
            lease in self.unfinished
            and self.unfinished_bytes > self.max_bytes * LARGE_SHARE
            and len(self.unfinished) > 1
        )


@dataclass(slots=True, eq=False)
class Lease:
    """What one POST uses; `release` gives all of it back.

    Each `take` says whether the POST may go on. `was_cut`: its body made room for others.
    """

    capacity: Capacity
    posts: int = 0
    bytes: int = 0
    states: int = 0
    expected_bytes: int = 0  # of the body, if its length was declared
    was_cut: bool = False
    _cut: Callable[[], None] | None = None
    _marked_bytes: int = 0
    _marked_at: float = 0.0

    def take_part(self, count: int, cut: Callable[[], None]) -> bool:
        """Account for bytes of a body of which more is to come.

        `cut` ends the wait for the rest. It is not called if this body is the next to be cut, but
        `was_cut` is set.
        """
        capacity, now = self.capacity, self.capacity.clock()
        if self not in capacity.unfinished:
            capacity.unfinished[self], self._cut, self._marked_at = None, cut, now
        self.bytes += count
        capacity.bytes += count
        capacity.unfinished_bytes += count
        if self.bytes - self._marked_bytes >= PROGRESS_BYTES:
            self._marked_bytes, self._marked_at = self.bytes, now
        return capacity.make_room(self)

    def take_bytes(self, count: int) -> bool:
        """Account for the last bytes of a body, or for all of them."""
        capacity = self.capacity
        if self._cut is not None:
            self._leave_unfinished()
        self.bytes += count
        capacity.bytes += count
        if self.bytes <= SMALL_BYTES and capacity.bytes <= capacity.max_bytes:
            return True  # as nearly always; all that follows comes to the same
        if not capacity.make_room(self):
            return False
        others = capacity.finished_bytes - self.bytes
        return (
            capacity.finished_bytes <= capacity.max_bytes * _share(self.bytes)
            or others <= capacity.max_bytes * ALONE_SHARE
        )

    def hold_bytes(self, count: int) -> None:
        """Account for bytes that are to go out: they keep others out, and are never refused."""
        self.bytes += count
        self.capacity.bytes += count

    def take_post(self) -> bool:
        """Account for a body that is complete."""
        if self.capacity.posts >= self.capacity.max_posts:
            return False
        self.posts += 1
        self.capacity.posts += 1
        return True

    def take_turn(self, states: int, size: int) -> bool:
        """Take a post and the states of a document that is to be read, or nothing at all."""
        capacity = self.capacity
        if not capacity.has_room(states, capacity.states, size) or not self.take_post():
            return False
        self.states += states
        capacity.states += states
        return True

    def take_states(self, count: int) -> bool:
        """Account for a document's states, in place of what was set aside for it."""
        capacity = self.capacity
        others = capacity.states - self.states
        fewer = count <= self.states
        self.states, capacity.states = count, others + count
        return fewer or capacity.has_room(count, others, self.bytes)

    def may_be_cut(self, by: "Lease", now: float) -> bool:
        """Whether an unfinished body may have to make room for another, or for itself."""
        slow = now - self._marked_at >= PROGRESS_SECONDS
        return slow or _share(self._size) < _share(by._size)  # noqa: SLF001

    def burden(self, now: float) -> float:
        """What an unfinished body holds, times how long it has gone without growing much."""
        return self.bytes * (now - self._marked_at)

    def be_cut(self, by: "Lease") -> None:
        """Give back the bytes of an unfinished body, and end the wait for the rest."""
        cut = self._cut
        self.was_cut = True
        self._abandon_body()
        if cut is not None and by is not self:
            cut()

    def _abandon_body(self) -> None:
        """Give back the bytes of a body of which more was to come."""
        self._leave_unfinished()
        self.capacity.bytes -= self.bytes
        self.bytes = 0

    def hand_over(self, other: "Lease") -> None:
        """Let another lease have the posts and states of this one."""
        other.posts += self.posts
        other.states += self.states
        self.posts = self.states = 0

    def release(self) -> None:
        """Give back all that was taken."""
        if not (self.posts or self.bytes or self.states or self._cut):
            return  # it was released before
        capacity = self.capacity
        if self._cut is not None:
            self._abandon_body()
        capacity.posts -= self.posts
        capacity.bytes -= self.bytes
        capacity.states -= self.states
        self.posts = self.bytes = self.states = 0
        capacity.freed()

    @property
    def _size(self) -> int:
        return max(self.bytes, self.expected_bytes)

    def _leave_unfinished(self) -> None:
        del self.capacity.unfinished[self]
        self.capacity.unfinished_bytes -= self.bytes
        self._cut = None
