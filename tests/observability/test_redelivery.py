"""What is not acknowledged yet: the gaps between sightings, the oldest one, and the bounds."""

from bridge.observability.redelivery import Redelivery


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_sighting_tells_the_time_since_the_one_before() -> None:
    clock = Clock()
    unlisted = Redelivery(clock=clock)
    assert unlisted.came({"a": False, "b": True}) == {}
    clock.now = 60.0
    assert unlisted.came({"a": False, "b": False}) == {"a": 60.0}
    clock.now = 180.0
    assert unlisted.came({"a": True}) == {"a": 120.0}
    assert unlisted.came({"a": True}) == {}


def test_the_oldest_is_the_one_that_came_first() -> None:
    """However often it has come since, and until it is acknowledged."""
    clock = Clock()
    unlisted = Redelivery(clock=clock)
    assert unlisted.oldest_seconds() == 0.0
    unlisted.came({"a": False})
    clock.now = 10.0
    unlisted.came({"b": False})
    clock.now = 20.0
    unlisted.came({"a": False})
    assert unlisted.oldest_seconds() == 20.0
    unlisted.came({"a": True})
    assert unlisted.oldest_seconds() == 10.0


def test_what_does_not_come_again_expires() -> None:
    """Another process may have taken it."""
    clock = Clock()
    unlisted = Redelivery(seconds=100.0, clock=clock)
    unlisted.came({"a": False})
    clock.now = 90.0
    unlisted.came({"b": False})
    clock.now = 101.0
    assert unlisted.oldest_seconds() == 11.0
    assert len(unlisted) == 1
    clock.now = 191.0
    assert unlisted.came({"c": True}) == {}
    assert not unlisted


def test_a_full_memory_keeps_those_that_came_first() -> None:
    clock = Clock()
    unlisted = Redelivery(limit=2, clock=clock)
    unlisted.came({"a": False, "b": False, "c": False})
    clock.now = 5.0
    assert unlisted.came({"c": False, "b": False, "a": False}) == {"b": 5.0, "a": 5.0}
    assert len(unlisted) == 2
