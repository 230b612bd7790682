import pytest

from bridge.ratelimit import RateLimit, Repeats


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def allowed(limit: RateLimit, tries: int) -> int:
    return sum(limit.allows() for _ in range(tries))


def test_the_burst_passes_at_once_and_no_more(clock: Clock) -> None:
    assert allowed(RateLimit(per_second=1, burst=5, clock=clock), 20) == 5


def test_it_fills_up_at_its_rate(clock: Clock) -> None:
    limit = RateLimit(per_second=2, burst=5, clock=clock)
    allowed(limit, 5)

    clock.now += 1

    assert allowed(limit, 20) == 2


def test_it_never_holds_more_than_the_burst(clock: Clock) -> None:
    limit = RateLimit(per_second=2, burst=5, clock=clock)

    clock.now += 3600

    assert allowed(limit, 20) == 5


def test_parts_of_a_token_add_up(clock: Clock) -> None:
    limit = RateLimit(per_second=1, burst=1, clock=clock)
    assert limit.allows()

    passed = 0
    for _ in range(8):
        clock.now += 0.25
        passed += limit.allows()

    assert passed == 2


def test_what_is_refused_costs_nothing(clock: Clock) -> None:
    limit = RateLimit(per_second=1, burst=1, clock=clock)
    allowed(limit, 100)

    clock.now += 1

    assert limit.allows()


def test_each_kind_has_a_limit_of_its_own_and_tells_what_it_held_back() -> None:
    repeats = Repeats(per_second=0.001, burst=2)

    assert [repeats.held_back(401) for _ in range(5)] == [0, 0, None, None, None]
    assert repeats.held_back(413) == 0


def test_what_was_held_back_is_told_once(clock: Clock) -> None:
    repeats = Repeats(per_second=1, burst=1, clock=clock)
    told = [repeats.held_back("x") for _ in range(4)]
    clock.now += 1
    told.append(repeats.held_back("x"))
    clock.now += 1
    told.append(repeats.held_back("x"))

    assert told == [0, None, None, None, 3, 0]
