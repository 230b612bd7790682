"""Many waits, one timer: each ends at its own time, and none that is over is touched."""

import asyncio

import pytest

from bridge.timeouts import Timeouts


async def wait(timeouts: Timeouts, seconds: float) -> float:
    """Wait for what never comes; after how many seconds that was ended."""
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError), timeouts.at(began + seconds):
        await asyncio.get_running_loop().create_future()
    return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("order", [(0.05, 0.1, 0.15), (0.15, 0.1, 0.05), (0.1, 0.05, 0.15)])
async def test_each_wait_ends_at_its_own_deadline(order: tuple[float, ...]) -> None:
    timeouts = Timeouts()
    took = await asyncio.gather(*(wait(timeouts, seconds) for seconds in order))
    for seconds, ended in zip(order, took, strict=True):
        assert seconds - 0.01 <= ended < seconds + 0.5
    assert [took.index(t) for t in sorted(took)] == [order.index(s) for s in sorted(order)]


async def test_a_wait_that_is_over_in_time_is_left_alone() -> None:
    timeouts = Timeouts()
    loop = asyncio.get_running_loop()
    with timeouts.at(loop.time() + 0.01):
        pass
    await asyncio.sleep(0.05)  # past the deadline, outside of the block
    assert await wait(timeouts, 0.01) >= 0.0


async def test_a_deadline_that_is_past_ends_the_wait_at_once() -> None:
    assert await wait(Timeouts(), -1.0) < 0.5


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    timeouts = Timeouts()

    async def waiting() -> None:
        with timeouts.at(asyncio.get_running_loop().time() + 10):
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_what_goes_wrong_inside_comes_out_as_it_is() -> None:
    with pytest.raises(LookupError), Timeouts().at(asyncio.get_running_loop().time() + 10):
        raise LookupError


async def test_the_inner_of_two_deadlines_ends_the_inner_block_alone() -> None:
    timeouts = Timeouts()
    now = asyncio.get_running_loop().time()
    with timeouts.at(now + 10):
        with pytest.raises(TimeoutError), timeouts.at(now + 0.01):
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times for which the loop's timers were set."""
    asked: list[float] = []
    plain = asyncio.BaseEventLoop.call_at

    def call_at(
        loop: asyncio.BaseEventLoop, when: float, *args: object, **kwargs: object
    ) -> object:
        asked.append(when)
        return plain(loop, when, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_at", call_at)
    return asked


async def test_a_thousand_waits_in_order_share_one_timer(timers: list[float]) -> None:
    timeouts = Timeouts()
    now = asyncio.get_running_loop().time()
    for number in range(1000):
        with timeouts.at(now + 10 + number / 1000):
            pass
    assert len(timers) == 1
