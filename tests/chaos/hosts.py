"""What hosts do to all that runs on them: disks, power, clocks, names, packets.

Each needs something under the run, which tests/chaos/scenarios.py puts there.
"""

import asyncio
import random
import time
from collections.abc import Sequence

from tests.chaos.check import Topics
from tests.chaos.fault import fault, hold
from tests.chaos.rig import Rig
from tests.support.packets import Weather

HOUR = 3600
DAY = 24 * HOUR
STEPS = (-DAY, -HOUR, HOUR // 2, 2 * HOUR, DAY)  # of a wall clock, in seconds
DIES_SECONDS = 20.0  # by when a broker whose disk is full has ended
NEW_ADDRESSES = tuple(f"127.0.0.{n}" for n in range(2, 250))


# --- disks -------------------------------------------------------------------------------


@fault("disk-full", nodes=3, ground="volumes")
async def _disk_full(rig: Rig, rng: random.Random) -> None:
    await _fill(rig, rng, [rng.choice(rig.cluster.nodes)])


@fault("all-disks-full", nodes=3, ground="volumes")
async def _all_disks_full(rig: Rig, rng: random.Random) -> None:
    await _fill(rig, rng, rig.cluster.nodes)


async def _fill(rig: Rig, rng: random.Random, nodes: Sequence[int]) -> None:
    """A broker that cannot write ends by itself; somebody makes room and starts it again."""
    for node in nodes:
        rig.ground.volumes[node].fill()
    full_since = time.monotonic()
    while any(map(rig.cluster.runs, nodes)) and time.monotonic() < full_since + DIES_SECONDS:
        await asyncio.sleep(0.1)
    ended = [node for node in nodes if not rig.cluster.runs(node)]
    rig.log(f"  of the nodes {[*nodes]} {ended} ended by themselves")
    if not ended:
        raise TimeoutError("no broker has noticed that its disk is full")
    await hold(rng, 0.5, 3)
    for node in nodes:
        rig.ground.volumes[node].free()
    await asyncio.to_thread(rig.cluster.restart, *nodes)


@fault("power-cut", nodes=3, ground="volumes")
async def _power_cut(rig: Rig, rng: random.Random) -> None:
    """All brokers at once lose what they have not flushed.

    Kafka flushes next to nothing by itself: it relies on the other replicas. What it has lost of
    what it had confirmed is counted, and posted again at the end as what was not acknowledged.
    """
    await hold(rng, 1, 3)
    for volume in rig.ground.volumes.values():
        volume.cut_power()
    for node in rig.cluster.nodes:
        rig.cluster.kill(node)
    await hold(rng, 0.2, 2)
    for volume in rig.ground.volumes.values():
        await asyncio.to_thread(volume.restore_power)
    await asyncio.to_thread(rig.cluster.restart, *rig.cluster.nodes)
    await _count_losses(rig)


async def _count_losses(rig: Rig) -> None:
    acknowledged = dict(rig.journal.acknowledged)
    topics = await asyncio.to_thread(
        Topics.read, rig.cluster.bootstrap_servers, rig.topic, rig.dead_letters
    )
    promised = {pair.id_sms: pair for pair in rig.expected() if pair.id_sms in acknowledged}
    gone = {i: missing for i, pair in promised.items() if (missing := topics.missing(pair))}
    rig.log(f"  {len(gone)} of {len(promised)} acknowledged ids are lost")
    if gone and rig.settings.flushed:
        rig.violations.append(f"brokers that flush have lost {len(gone)} ids")
    rig.lost += sum(gone.values())
    for id_sms in gone:
        rig.journal.acknowledged.pop(id_sms, None)


# --- clocks ------------------------------------------------------------------------------


@fault("gateway-clock", weight=2, ground="clock")
async def _gateway_clock(rig: Rig, rng: random.Random) -> None:
    seconds = rng.choice(STEPS)
    rig.log(f"  {seconds:+d} s")
    assert rig.ground.clock is not None
    rig.ground.clock.move(seconds)
    await hold(rng, 1, 5)
    rig.ground.clock.move(0)


@fault("broker-clock", weight=2, ground="clocks")
async def _broker_clock(rig: Rig, rng: random.Random) -> None:
    """Of one broker or of all."""
    nodes = rng.choice([[rng.choice(rig.cluster.nodes)], [*rig.cluster.nodes]])
    seconds = rng.choice(STEPS)
    rig.log(f"  {seconds:+d} s at nodes {nodes}")
    for node in nodes:
        rig.ground.clocks[node].move(seconds)
    await hold(rng, 2, 6)
    for node in nodes:
        rig.ground.clocks[node].move(0)


# --- names -------------------------------------------------------------------------------


@fault("names-moved", weight=2, ground="hosts")
async def _names_moved(rig: Rig, rng: random.Random) -> None:
    """All brokers are at another address, and their names lead there after a while.

    What was at the old one is gone, or silent; the names are not found meanwhile, or lead to the
    old address.
    """
    silent, unknown = rng.random() < 0.5, rng.random() < 0.5
    address = rng.choice([a for a in NEW_ADDRESSES if a != rig.network.bootstrap.host])
    rig.log(f"  to {address}, the old one {'silent' if silent else 'gone'}, unknown {unknown}")
    assert rig.ground.hosts is not None
    rig.network.refuse()
    rig.network.orphan() if silent else rig.network.cut()
    if unknown:
        rig.ground.hosts.lead({})
    await rig.network.move(address)
    await hold(rng, 0, 3)
    rig.ground.hosts.lead(dict.fromkeys(rig.network.names, address))


# --- packets -----------------------------------------------------------------------------


@fault("packets", weight=2, ground="wire")
async def _packets(rig: Rig, rng: random.Random) -> None:
    """Lost, repeated, late and out of order, on all connections to Kafka."""
    weather = Weather(
        lost=rng.choice([0.0, 0.02, 0.1, 0.3]),
        repeated=rng.choice([0.0, 0.1, 0.5]),
        seconds=rng.choice([0.0, 0.02, 0.2]),
        jitter_seconds=rng.choice([0.0, 0.01, 0.1]),
    )
    rig.log(f"  {weather}")
    assert rig.ground.wire is not None
    before = rig.ground.wire.counts()
    rig.ground.wire.turn(weather)
    await hold(rng, 3, 8)
    rig.ground.wire.turn(Weather())
    felt = {name: count - before[name] for name, count in rig.ground.wire.counts().items()}
    rig.log(f"  {felt}")
    if not felt["packets"]:
        raise RuntimeError("no packet has felt the weather")
