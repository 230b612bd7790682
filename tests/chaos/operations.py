"""What operators do while it runs: partitions, settings and quotas of topics, rolling restarts."""

import asyncio
import random
import time

from tests.chaos.fault import fault, hold
from tests.chaos.rig import Rig
from tests.support.quotas import limit_rate

MAX_PARTITIONS = 24
CLIENT_ID = "sms-bridge"  # the configuration's default
BYTES_PER_SECOND = (10_000.0, 30_000.0)  # of some 200,000: a broker asks for seconds of silence
ANSWERED = "gave up"  # of a post whose provider did not wait for the answer

# Settings of a topic, and what they are again afterwards. Every event still fits.
SETTINGS = (
    {"max.message.bytes": "4000"},
    {"message.timestamp.type": "LogAppendTime"},
    {"compression.type": "zstd"},
    {"segment.bytes": "1048576"},
    {"max.message.bytes": "4000", "compression.type": "gzip"},
)
DEFAULTS = {
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "compression.type": "producer",
    "segment.bytes": "1073741824",
}


@fault("partitions-added")
async def _partitions_added(rig: Rig, rng: random.Random) -> None:
    """Records go to the partitions that there were, until the gateway hears of the new ones."""
    count = rig.partitions[-1] + rng.randint(1, 6)
    if count > MAX_PARTITIONS:
        rig.log("  there are enough")
        return
    rig.log(f"  {count} partitions")
    rig.partitions.append(count)
    await asyncio.to_thread(rig.cluster.add_partitions, rig.topic, count)
    await hold(rng, 0.5, 6)


@fault("topic-configured")
async def _topic_configured(rig: Rig, rng: random.Random) -> None:
    settings = rng.choice(SETTINGS)
    rig.log(f"  {settings}")
    await asyncio.to_thread(rig.cluster.configure_topic, rig.topic, settings)
    await hold(rng, 1, 6)
    await asyncio.to_thread(
        rig.cluster.configure_topic, rig.topic, {name: DEFAULTS[name] for name in settings}
    )


@fault("too-few-replicas", nodes=3)
async def _too_few_replicas(rig: Rig, rng: random.Random) -> None:
    """All are required, and one is away: until fewer are, brokers refuse each batch."""
    await _require_in_sync(rig, rig.replicas)
    node = rng.choice(rig.cluster.nodes)
    await asyncio.to_thread(rig.cluster.kill, node)
    await hold(rng, 2, 5)
    await _require_in_sync(rig, rig.in_sync)
    await hold(rng, 0, 3)
    await asyncio.to_thread(rig.cluster.restart, node)


async def _require_in_sync(rig: Rig, replicas: int) -> None:
    setting = {"min.insync.replicas": str(replicas)}
    await asyncio.to_thread(rig.cluster.configure_topic, rig.topic, setting)


@fault("quota")
async def _quota(rig: Rig, rng: random.Random) -> None:
    rate = rng.choice(BYTES_PER_SECOND)
    rig.log(f"  {rate:.0f} bytes a second")
    await limit_rate(rig.cluster.bootstrap_servers, CLIENT_ID, rate)
    try:
        await hold(rng, 2, 5)
    finally:
        await limit_rate(rig.cluster.bootstrap_servers, CLIENT_ID, None)


@fault("brokers-rolled", nodes=3)
async def _brokers_rolled(rig: Rig, rng: random.Random) -> None:
    """One after the other, in order: each hands its partitions over first."""
    for node in rng.sample(rig.cluster.nodes, len(rig.cluster.nodes)):
        await asyncio.to_thread(rig.cluster.shut_down, node)
        await asyncio.to_thread(rig.cluster.restart, node)
        await hold(rng, 0.5, 2)


@fault("brokers-upgraded", nodes=3, ground="an older version")
async def _brokers_upgraded(rig: Rig, rng: random.Random) -> None:
    """One after the other, in order, from an older Kafka to the usual one; then it is a restart."""
    for node in rng.sample(rig.cluster.nodes, len(rig.cluster.nodes)):
        rig.log(f"  node {node}")
        await asyncio.to_thread(rig.cluster.shut_down, node)
        await asyncio.to_thread(rig.cluster.use_version, node, None)
        await asyncio.to_thread(rig.cluster.restart, node)
        await hold(rng, 0.5, 2)


@fault("gateways-rolled", weight=2, gateways=2)
async def _gateways_rolled(rig: Rig, rng: random.Random) -> None:
    """One after the other, in order, behind the balancer: no post fails for it."""
    started = time.monotonic()
    for program in rig.programs:
        await rig.end_program(program)
        await rig.start_program(program)
        await hold(rng, 0.2, 1)
    failed = [
        f"{post.status or post.fault}"
        for post in rig.journal.posts
        if post.started > started and post.status != 200 and post.fault != ANSWERED
    ]
    if failed:
        rig.violations.append(f"{len(failed)} posts failed in a rolling restart: {failed[:5]}")
