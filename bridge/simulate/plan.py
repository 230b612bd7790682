"""What a simulated provider is to do."""

import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from bridge.model import Form
from bridge.simulate.client import Target

_IDS_PER_SEED = 10**9
_MAX_SEED = 2**32 - 1  # so that every id fits a signed 64-bit integer
_MAX_ID = 2**63 - 1
_MAX_ATTEMPTS = 255  # kept in one byte a state


@dataclass(frozen=True, slots=True)
class Plan:
    """What a simulated provider is to do.

    `url` is http or https; `user:password@` in it becomes basic authentication. `messages`
    states, each with an id of its own, go out in posts of up to `per_post`, `concurrency` posts
    at once, in the form that `form` says. `rate` counts new states per second over the whole run
    (retries come on top; after a stall it catches up); None is as fast as answers come. A state
    that is not listed is posted again `retry_seconds` after its post has ended, `attempts` times
    in all. A post ends `timeout_seconds` after its start, connecting included.

    A run keeps two bytes a state, and the states that are in flight or to be sent again.
    `seed` (0 to 2^32-1) fixes the states; None draws one. The ids count up from `first_id`, by
    default seed * 10^9 + 1, so that two seeds never share an id. Raises ValueError, which never
    repeats the URL: it may hold a secret.
    """

    url: str = field(repr=False)
    messages: int
    per_post: int = 50
    rate: float | None = None
    concurrency: int = 4
    attempts: int = 5
    retry_seconds: float = 1.0
    timeout_seconds: float = 5.0
    seed: int | None = None
    first_id: int | None = None
    form: Form = Form.XML
    ids: range = field(init=False, repr=False)

    def __post_init__(self) -> None:
        seed = secrets.randbelow(_MAX_SEED + 1) if self.seed is None else self.seed
        first = seed * _IDS_PER_SEED + 1 if self.first_id is None else self.first_id
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "ids", range(first, first + self.messages))
        Target.of(self.url)
        if problems := [what for holds, what in self._rules(seed, first) if not holds]:
            raise ValueError("; ".join(problems))

    def _rules(self, seed: int, first: int) -> Iterator[tuple[bool, str]]:
        yield 1 <= self.messages < _IDS_PER_SEED, f"messages is not 1 to {_IDS_PER_SEED - 1}"
        yield self.per_post >= 1, "per_post is not positive"
        yield self.rate is None or 0 < self.rate < math.inf, "rate is not positive"
        yield self.concurrency >= 1, "concurrency is not positive"
        yield 1 <= self.attempts <= _MAX_ATTEMPTS, f"attempts is not 1 to {_MAX_ATTEMPTS}"
        yield 0 <= self.retry_seconds < math.inf, "retry_seconds is negative or endless"
        yield 0 < self.timeout_seconds < math.inf, "timeout_seconds is not positive"
        yield 0 <= seed <= _MAX_SEED, f"seed is not 0 to {_MAX_SEED}"
        yield 0 <= first <= _MAX_ID - self.messages, "first_id is negative or too large"
