"""Whose turn it is to be read, with work that only says that it was done."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from bridge.gateway.admission import MIDDLING_BYTES, Capacity, Lease
from bridge.gateway.reader import HANDICAP_SECONDS, Reader

MAX_BODY_BYTES = 4 * 2**20
NEVER = float("inf")


class Rig:
    """A reader whose lanes are held up by a document each, until the test says otherwise."""

    def __init__(self, max_states: int = 50_000) -> None:
        self.capacity = Capacity(max_posts=256, max_bytes=2**40, max_states=max_states)
        self.reader = Reader(self.capacity, MAX_BODY_BYTES)
        self.read: list[str] = []
        self._gate = threading.Event()
        self.leases: dict[str, Lease] = {}

    def hold_up(self) -> list[asyncio.Task[None]]:
        """Keep both threads busy."""
        names = {"first middling": 1, "first large": MAX_BODY_BYTES}
        return [self.ask(name, size, self._wait) for name, size in names.items()]

    def ask(
        self,
        name: str,
        size: int,
        work: Callable[[], None] = lambda: None,
        *,
        weight: int = 1,
        deadline: float = NEVER,
    ) -> asyncio.Task[None]:
        """Have a document of that size read."""

        def read() -> None:
            self.read.append(name)
            work()

        lease = self.leases[name] = Lease(self.capacity)
        lease.take_bytes(size)
        return asyncio.create_task(self.reader.read(read, weight, lease, deadline))

    def let_go(self) -> None:
        self._gate.set()

    def _wait(self) -> None:
        assert self._gate.wait(30)


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def in_turn() -> None:
    """Let the tasks that were made begin."""
    await asyncio.sleep(0)


@pytest.mark.parametrize("largest", [MIDDLING_BYTES, MAX_BODY_BYTES])
async def test_the_smaller_goes_first_of_those_that_come_together(
    rig: Rig, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = rig.hold_up()
    await in_turn()
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    sizes = [largest, largest // 2, largest * 3 // 4]
    tasks = [rig.ask(str(size), size) for size in sizes]
    await in_turn()
    monkeypatch.undo()

    rig.let_go()
    await asyncio.gather(*held, *tasks)

    assert rig.read[2:] == [str(size) for size in sorted(sizes)]


async def test_a_large_one_has_its_turn_however_many_small_ones_come(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document waits for smaller ones that came within its handicap, and for no others."""
    loop = asyncio.get_running_loop()
    held = rig.hold_up()
    await in_turn()
    began = loop.time()
    tasks = [rig.ask("large", MAX_BODY_BYTES)]
    await in_turn()
    for seconds, name in ((HANDICAP_SECONDS / 2, "soon"), (HANDICAP_SECONDS, "late")):
        monkeypatch.setattr(loop, "time", lambda seconds=seconds: began + seconds)
        tasks.append(rig.ask(name, MIDDLING_BYTES + 1))
        await in_turn()
    monkeypatch.undo()

    rig.let_go()
    await asyncio.gather(*held, *tasks)

    assert rig.read[2:] == ["soon", "large", "late"]


async def test_middling_ones_do_not_wait_for_large_ones(rig: Rig) -> None:
    gate = threading.Event()
    large = [rig.ask(f"large {n}", MAX_BODY_BYTES, gate.wait) for n in range(6)]  # type: ignore[arg-type]
    await in_turn()

    try:
        await asyncio.wait_for(rig.ask("middling", 41_000), 30)
        assert rig.read == ["large 0", "middling"]
    finally:
        gate.set()
    await asyncio.gather(*large)


@pytest.mark.parametrize("size", [41_000, MAX_BODY_BYTES])
async def test_what_nobody_waits_for_any_more_is_not_read(rig: Rig, size: int) -> None:
    """Its request is gone, or its time: reading it would only hold up others."""
    held = rig.hold_up()
    await in_turn()
    gone = rig.ask("gone", size)
    late = rig.ask("late", size, deadline=asyncio.get_running_loop().time())
    wanted = rig.ask("wanted", size)
    await in_turn()
    gone.cancel()

    rig.let_go()
    await asyncio.gather(*held, wanted)

    assert rig.read[2:] == ["wanted"]
    assert rig.capacity.posts == rig.capacity.states == 3
    assert gone.cancelled()
    late.cancel()


async def test_what_nobody_waits_for_any_more_is_not_held(rig: Rig) -> None:
    """Its body may be megabytes that nothing counts, however long the line is."""

    class Body:
        def __call__(self) -> None:
            raise AssertionError("it was read")

    body = Body()
    alive = weakref.ref(body)
    held = rig.hold_up()
    await in_turn()
    gone = rig.ask("gone", 41_000, body)
    del body
    await in_turn()
    gone.cancel()
    await asyncio.wait([gone])
    del gone
    gc.collect()

    assert alive() is None
    rig.let_go()
    await asyncio.gather(*held)


async def test_what_is_read_for_nobody_counts_until_it_is_read(rig: Rig) -> None:
    held = rig.hold_up()
    await in_turn()
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    for lease in rig.leases.values():
        lease.release()
    assert (rig.capacity.posts, rig.capacity.states) == (2, 2)

    rig.let_go()
    while rig.capacity.posts:
        await asyncio.sleep(0.001)
    assert rig.capacity.states == 0


async def test_what_is_read_belongs_to_its_request(rig: Rig) -> None:
    await rig.ask("one", 41_000, weight=7)

    assert (rig.leases["one"].posts, rig.leases["one"].states) == (1, 7)
    rig.leases["one"].release()
    assert (rig.capacity.posts, rig.capacity.states) == (0, 0)


async def test_a_document_waits_until_there_is_room_for_it() -> None:
    """It takes no place meanwhile but that of its bytes, and those of the other queue go on."""
    rig = Rig(max_states=100)
    await rig.ask("first", MAX_BODY_BYTES, weight=60)
    second = rig.ask("second", MAX_BODY_BYTES, weight=60)
    await in_turn()
    await rig.ask("middling", 41_000, weight=10)
    assert rig.read == ["first", "middling"]
    assert not second.done()
    assert rig.capacity.states == 70

    rig.leases["first"].release()
    await second

    assert rig.read == ["first", "middling", "second"]


async def test_an_error_is_the_caller_s_and_the_next_has_its_turn(rig: Rig) -> None:
    def fail() -> None:
        raise ValueError("no document")

    broken, next_one = rig.ask("broken", 41_000, fail), rig.ask("next", 41_001)

    with pytest.raises(ValueError, match="no document"):
        await broken
    await next_one
    assert rig.read == ["broken", "next"]
