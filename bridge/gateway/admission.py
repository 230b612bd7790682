"""How much work the process takes on at once: POSTs, bytes of bodies, and states."""

from dataclasses import dataclass


@dataclass(slots=True)
class Capacity:
    """The limits, and what is in use of each.

    A POST counts from the end of its body on, so that slow senders keep nobody out; bytes
    count as they arrive.
    """

    max_posts: int
    max_bytes: int
    max_states: int
    posts: int = 0
    bytes: int = 0
    states: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether no further POST should begin."""
        return (
            self.posts >= self.max_posts
            or self.bytes >= self.max_bytes
            or self.states >= self.max_states
        )


@dataclass(slots=True)
class Lease:
    """What one POST uses; `release` gives all of it back.

    Each `take` says whether the POST may go on. States beyond the limit are let in where
    nobody else has any, so that one large document is never locked out for good.
    """

    capacity: Capacity
    posts: int = 0
    bytes: int = 0
    states: int = 0

    def take_bytes(self, count: int) -> bool:
        """Account for bytes that have arrived."""
        self.bytes += count
        self.capacity.bytes += count
        return self.capacity.bytes <= self.capacity.max_bytes

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

    def take_states(self, count: int) -> bool:
        """Account for the states of a document."""
        alone = self.capacity.states == 0
        self.states += count
        self.capacity.states += count
        return alone or self.capacity.states <= self.capacity.max_states

    def release(self) -> None:
        """Give back all that was taken."""
        self.capacity.posts -= self.posts
        self.capacity.bytes -= self.bytes
        self.capacity.states -= self.states
        self.posts = self.bytes = self.states = 0
