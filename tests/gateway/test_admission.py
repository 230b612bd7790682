import pytest

from bridge.gateway.admission import SMALL_BYTES, Capacity, Lease, is_small, weight, weight_unread
from bridge.model import Form


def capacity(posts: int = 2, size: int = 100, states: int = 10) -> Capacity:
    return Capacity(max_posts=posts, max_bytes=size, max_states=states)


def test_nothing_in_use_is_not_exhausted() -> None:
    assert not capacity().exhausted


def test_bytes_are_let_in_up_to_the_limit_and_not_one_more() -> None:
    lease = Lease(capacity(size=100))

    assert lease.take_bytes(60)
    assert lease.take_bytes(40)
    assert not lease.take_bytes(1)


def test_bytes_of_all_posts_count_together() -> None:
    shared = capacity(size=100)

    assert Lease(shared).take_bytes(60)
    assert not Lease(shared).take_bytes(41)


def test_posts_are_let_in_up_to_the_limit() -> None:
    shared = capacity(posts=2)

    assert [Lease(shared).take_post() for _ in range(3)] == [True, True, False]
    assert shared.posts == 2


def test_states_are_let_in_up_to_the_limit() -> None:
    shared = capacity(states=10)

    assert Lease(shared).take_states(4)
    assert Lease(shared).take_states(6)
    assert not Lease(shared).take_states(1)


def test_one_large_document_is_let_in_where_nobody_else_has_states() -> None:
    """It would else be refused at every one of its attempts."""
    shared = capacity(states=10)

    assert Lease(shared).take_states(5000)
    assert not Lease(shared).take_states(1)


def test_each_limit_that_is_reached_exhausts() -> None:
    posts, size, states = capacity(), capacity(), capacity()
    for _ in range(2):
        Lease(posts).take_post()
    Lease(size).take_bytes(100)
    Lease(states).take_states(10)

    assert posts.exhausted
    assert size.exhausted
    assert states.exhausted


def test_release_gives_back_all_that_was_taken_even_what_was_refused() -> None:
    shared = capacity()
    lease = Lease(shared)
    lease.take_post()
    lease.take_bytes(500)
    lease.take_states(500)

    lease.release()

    assert (shared.posts, shared.bytes, shared.states) == (0, 0, 0)
    assert not shared.exhausted


def test_a_refused_post_gives_back_nothing_that_it_did_not_take() -> None:
    shared = capacity(posts=1)
    first, second = Lease(shared), Lease(shared)
    first.take_post()
    second.take_post()

    second.release()

    assert shared.posts == 1


def test_a_second_release_gives_back_nothing() -> None:
    shared = capacity()
    other, lease = Lease(shared), Lease(shared)
    other.take_bytes(10)
    lease.take_bytes(20)

    lease.release()
    lease.release()

    assert shared.bytes == 10


# --- bodies of which more is to come -----------------------------------------------------

MIB = 2**20


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Unfinished:
    """A body that has begun to arrive."""

    def __init__(self, shared: Capacity, count: int, declared: int = 0) -> None:
        self.lease = Lease(shared, expected_bytes=declared)
        self.cuts = 0
        self.fits = self.more(count)

    def more(self, count: int) -> bool:
        return self.lease.take_part(count, self._cut)

    def _cut(self) -> None:
        self.cuts += 1


def default_capacity(clock: Clock) -> Capacity:
    return Capacity(max_posts=256, max_bytes=32 * MIB, max_states=50_000, clock=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_unfinished_bodies_exhaust_nothing(clock: Clock) -> None:
    """They make room for whoever is there, so nobody is refused for them."""
    shared = default_capacity(clock)
    for _ in range(64):
        body = Unfinished(shared, 4 * MIB - 10)
        if not body.fits:
            body.lease.release()

    assert shared.unfinished_bytes <= 24 * MIB
    assert Lease(shared).take_bytes(8 * MIB + 60)
    assert shared.bytes == shared.max_bytes
    assert not shared.exhausted


def test_a_complete_body_pushes_out_unfinished_ones(clock: Clock) -> None:
    shared = default_capacity(clock)
    for _ in range(7):
        assert Lease(shared).take_bytes(3 * MIB)
    slow = [Unfinished(shared, 4 * MIB - 10) for _ in range(2)]

    assert Lease(shared).take_bytes(3 * MIB)
    assert [body.cuts for body in slow] == [0, 0]
    assert Lease(shared).take_bytes(32 * 1024)
    assert [body.cuts for body in slow] == [1, 0]
    assert shared.bytes <= shared.max_bytes


def test_the_slowest_is_cut_that_holds_most(clock: Clock) -> None:
    shared = default_capacity(clock)
    older, larger, quick = (Unfinished(shared, size * MIB) for size in (4, 12, 7))
    clock.now = 1.0
    quick.more(64 * 1024)

    assert Unfinished(shared, 2 * MIB).fits
    assert [body.cuts for body in (older, larger, quick)] == [0, 1, 0]
    assert shared.bytes == shared.unfinished_bytes == 13 * MIB + 64 * 1024


def test_a_large_body_that_comes_quickly_is_not_cut_for_another(clock: Clock) -> None:
    shared = default_capacity(clock)
    quick = [Unfinished(shared, 4 * MIB) for _ in range(6)]

    assert not Unfinished(shared, 2 * MIB).fits
    assert not Unfinished(shared, 1, declared=4 * MIB).fits
    assert not any(body.cuts for body in quick)


@pytest.mark.parametrize(("size", "cuts"), [(1, 1), (256 * 1024, 1), (256 * 1024 + 1, 0)])
def test_a_smaller_body_has_the_room_of_a_large_one(clock: Clock, size: int, cuts: int) -> None:
    shared = default_capacity(clock)
    large = [Unfinished(shared, 4 * MIB) for _ in range(6)]

    assert Unfinished(shared, size).fits == bool(cuts)
    assert sum(body.cuts for body in large) == cuts


def test_a_body_that_creeps_in_is_slow(clock: Clock) -> None:
    """A byte now and then is no progress."""
    shared = default_capacity(clock)
    creeping = [Unfinished(shared, 4 * MIB) for _ in range(6)]
    for second in range(3):
        clock.now = float(second)
        for body in creeping:
            body.more(0)

    assert Unfinished(shared, 1, declared=4 * MIB).fits
    assert [body.cuts for body in creeping] == [1, 0, 0, 0, 0, 0]


def test_a_slow_body_makes_room_for_itself_last_of_all(clock: Clock) -> None:
    """It sees `was_cut`, and is not called: whoever takes the bytes is running."""
    shared = default_capacity(clock)
    slow, quick = Unfinished(shared, 4 * MIB), Unfinished(shared, 20 * MIB)
    clock.now = 2.0
    quick.lease.release()
    quick = Unfinished(shared, 20 * MIB - 1)

    assert slow.more(2)
    assert slow.lease.was_cut
    assert (slow.cuts, quick.cuts) == (0, 0)
    assert shared.bytes == 20 * MIB - 1


def test_one_alone_may_be_as_large_as_all_together() -> None:
    shared = capacity(size=100)

    body = Unfinished(shared, 60)

    assert body.more(40)
    assert not body.more(1)


def test_a_body_that_is_complete_is_not_cut_any_more(clock: Clock) -> None:
    shared = default_capacity(clock)
    body = Unfinished(shared, 4 * MIB)

    assert body.lease.take_bytes(1)
    assert shared.unfinished_bytes == 0
    for _ in range(7):
        assert Lease(shared).take_bytes(32 * 1024)
    assert not Lease(shared).take_bytes(32 * MIB)
    assert body.cuts == 0


def test_a_body_that_is_given_up_gives_its_bytes_back(clock: Clock) -> None:
    shared = default_capacity(clock)
    lease = Unfinished(shared, 4 * MIB).lease

    lease.release()
    lease.release()

    assert (shared.bytes, shared.unfinished_bytes, len(shared.unfinished)) == (0, 0, 0)


# --- what large documents leave to others ------------------------------------------------


def test_large_bodies_leave_room_for_middling_and_these_for_small_ones(clock: Clock) -> None:
    shared = default_capacity(clock)
    large = [Lease(shared).take_bytes(2 * MIB) for _ in range(13)]
    assert large == [True] * 12 + [False]  # what is refused counts until it is given back

    middling = [Lease(shared).take_bytes(256 * 1024) for _ in range(9)]
    assert middling == [True] * 8 + [False]
    assert Lease(shared).take_bytes(32 * 1024)


def test_a_body_as_large_as_the_limit_is_let_in_alone() -> None:
    assert Lease(capacity(size=4 * MIB)).take_bytes(4 * MIB)


def test_states_of_large_documents_leave_room_for_others(clock: Clock) -> None:
    shared = default_capacity(clock)

    assert Lease(shared).take_turn(20_000, 4 * MIB)
    assert not Lease(shared).take_turn(20_000, 4 * MIB)
    assert Lease(shared).take_turn(20_000, 40_000)
    assert not Lease(shared).take_turn(5_000, 40_000)
    assert Lease(shared).take_states(5_000)
    assert (shared.states, shared.posts) == (45_000, 2)


def test_a_turn_is_a_post_and_states_or_nothing() -> None:
    shared = capacity(posts=1)
    assert Lease(shared).take_turn(1, 10)

    assert not Lease(shared).take_turn(1, 10)
    assert (shared.posts, shared.states) == (1, 1)


def test_states_replace_what_was_set_aside_for_them() -> None:
    shared = capacity(states=10)
    lease = Lease(shared)
    lease.take_turn(30, 10)

    assert lease.take_states(20)  # fewer: let in, however many others there are
    assert shared.states == 20
    lease.release()
    assert shared.states == 0


def test_whoever_waits_is_told_that_something_was_given_back() -> None:
    told: list[int] = []
    shared = capacity()
    shared.freed = lambda: told.append(shared.posts)
    lease = Lease(shared)
    lease.take_post()

    lease.release()

    assert told == [0]


# --- how heavy a document is -------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "attributes", "characters", "expected"),
    [
        (0, 0, 0, 0),
        (1, 5, 60, 1),
        (10_000, 50_000, 700_000, 10_000),  # as the provider sends them
        (3_900, 249_600, 2_500_000, 17_946),
        (1, 0, 4096, 8),
    ],
)
def test_a_heavy_state_counts_as_several(
    states: int, attributes: int, characters: int, expected: int
) -> None:
    assert weight(states, attributes, characters) == expected


def test_while_a_document_is_read_each_element_counts() -> None:
    states = b'<state id_sms="1">read</state>' * 100
    other = b"<a/>" * 90_000

    plain = weight_unread(b"<response>" + states + b"</response>", Form.XML, max_states=1000)
    assert 100 <= plain <= 120
    assert weight_unread(states + other, Form.XML, max_states=1000) > plain + 90_000 * 500 // 4096


@pytest.mark.parametrize(
    ("body", "small"),
    [
        (b"<response>%b</response>" % (b'<state id_sms="1" time="">read</state>' * 850), True),
        (b'[%b{"id_sms":1,"state":"read"}]' % (b'{"id_sms":1,"state":"read"},' * 1100), True),
        (b"<response>%b</response>" % (b"<state/>" * 2500), False),
        (b"[%b0]" % (b"0," * 2501), False),
    ],
)
def test_a_small_body_with_too_much_in_it_is_read_beside_the_loop(body: bytes, small: bool) -> None:
    assert len(body) <= SMALL_BYTES
    assert is_small(body) is small


def test_in_json_each_array_and_object_counts_and_each_value() -> None:
    states = b"[" + b'{"id_sms":"1","state":"read"},' * 100 + b"{}]"
    nested = b"[" + b"[]," * 90_000 + b"{}]"
    values = b"[[" + b"1," * 90_000 + b"1]]"

    assert 100 <= weight_unread(states, Form.JSON, max_states=1000) <= 120
    assert weight_unread(nested, Form.JSON, max_states=1000) > 90_000 * 500 // 4096
    assert weight_unread(values, Form.JSON, max_states=1000) > 90_000 * 180 // 4096
