"""The faults of brokers, network, gateway and topics.

What operators do is in operations.py, what hosts do in hosts.py. Each does its harm, holds it for a
while, and undoes it before it returns. None may undo what Kafka has confirmed, but those that
delete a topic, which say so.
"""

import asyncio
import random
import time
from collections.abc import Sequence

from bridge.demo.child import HOST, free_ports
from tests.chaos.fault import fault, hold
from tests.chaos.rig import Rig
from tests.support.proxy import BOTH, Conditions, Direction, Proxy

HELD_BACK = Conditions(latency_seconds=0.15)  # so that posts are in flight at any moment
RECORD_BYTES = 400  # no request with a record in it is shorter
CUT_BYTES = (0, 300, 1500, 8000, 40_000)  # of requests, before a connection is cut


# --- brokers -----------------------------------------------------------------------------


@fault("broker-killed", weight=2)
async def _broker_killed(rig: Rig, rng: random.Random) -> None:
    await _kill(rig, rng, [rng.choice(rig.cluster.nodes)], seconds=(0.2, 3))


@fault("leader-killed", weight=3, nodes=3)
async def _leader_killed(rig: Rig, rng: random.Random) -> None:
    await _kill(rig, rng, [await _leader(rig, rng)], seconds=(1, 5))


@fault("two-brokers-killed", weight=2, nodes=3)
async def _two_brokers_killed(rig: Rig, rng: random.Random) -> None:
    """What is left is fewer than min.insync.replicas."""
    await _kill(rig, rng, rng.sample(rig.cluster.nodes, 2), seconds=(1, 5))


async def _leader(rig: Rig, rng: random.Random) -> int:
    found = await asyncio.to_thread(rig.cluster.admin().list_topics, rig.topic, 10)
    partitions = found.topics[rig.topic].partitions
    leader = partitions[rng.choice(sorted(partitions))].leader
    return leader if leader in rig.cluster.nodes else rng.choice(rig.cluster.nodes)


async def _kill(
    rig: Rig, rng: random.Random, nodes: Sequence[int], seconds: tuple[float, float]
) -> None:
    """Half of the time whoever connects meanwhile is refused, else accepted and dropped."""
    refused = rng.random() < 0.5
    rig.log(f"  nodes {nodes}, connections {'refused' if refused else 'dropped'}")
    for node in nodes:
        await asyncio.to_thread(rig.cluster.kill, node)
        if refused:
            rig.network.brokers[node].refuse()
    await hold(rng, *seconds)
    for node in nodes:
        await asyncio.to_thread(rig.cluster.restart, node)
        await rig.network.brokers[node].accept()


@fault("broker-frozen", weight=2)
async def _broker_frozen(rig: Rig, rng: random.Random) -> None:
    node = rng.choice(rig.cluster.nodes)
    rig.cluster.freeze(node)
    try:
        await hold(rng, 0.5, 6)
    finally:
        rig.cluster.thaw(node)


@fault("broker-moved")
async def _broker_moved(rig: Rig, rng: random.Random) -> None:
    """It comes back elsewhere, and under another name: only the bootstrap address is the same."""
    node = rng.choice(rig.cluster.nodes)
    await asyncio.to_thread(rig.cluster.kill, node)
    await rig.network.brokers[node].aclose()
    here, there = free_ports(2)
    rig.network.brokers[node] = Proxy([], here)
    await rig.network.brokers[node].accept()
    rig.network.place(rig.cluster, node, (HOST, there))
    await hold(rng, 0, 2)
    await asyncio.to_thread(rig.cluster.restart, node)


# --- the network -------------------------------------------------------------------------


@fault("cut")
async def _cut(rig: Rig, rng: random.Random) -> None:
    for _ in range(rng.randint(3, 20)):
        rig.network.cut()
        await hold(rng, 0.02, 0.3)


@fault("cut-before-append", weight=2)
async def _cut_before(rig: Rig, rng: random.Random) -> None:
    await _impose(rig, rng, Conditions(cut_before=rng.choice(CUT_BYTES)), seconds=(1, 4))


@fault("records-cut")
async def _records_cut(rig: Rig, rng: random.Random) -> None:
    """For longer than a deadline no record comes through, and all that is shorter does."""
    rig.network.impose(Conditions(cut_before=RECORD_BYTES))
    await hold(rng, 2.5, 5)
    rig.network.heal()


@fault("cut-after-append", weight=2)
async def _cut_after(rig: Rig, rng: random.Random) -> None:
    await _impose(rig, rng, Conditions(cut_after=rng.choice(CUT_BYTES)), seconds=(1, 4))


@fault("black-hole", weight=2)
async def _black_hole(rig: Rig, rng: random.Random) -> None:
    ways = rng.choice([BOTH, BOTH, *(frozenset({way}) for way in Direction)])
    await _impose(rig, rng, Conditions(swallow=ways), seconds=(0.5, 6))


@fault("half-open")
async def _half_open(rig: Rig, rng: random.Random) -> None:
    """The gateway's connections to Kafka are half open: dead, with no FIN. New ones are sound."""
    for _ in range(rng.randint(1, 3)):
        rig.network.orphan()
        await hold(rng, 0.3, 1.5)


@fault("slow-network", weight=2)
async def _slow(rig: Rig, rng: random.Random) -> None:
    slow = Conditions(
        latency_seconds=rng.choice([0.05, 0.2, 0.6]),
        bytes_per_second=rng.choice([None, 200_000, 30_000]),
    )
    await _impose(rig, rng, slow, seconds=(2, 6))


@fault("refused")
async def _refused(rig: Rig, rng: random.Random) -> None:
    rig.network.refuse()
    rig.network.cut()
    await hold(rng, 0.5, 4)
    await rig.network.accept()


async def _impose(
    rig: Rig, rng: random.Random, conditions: Conditions, seconds: tuple[float, float]
) -> None:
    """On the way to all brokers, or to one of several."""
    one = rig.settings.nodes > 1 and rng.random() < 0.5
    node = rng.choice(rig.cluster.nodes)
    rig.log(f"  {conditions}{f' at node {node}' if one else ''}")
    rig.network.impose(conditions, [rig.network.brokers[node]] if one else None)
    await hold(rng, *seconds)
    rig.network.heal()


# --- the gateway -------------------------------------------------------------------------


@fault("answers-lost")
async def _answers_lost(rig: Rig, rng: random.Random) -> None:
    """The provider never hears what was acknowledged."""
    rig.front.impose(Conditions(cut_after=0))
    await hold(rng, 0.5, 3)
    rig.front.heal()


@fault("provider-half-open")
async def _provider_half_open(rig: Rig, rng: random.Random) -> None:
    """The providers' connections are half open for a while: dead, with no FIN. New ones are sound.

    No answer can arrive on them: what waits for one is not the gateway's delay.
    """
    started = time.monotonic()
    for _ in range(rng.randint(1, 3)):
        rig.front.orphan()
        await hold(rng, 0.3, 1.5)
    rig.front.cut()
    rig.deaf.append((started, time.monotonic()))


@fault("gateway-killed", weight=2)
async def _gateway_killed(rig: Rig, rng: random.Random) -> None:
    rig.network.impose(HELD_BACK)
    await hold(rng, 0.3, 1)
    program = rng.choice(rig.programs)
    await asyncio.to_thread(program.kill)
    rig.network.heal()
    await hold(rng, 0, 1)
    await rig.start_program(program)


@fault("process-killed", weight=3, processes=2)
async def _process_killed(rig: Rig, rng: random.Random) -> None:
    """One of those that serve, with posts in flight, while the others go on; or all of them."""
    program = rng.choice(rig.programs)
    await asyncio.to_thread(program.wait_connected, rig.settings.processes)
    rig.network.impose(HELD_BACK)
    await hold(rng, 0.3, 1)
    workers = program.workers
    dying = workers if rng.random() < 0.25 else [rng.choice(workers)]
    rig.log(f"  {len(dying)} of {len(workers)} processes")
    for worker in dying:
        program.end(worker)
    if len(dying) < len(workers) and not await asyncio.to_thread(program.is_ready):
        rig.violations.append("a process was killed, and no other was ready")
    rig.network.heal()
    await asyncio.to_thread(program.wait_connected, rig.settings.processes)


@fault("gateway-terminated", weight=2)
async def _gateway_terminated(rig: Rig, rng: random.Random) -> None:
    """With posts in flight, half of the time with a half-sent body or a black hole too."""
    half_sent, unreachable = rng.random() < 0.5, rng.random() < 0.3
    rig.log(f"  half-sent body {half_sent}, Kafka unreachable {unreachable}")
    rig.network.impose(Conditions(swallow=BOTH) if unreachable else HELD_BACK)
    host, port = rig.front.upstreams[0]
    _, writer = await asyncio.open_connection(host, port)
    if half_sent:
        writer.write(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n<resp")
        await writer.drain()
    await hold(rng, 0.3, 1)
    program = rng.choice(rig.programs)
    await rig.end_program(program)
    writer.transport.abort()
    rig.network.heal()
    await rig.start_program(program)


# --- topics ------------------------------------------------------------------------------


@fault("topic-recreated")
async def _topic_recreated(rig: Rig, rng: random.Random) -> None:
    """After lost answers: a memory of what was published must not outlive the topic."""
    rig.front.impose(Conditions(cut_after=0))
    await hold(rng, 0.5, 1)
    await rig.audit()
    await rig.delete_topic(rig.topic)
    rig.front.heal()
    gap = rng.choice([0.0, rng.uniform(0.5, 3)])
    rig.log(f"  gone for {gap:.1f} s")
    await asyncio.sleep(gap)
    await rig.create_topic(rig.topic)


@fault("dead-letters-gone")
async def _dead_letters_gone(rig: Rig, rng: random.Random) -> None:
    """Meanwhile an id with an invalid state must not be acknowledged, valid ones or not."""
    await rig.audit()
    await rig.delete_topic(rig.dead_letters)
    await hold(rng, 1, 2)
    gone_since = time.monotonic()
    await hold(rng, 2, 4)
    await rig.create_topic(rig.dead_letters)
    # What was acknowledged while there was no topic counts too.
    rig.counts_from[rig.dead_letters] = gone_since
