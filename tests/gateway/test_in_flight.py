"""Limits on what is in flight: who is refused, and who never is."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from bridge.gateway import admission as capacity
from tests.support.application import TWO, Gateway, ids, is_problem
from tests.support.asgi import Hang, Reply
from tests.support.fake_kafka import idle, until


async def while_one_is_held(gateway: Gateway, then: Callable[[], Any]) -> Any:
    """Do something while another POST waits for Kafka."""
    gateway.publisher.hold.clear()
    before = len(gateway.publisher.calls)
    held = asyncio.create_task(gateway.post(TWO))
    await until(lambda: len(gateway.publisher.calls) > before)
    try:
        return await then()
    finally:
        gateway.publisher.hold.set()
        assert (await held).status == 200


@pytest.mark.parametrize(
    "limit",
    [
        {"max_in_flight": 1},
        {"max_in_flight_bytes": len(TWO), "max_body_bytes": len(TWO)},
        {"max_in_flight_bytes": len(TWO) + 1, "max_body_bytes": len(TWO)},
        {"max_in_flight_states": 2},
        {"max_in_flight_states": 3},
    ],
)
async def test_beyond_a_limit_it_is_503_and_free_again_afterwards(limit: dict[str, int]) -> None:
    gateway = Gateway(server=limit)
    reply = await while_one_is_held(gateway, lambda: gateway.post(TWO))
    assert is_problem(reply, 503)
    assert int(reply.headers["retry-after"]) > 0
    assert (await gateway.post(TWO)).status == 200


async def test_slow_senders_take_no_place_from_others() -> None:
    """A POST counts once its body is complete."""
    gateway = Gateway(server={"max_in_flight": 1, "body_timeout_seconds": 0.2})
    slow = [asyncio.create_task(gateway.post(b"<resp", Hang)) for _ in range(5)]
    await idle()
    assert (await gateway.post(TWO)).status == 200
    assert {reply.status for reply in await asyncio.gather(*slow)} == {408}


@pytest.mark.parametrize("size", [20_000, 200_000])
async def test_heavy_states_count_as_several_while_they_are_in_flight(size: int) -> None:
    """However they are read: what they cost in memory is bounded by it."""
    attributes = "".join(f' a{n}=""' for n in range(60))
    state = f'<state id_sms="1"{attributes}>read</state>'
    count = size // len(state)
    gateway = Gateway()
    gateway.publisher.hold.clear()
    held = asyncio.create_task(gateway.post(f"<response>{state * count}</response>".encode()))
    await until(lambda: bool(gateway.publisher.calls))
    assert gateway.in_flight("posts") == 1
    assert gateway.in_flight("states") > 3 * count
    gateway.publisher.hold.set()
    assert (await held).status == 200
    assert gateway.in_flight("states") == 0


MIB = 2**20
STOPPED = b"<response>".ljust(4 * MIB - 10)  # and the rest never comes


async def stopped(gateway: Gateway, count: int) -> list[asyncio.Task[Reply]]:
    """So many POSTs of which the last ten bytes are missing."""
    tasks = [asyncio.create_task(gateway.post(STOPPED, Hang)) for _ in range(count)]
    await idle()
    return tasks


@pytest.mark.parametrize("count", [9, 64])
async def test_bodies_that_stop_short_of_their_end_keep_nobody_out(count: int) -> None:
    gateway = Gateway(server={"body_timeout_seconds": 0.3})
    slow = await stopped(gateway, count)
    for _ in range(50):
        assert ids(await gateway.post(TWO)) == ["1", "2"]
        assert ids(await gateway.post(TWO[:20], TWO[20:])) == ["1", "2"]
    middling = TWO[:10] + b" " * 40_000 + TWO[10:]
    assert ids(await gateway.post(middling[:20_000], middling[20_000:])) == ["1", "2"]
    assert gateway.in_flight("bytes") <= 24 * MIB
    assert {reply.status for reply in await asyncio.gather(*slow)} == {408, 503}
    assert gateway.in_flight("bytes") == 0


async def test_the_slowest_bodies_are_cut_once_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once, not when their time is over, and like all others that did not come in time."""
    monkeypatch.setattr(capacity, "PROGRESS_SECONDS", 0.0)
    gateway = Gateway(server={"body_timeout_seconds": 30})
    slow = await stopped(gateway, 9)
    cut = [task for task in slow if task.done()]
    assert cut == slow[:3]
    for task in cut:
        reply = await task
        assert is_problem(reply, 408)
    assert gateway.requests(408) == 3
    for task in slow[3:]:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert gateway.in_flight("bytes") == 0


async def test_a_body_that_has_to_make_room_for_itself_is_a_408(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(capacity.Lease, "burden", lambda lease, _now: lease.bytes)
    limits = {"max_in_flight_bytes": 100, "max_body_bytes": 100, "body_timeout_seconds": 0.3}
    gateway = Gateway(server=limits)
    other = asyncio.create_task(gateway.post(b"x" * 30, Hang))
    await idle()
    assert is_problem(await gateway.post(b"x" * 40, b"x" * 20, b"x" * 10), 408)
    assert gateway.in_flight("bytes") == 30
    assert (await other).status == 408


async def test_a_body_that_is_cut_when_its_time_is_over_is_a_408(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both in one turn of the loop."""
    monkeypatch.setattr(capacity, "PROGRESS_SECONDS", 0.0)
    gateway = Gateway(server={"body_timeout_seconds": 0.05})
    (first,) = await stopped(gateway, 1)
    time.sleep(0.1)  # noqa: ASYNC251 -- its end is due, and so are these
    others = await stopped(gateway, 8)
    replies = await asyncio.gather(first, *others)
    assert {reply.status for reply in replies} == {408}


async def test_many_small_chunks_cost_no_more_than_their_bytes() -> None:
    body = TWO[:10] + b" " * 50_000 + TWO[10:]
    chunks = [body[i : i + 2] for i in range(0, len(body), 2)]
    assert ids(await Gateway().post(*chunks)) == ["1", "2"]


async def test_one_document_with_more_states_than_the_limit_is_not_locked_out() -> None:
    assert (await Gateway(server={"max_in_flight_states": 1}).post(TWO)).status == 200
