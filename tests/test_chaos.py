"""The promise under fire, in short: every kind of fault once, two mutants, many replacements.

`python -m tests.chaos` and `python -m tests.chaos.mutants` are the long forms.
"""

import asyncio
import gc
import os
import tracemalloc
from collections.abc import Iterator

import pytest

from bridge.kafka import Publisher, Supervisor
from bridge.kafka.supervisor import Timing
from bridge.model import Message
from bridge.settings import Kafka
from tests.brokers import KafkaCluster, KafkaUnavailableError
from tests.chaos.__main__ import render
from tests.chaos.faults import FAULTS
from tests.chaos.mutants import ACKNOWLEDGES_ANY, ACKNOWLEDGES_PENDING, Mutant, attack
from tests.chaos.program import open_sockets
from tests.chaos.rig import Network, Settings, new_cluster
from tests.chaos.run import run
from tests.fake_kafka import until
from tests.proxy import BOTH, Conditions

pytestmark = pytest.mark.kafka

REPLACEMENTS = 100
WARM_UP = 10
MAX_GROWTH_BYTES = 512 * 1024

Rigged = tuple[KafkaCluster, Network]


@pytest.fixture(scope="module")
def rigged() -> Iterator[Rigged]:
    """One node behind proxies, for all tests here: each leaves it whole."""
    cluster, network = new_cluster(1)
    try:
        cluster.start()
    except KafkaUnavailableError as exc:
        pytest.skip(f"no real Kafka: {exc}")
    yield cluster, network
    cluster.stop()


def test_the_promise_holds_through_every_kind_of_fault(rigged: Rigged) -> None:
    """Under load, each kind once: nothing acknowledged is missing, and all goes on afterwards."""
    verdict = asyncio.run(run(Settings(seconds=90, seed=1, quiet_log=True), *rigged))
    assert verdict.holds, "\n".join(render(verdict))
    faults = next(line for line in verdict.report if line.startswith("faults:"))
    assert {kind for kind in FAULTS if f" {kind} " in faults} == {
        kind.name for kind in FAULTS.values() if kind.nodes == 1
    }


@pytest.mark.parametrize(
    "mutant", [ACKNOWLEDGES_PENDING, ACKNOWLEDGES_ANY], ids=lambda mutant: mutant.name
)
def test_a_gateway_that_breaks_the_promise_is_caught(rigged: Rigged, mutant: Mutant) -> None:
    """The harness sees what it is there to see."""
    verdict = attack(mutant, *rigged)
    assert set(mutant.caught_by) & set(verdict.broken), "\n".join(render(verdict))


async def test_a_hundred_replacements_leave_nothing_behind(rigged: Rigged, topic: str) -> None:
    """With batches in flight each time: tasks, sockets and memory are as before."""
    cluster, network = rigged
    await asyncio.to_thread(cluster.create_topic, topic, 3)
    await network.accept()
    settings = Kafka(
        bootstrap_servers=network.bootstrap.address,
        topic=topic,
        dead_letter_topic=None,
        publish_timeout_seconds=0.4,
    )
    supervisor = Supervisor(settings, [topic], timing=Timing(watch=0.02, backoff=(0.01, 0.1)))
    publisher = Publisher(settings, supervisor)
    supervisor.start()
    try:
        for number in range(WARM_UP):
            await _replaced(supervisor, publisher, network, topic, number)
        before = await _held(supervisor)
        for number in range(REPLACEMENTS):
            await _replaced(supervisor, publisher, network, topic, number)
        after = await _held(supervisor)
    finally:
        tracemalloc.stop()
        await publisher.stop()
        await supervisor.stop(1)
        await network.aclose()
    assert after[:2] == before[:2], "tasks and sockets"
    assert after[2] - before[2] < MAX_GROWTH_BYTES, "bytes"


async def _replaced(
    supervisor: Supervisor, publisher: Publisher, network: Network, topic: str, number: int
) -> None:
    """One replacement with records in flight: given up at once, cut, or stalled and given up."""
    connection = await supervisor.current()
    deadline = asyncio.get_running_loop().time() + 0.4
    if number % 5 == 0:
        network.impose(Conditions(swallow=BOTH))
    posting = asyncio.create_task(publisher.publish(_messages(topic), deadline))
    if number % 5 == 0:
        await until(connection.failed.done)
    else:
        await until(lambda: bool(connection.in_flight) or posting.done())
        supervisor.give_up(connection, "test")
        if number % 2:
            network.cut()
    network.heal()
    await posting
    await until(lambda: supervisor.connected)


def _messages(topic: str) -> list[Message]:
    return [Message(topic, b"%d" % n, b"x" * 1000, [], 0, str(n)) for n in range(30)]


async def _held(supervisor: Supervisor) -> tuple[int, int, int]:
    """How many tasks, sockets and bytes, once the old connections have ended."""
    await until(lambda: not supervisor._winding_down)
    await _steady()
    gc.collect()
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    return len(asyncio.all_tasks()), open_sockets(os.getpid()), tracemalloc.get_traced_memory()[0]


async def _steady() -> None:
    """Until the number of sockets has been the same for a while."""
    seen: list[int] = []
    while len(seen) < 10 or len({*seen[-10:]}) > 1:
        seen.append(open_sockets(os.getpid()))
        await asyncio.sleep(0.05)
