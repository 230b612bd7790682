from bridge.gateway.admission import Capacity, Lease


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
