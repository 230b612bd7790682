"""One run from its start to its verdict: load, faults, quiet, the sweep, the check."""

import asyncio
import os
import random
import tempfile
import time
import uuid
from functools import partial
from operator import attrgetter
from pathlib import Path

from tests.chaos import faults, hosts, operations  # noqa: F401 - these are the faults
from tests.chaos.check import Audit, Facts, Recovery, Topics, Verdict, judge
from tests.chaos.fault import Fault, kinds, schedule
from tests.chaos.ground import Ground
from tests.chaos.load import JournalingPool, Load, post_xml, run_plan
from tests.chaos.program import Queues
from tests.chaos.rig import SOURCE, Network, Rig, Settings, rig
from tests.chaos.sentinel import Sentinel
from tests.support.brokers import KafkaCluster

WARM_UP_SECONDS = 1.5
RECOVERY_SECONDS = 20.0
PAUSE_SECONDS = (0.3, 1.5)  # between two faults
MARGIN_SECONDS = 4.0  # no fault begins so shortly before the quiet
PROBES = 60
PROBE_STATES = 5  # in each
PROBE_SECONDS = 10.0
PROBER = 998  # its number among the providers
SWEEP_SECONDS = 30.0
SWEEP_STATES = 100  # in a post
IDLE_SECONDS = 10.0
POLL_SECONDS = 0.05


async def run(
    settings: Settings, cluster: KafkaCluster, network: Network, ground: Ground | None = None
) -> Verdict:
    """Put a gateway of its own, on topics of its own, through the faults of the settings."""
    facts = Facts()
    with tempfile.TemporaryDirectory(prefix="sms-chaos-") as scratch, Sentinel(Path(scratch)) as s:
        name = f"chaos.{uuid.uuid4().hex[:8]}"
        async with rig(settings, cluster, network, name, ground or Ground()) as made:
            load = Load(
                url=made.url,
                source=SOURCE,
                seed=settings.seed,
                providers=settings.providers,
                limit_seconds=settings.publish_timeout_seconds,
                journal=made.journal,
            )
            made.audit = partial(_audit, made, facts)
            made.expected = load.expected
            queues = Queues(lambda: (os.getpid(), *(i for p in made.programs for i in p.pids)))
            await _under_load(made, load, facts, queues)
            made.log("load ended; what was never acknowledged is posted again")
            await _sweep(made, load, facts)
            await _idle(made, facts)
            for program in made.programs:
                await made.end_program(program)
            await _audit(made, facts)
            return judge(made, load, facts, [*s.stalls(), *queues.stalls])


async def _audit(made: Rig, facts: Facts) -> None:
    """Read what is in Kafka by now, to be held against what was acknowledged before that."""
    since = min(made.counts_from.values())
    acknowledged = {i: at for i, at in made.journal.acknowledged.items() if at >= since}
    counts_from, partitions = dict(made.counts_from), tuple(made.partitions)
    topics = await asyncio.to_thread(
        Topics.read, made.cluster.bootstrap_servers, made.topic, made.dead_letters
    )
    facts.audits.append(
        Audit(
            *(acknowledged, counts_from[made.topic], counts_from[made.dead_letters]),
            *(topics, partitions),
        )
    )


async def _under_load(made: Rig, load: Load, facts: Facts, queues: Queues) -> None:
    watching = [asyncio.create_task(program.watch()) for program in made.programs]
    queueing = asyncio.create_task(queues.watch())
    loading = asyncio.create_task(load.run())
    try:
        await _until_whole(made, made.started)
        made.log("load began")
        await asyncio.sleep(WARM_UP_SECONDS)
        if not made.settings.calm:
            await _storm(made, facts)
            made.log("the last fault is over")
        over = time.monotonic()
        await _probe(made, load, facts)
        ends = max(over + made.settings.quiet_seconds, made.started + made.settings.seconds)
        await asyncio.sleep(max(0.0, ends - time.monotonic()))
        load.stopping.set()
        await loading
    finally:
        for task in (tasks := [*watching, queueing, loading]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _storm(made: Rig, facts: Facts) -> None:
    """One fault after the other, the first round of them whatever the time.

    The end, too, is where one is not recovered from.
    """
    settings = made.settings
    rng = random.Random(f"{settings.seed} faults")
    ends = made.started + settings.seconds - settings.quiet_seconds - MARGIN_SECONDS
    first_round = len(kinds(settings)) if settings.each_first else 0
    for number, fault in enumerate(schedule(settings)):
        if number >= first_round and time.monotonic() > ends:
            return
        recovery = await _suffer(made, fault, rng)
        facts.recoveries.append(recovery)
        if recovery.seconds is None:
            return
        await asyncio.sleep(rng.uniform(*PAUSE_SECONDS))


async def _suffer(made: Rig, fault: Fault, rng: random.Random) -> Recovery:
    made.log(f"fault {fault.name}")
    # A generator of its own: a fault that draws once more does not change those after it.
    await fault.run(made, random.Random(rng.random()))
    healed = time.monotonic()
    made.log(f"healed {fault.name}")
    recovered = await _until_whole(made, healed)
    seconds = None if recovered is None else recovered - healed
    made.log("NOT RECOVERED" if seconds is None else f"recovered after {seconds:.2f} s")
    return Recovery(fault.name, seconds)


async def _until_whole(made: Rig, moment: float) -> float | None:
    """When the first post after the moment was acknowledged whole; None if none is in time."""
    while time.monotonic() < moment + RECOVERY_SECONDS:
        post = made.journal.whole_since(moment)
        if post is not None:
            return post.ended
        await asyncio.sleep(POLL_SECONDS)
    return None


async def _probe(made: Rig, load: Load, facts: Facts) -> None:
    plan = load.plan(
        PROBER,
        0,
        per_post=PROBE_STATES,
        messages=PROBES * PROBE_STATES,
        attempts=100,
        retry_seconds=0.25,
        timeout_seconds=PROBE_SECONDS,
    )
    started = time.monotonic()
    facts.probed = PROBES
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await run_plan(plan, made.journal)
    except TimeoutError:
        made.log("the probe failed")
        return
    facts.probe_seconds = time.monotonic() - started
    made.log(f"{PROBES} probes acknowledged after {facts.probe_seconds:.2f} s")


async def _sweep(made: Rig, load: Load, facts: Facts) -> None:
    """Post again what no answer has listed, for a while."""
    left = list(load.unacknowledged())
    facts.reposted = len(left)
    pool = JournalingPool(made.url, made.journal)
    ends = time.monotonic() + SWEEP_SECONDS
    try:
        while left and time.monotonic() < ends:
            for first in range(0, len(left), SWEEP_STATES):
                some = [xml for _, xml in left[first : first + SWEEP_STATES]]
                await post_xml(pool, some, made.settings.publish_timeout_seconds + 5)
                if time.monotonic() > ends:
                    break
            left = [pair for pair in left if pair[0] not in made.journal.acknowledged]
            await asyncio.sleep(POLL_SECONDS)
    finally:
        await pool.aclose()
    facts.still_unacknowledged = len(left)


async def _idle(made: Rig, facts: Facts) -> None:
    """Nobody posts any more: the last sample within a while that is as small as it gets."""
    made.front.cut()
    ends = time.monotonic() + IDLE_SECONDS
    while time.monotonic() < ends:
        found = [sample for program in made.programs if (sample := program.sample())]
        sample = max(found, key=attrgetter("sockets"), default=None)
        if facts.quiet is None or (sample and sample.sockets < facts.quiet.sockets):
            facts.quiet, ends = sample, min(ends, time.monotonic() + IDLE_SECONDS / 4)
        await asyncio.sleep(POLL_SECONDS)
