"""Many waits, one timer: each ends at its own time, once, and none that is over is touched."""

import asyncio
import contextlib
import time

import pytest
import uvloop

from bridge.timeouts import Timeouts


async def wait(timeouts: Timeouts, seconds: float) -> float:
    """Wait for what never comes; after how many seconds that was ended."""
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError), timeouts.at(began + seconds):
        await forever()
    return asyncio.get_running_loop().time() - began


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def cancelling() -> int:
    """How many cancellations of this task are still to be answered for."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


@pytest.mark.parametrize("order", [(0.05, 0.1, 0.15), (0.15, 0.1, 0.05), (0.1, 0.05, 0.15)])
async def test_each_wait_ends_at_its_own_deadline(order: tuple[float, ...]) -> None:
    timeouts = Timeouts()
    took = await asyncio.gather(*(wait(timeouts, seconds) for seconds in order))
    for seconds, ended in zip(order, took, strict=True):
        assert ended >= seconds - 0.01
    assert [took.index(t) for t in sorted(took)] == [order.index(s) for s in sorted(order)]


async def test_a_wait_that_is_over_in_time_is_left_alone() -> None:
    timeouts = Timeouts()
    loop = asyncio.get_running_loop()
    with timeouts.at(loop.time() + 0.01):
        pass
    await asyncio.sleep(0.05)  # past the deadline, outside of the block
    assert await wait(timeouts, 0.01) >= 0.0


async def test_a_deadline_that_is_past_ends_the_wait_at_once(timers: list[float]) -> None:
    now = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError), Timeouts().at(now - 1.0):
        await forever()
    assert timers == [now - 1.0]


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
            await forever()
        await asyncio.sleep(0)


# --- a loop that rings again before the tasks have run -----------------------------------


async def until_ended(deadline: float, timeouts: Timeouts) -> int:
    """Wait for what never comes; the cancellations that are left of it."""
    with pytest.raises(TimeoutError), timeouts.at(deadline):
        await forever()
    return cancelling()


def test_a_loop_that_rings_twice_in_a_turn_ends_each_wait_once() -> None:
    """On uvloop, timers go before the tasks that were woken by what was due at once."""

    async def both() -> list[int]:
        loop, timeouts = asyncio.get_running_loop(), Timeouts()
        now = loop.time()
        waits = [
            asyncio.create_task(until_ended(now + after, timeouts)) for after in (-1, 0.005, 0.01)
        ]
        await asyncio.sleep(0)  # they wait, and the first bell is about to ring
        loop.call_soon(time.sleep, 0.02)  # as long as it takes until the second is due
        return await asyncio.gather(*waits)

    assert uvloop.run(both()) == [0, 0, 0]


class Slow:
    """What takes its time to be cancelled: until `go_on` is set."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.go_on = asyncio.Event()
        self.task = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            self.cancelled.set()
            await self.go_on.wait()
            raise


async def test_a_wait_that_is_ended_and_has_not_run_yet_is_not_ended_again() -> None:
    timeouts, slow = Timeouts(), Slow()
    past = asyncio.get_running_loop().time() - 1

    async def waiting() -> int:
        with pytest.raises(TimeoutError), timeouts.at(past):
            await slow.task
        return cancelling()

    task = asyncio.create_task(waiting())
    await slow.cancelled.wait()
    assert await until_ended(past, timeouts) == 0  # the loop has rung once more
    slow.go_on.set()
    assert await task == 0


async def test_a_wait_that_swallows_its_end_is_over_and_leaves_nothing_behind() -> None:
    past = asyncio.get_running_loop().time() - 1
    with Timeouts().at(past), contextlib.suppress(asyncio.CancelledError):
        await forever()
    assert cancelling() == 0


async def test_nested_blocks_that_end_in_one_ring_are_one_timeout_of_the_outer() -> None:
    timeouts = Timeouts()
    past = asyncio.get_running_loop().time() - 1

    async def nested() -> None:
        with timeouts.at(past):
            try:
                with timeouts.at(past):
                    await forever()
            except TimeoutError:
                pytest.fail("the inner block's alone")

    with pytest.raises(TimeoutError):
        await nested()
    assert cancelling() == 0


async def test_a_cancellation_from_elsewhere_as_the_wait_is_ended_stays_one() -> None:
    timeouts, slow = Timeouts(), Slow()

    async def waiting() -> None:
        with timeouts.at(asyncio.get_running_loop().time() - 1):
            await slow.task

    task = asyncio.create_task(waiting())
    await slow.cancelled.wait()
    task.cancel()
    slow.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1


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
