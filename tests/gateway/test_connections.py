"""How many connections there may be, and which one goes."""

from dataclasses import dataclass

from bridge.gateway import connections
from bridge.gateway.connections import Connections


@dataclass(eq=False)
class FakeConnection:
    head_bytes: int = 0
    is_cut: bool = False

    def cut(self) -> None:
        self.is_cut = True


def opened(all_: Connections, count: int) -> list[FakeConnection]:
    made = [FakeConnection() for _ in range(count)]
    for one in made:
        all_.opened(one)
    return made


def cut(made: list[FakeConnection]) -> list[int]:
    return [number for number, one in enumerate(made) if one.is_cut]


def test_the_one_that_has_been_silent_longest_is_cut() -> None:
    cuts: list[None] = []
    all_ = Connections(limit=3, on_cut=lambda: cuts.append(None))
    made = opened(all_, 3)
    all_.busy(made[0])
    all_.busy(made[1])
    all_.idle(made[1])
    opened(all_, 1)
    assert (cut(made), len(all_.open), len(cuts)) == ([2], 3, 1)
    opened(all_, 1)
    assert cut(made) == [1, 2]


def test_where_all_are_busy_the_new_one_is_cut() -> None:
    all_ = Connections(limit=2)
    made = opened(all_, 2)
    for one in made:
        all_.busy(one)
    (new,) = opened(all_, 1)
    assert (cut(made), new.is_cut, len(all_.open)) == ([], True, 2)


def test_a_closed_connection_makes_room() -> None:
    all_ = Connections(limit=2)
    made = opened(all_, 2)
    all_.closed(made[0])
    opened(all_, 1)
    assert cut(made) == []


def test_unfinished_heads_are_bounded_together_the_oldest_goes_first() -> None:
    all_ = Connections()
    idle, *made = opened(all_, 4)
    most = connections.MAX_HEAD_BYTES
    all_.add_head_bytes(made[0], most // 2)
    all_.add_head_bytes(made[1], most // 2)
    assert not cut(made)
    all_.add_head_bytes(made[2], 1)
    assert (cut(made), idle.is_cut) == ([0], False)
    assert all_.head_bytes == most // 2 + 1
    all_.busy(made[1])
    assert all_.head_bytes == 1
