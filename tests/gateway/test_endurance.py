"""The promise at length: outages, kills, ends, hostile senders. SMS_BRIDGE_LONG=1 has them all.

Without it each test is a short run of the same. The figures of each are written to stderr.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.duplicates import Deduplicator, RecentEvents
from bridge.model import Log, Message, Result, Route
from bridge.pipeline import Pipeline, prepare
from tests.gateway.long import LONG, MIB, long_or_short, percentile, say
from tests.support.brokers import ExternalKafka, KafkaCluster
from tests.support.fake_kafka import until
from tests.support.fakes import RecordingPublisher, Verdict
from tests.support.gateway import Gateway, configuration
from tests.support.senders import Load, Sender, Stalls, document, memory
from tests.support.topics import read_topic

SEED = 20_111
LEEWAY_SECONDS = 0.5


def keys(kafka: ExternalKafka, topic: str) -> set[str]:
    """Every id that an independent client finds in the topic."""
    records = read_topic(kafka.bootstrap_servers, topic, timeout=120)
    return {(record.key or b"").decode() for record in records}


@pytest.fixture
def rejected(kafka: ExternalKafka, kafka_topic: str) -> str:
    """The dead-letter topic that belongs to `kafka_topic`."""
    kafka.create_topic(f"{kafka_topic}.rejected", 1)
    return f"{kafka_topic}.rejected"


# --- Kafka away --------------------------------------------------------------------------


AWAY_SECONDS = long_or_short(60, 3)  # and the seconds that a broker takes to start
SENDERS = 2000
IN_FLIGHT = (256, SENDERS) if LONG else (256,)
AWAY_BYTES = 256 * MIB
RECOVERY_SECONDS = 60.0


@pytest.mark.parametrize("in_flight", IN_FLIGHT)
async def test_kafka_is_away_under_two_thousand_posts_at_once(
    kafka_cluster: KafkaCluster, kafka_topic: str, rejected: str, in_flight: int
) -> None:
    """As many of them waiting in the gateway as may, the others turned away at once.

    Every answer comes by the deadline; memory is bounded; all is taken soon after the return.
    """
    config = configuration(kafka_cluster.bootstrap_servers, kafka_topic, rejected)
    config["server"]["max_in_flight"] = in_flight
    rng = random.Random(SEED)
    with Gateway(config) as gateway:
        load = Load(gateway.server_address, "away", pause=lambda: rng.uniform(1, 5))
        async with Stalls(gateway.process.pid) as stalls, load.running(SENDERS):
            await until(lambda: len(load.posts) > SENDERS and bool(load.acknowledged), seconds=120)
            await asyncio.to_thread(kafka_cluster.kill)
            away_since = time.monotonic()
            await asyncio.sleep(AWAY_SECONDS)
            await asyncio.to_thread(kafka_cluster.restart)
            back_at, taken = time.monotonic(), len(load.acknowledged)
            await until(lambda: len(load.acknowledged) > taken, seconds=RECOVERY_SECONDS)
            first_after = time.monotonic() - back_at
            load.finishing = True
            await until(lambda: not load.waiting, seconds=300)
            all_after = time.monotonic() - back_at
        peak = memory(gateway.process.pid)[1]
    during = [p for p in load.posts if p.started > away_since and p.ended < back_at]
    late = [p.seconds - stalls.within(p.started, p.ended) for p in load.posts]
    say(
        in_flight=in_flight,
        away=back_at - away_since,
        posts=len(load.posts),
        posts_while_away=len(during),
        p50=percentile([p.seconds for p in during], 0.5),
        p99=percentile([p.seconds for p in during], 0.99),
        longest=max(p.seconds for p in load.posts),
        longest_less_stalls=max(late),
        stalls=stalls.total,
        longest_stall=stalls.longest,
        first_acknowledged_after=first_after,
        all_acknowledged_after=all_after,
        peak_mib=peak // MIB,
    )
    assert {p.status for p in during} == {503}
    assert {p.status for p in load.posts} == {200, 503}
    assert max(late) < 4 + LEEWAY_SECONDS
    assert peak < AWAY_BYTES
    assert not load.foreign
    assert load.acknowledged <= await asyncio.to_thread(keys, kafka_cluster, kafka_topic)


# --- the gateway is killed ---------------------------------------------------------------


KILLS = long_or_short(50, 5)
KILL_SENDERS = 20


async def test_what_was_acknowledged_before_a_kill_is_in_the_log(
    kafka: ExternalKafka, kafka_topic: str, rejected: str
) -> None:
    """SIGKILL under load, again and again: no buffer ever stood for a record."""
    config = configuration(kafka.bootstrap_servers, kafka_topic, rejected)
    rng = random.Random(SEED)
    acknowledged: set[str] = set()
    broken = 0
    for number in range(KILLS):
        with Gateway(config) as gateway:
            load = Load(gateway.server_address, f"kill{number}", states=5)
            async with load.running(KILL_SENDERS):
                await until(lambda load=load: bool(load.acknowledged))  # type: ignore[misc]
                await asyncio.sleep(rng.uniform(0, 0.3))
                gateway.process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(gateway.process.wait)
                await asyncio.sleep(0.05)  # for the answers that were out
        acknowledged |= load.acknowledged
        broken += len(load.waiting)
        assert not load.foreign
    found = await asyncio.to_thread(keys, kafka, kafka_topic)
    say(
        kills=KILLS,
        acknowledged=len(acknowledged),
        in_flight_when_killed=broken,
        of_those_in_the_log=len(found - acknowledged),
        missing=len(acknowledged - found),
    )
    assert broken >= KILLS
    assert not acknowledged - found


# --- the gateway is ended ----------------------------------------------------------------


ENDS = long_or_short(50, 6)
DRAIN_DELAY = 0.3
GRACE = 3.0
PUBLISH_TIMEOUT = 0.7
END_SENDERS = 10
ENDINGS = ("at work", "a half-sent body", "the broker down")


async def test_sigterm_in_the_middle_of_requests(
    new_embedded: type[EmbeddedBroker], kafka: ExternalKafka, kafka_topic: str, rejected: str
) -> None:
    """Status 0 in time, an answer to all that was sent before, and no false acknowledgement."""
    rng = random.Random(SEED)
    longest: Counter[str] = Counter()
    acknowledged: set[str] = set()
    for number in range(ENDS):
        kind = ENDINGS[number % len(ENDINGS)]
        async with _to_be_ended(new_embedded, kafka, kafka_topic, rejected, kind) as gateway:
            load = Load(gateway.server_address, f"end{number}", states=3)
            seconds = await _end(gateway, load, kind, rng.uniform(0, 0.3))
        if kind == "the broker down":
            assert not load.acknowledged
            assert {post.status for post in load.posts} <= {503, None}
        acknowledged |= load.acknowledged
        longest[kind] = max(longest[kind], seconds)  # type: ignore[assignment]
    found = await asyncio.to_thread(keys, kafka, kafka_topic)
    say(
        ends=ENDS,
        acknowledged=len(acknowledged),
        missing=len(acknowledged - found),
        **{f"longest with {kind}": float(seconds) for kind, seconds in longest.items()},
    )
    assert acknowledged
    assert not acknowledged - found


@asynccontextmanager
async def _to_be_ended(
    new_embedded: type[EmbeddedBroker], kafka: ExternalKafka, topic: str, rejected: str, kind: str
) -> AsyncIterator[Gateway]:
    server = {"drain_delay_seconds": DRAIN_DELAY, "shutdown_grace_seconds": GRACE}
    if kind != "the broker down":
        config = configuration(kafka.bootstrap_servers, topic, rejected, server=server)
        with Gateway(config) as gateway:
            yield gateway
        return
    with new_embedded(topic, rejected) as broker:
        config = configuration(broker.bootstrap_servers, topic, rejected, server=server)
        config["kafka"]["publish_timeout_seconds"] = PUBLISH_TIMEOUT
        with Gateway(config) as gateway:
            broker.stop()
            yield gateway


async def _end(gateway: Gateway, load: Load, kind: str, after: float) -> float:
    """Send SIGTERM under load; how long it took. Fails but on status 0 in time."""
    writers = []
    async with Stalls(gateway.process.pid) as stalls, load.running(END_SENDERS):
        if kind == "a half-sent body":
            _, writer = await asyncio.open_connection(*gateway.server_address)
            writer.write(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n<re")
            writers.append(writer)
        await until(lambda: bool(load.waiting))
        await asyncio.sleep(0.05 + after)
        started = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        await until(lambda: gateway.process.poll() is not None, seconds=120)
        ended = time.monotonic()
    for writer in writers:
        writer.transport.abort()
    assert gateway.process.returncode == 0
    seconds = ended - started - stalls.within(started, ended)
    assert seconds < DRAIN_DELAY + GRACE
    assert not load.foreign
    # The delay is there so that nobody who was served before is cut off.
    assert None not in {post.status for post in load.posts if post.started < started}
    return seconds


# --- an id of which one state fails ------------------------------------------------------


BAD = b'<state id_sms="victim">?</state>'
HALVES = long_or_short(1000, 200)
ROUTE = Route(
    endpoint="main",
    source="urn:example:sms:main",
    timezone=ZoneInfo("UTC"),
    topic="status",
    dead_letter_topic="rejected",
    type_prefix="com.example.messaging",
    content_mode="structured",
)


class Steady:
    """A cluster that never changes: what is remembered is believed."""

    generation = 1

    def last_seen(self, topic: str) -> Log:
        return Log(topic.encode(), {0: 0}, {0: 0})

    async def current_logs(self, partitions: Any, deadline: float) -> dict[str, Log]:
        del deadline
        return {topic: self.last_seen(topic) for topic in partitions}


def _states(rng: random.Random, *ids: str) -> bytes:
    """Two states of each id, in any order."""
    lines = [
        f'<state id_sms="{one}" time="2011-01-01 12:57:{second:02}" sms="{word}">{word}</state>'
        for one in ids
        for second, word in ((46, "send"), (47, "read"))
    ]
    rng.shuffle(lines)
    return f"<response>{''.join(lines)}</response>".encode()


@pytest.mark.parametrize("verdict", [Result.FAILED, Result.UNKNOWN, "too_large"])
async def test_an_id_of_which_one_state_fails_is_never_acknowledged(verdict: Verdict) -> None:
    """Not at the first post, and not at the thousandth, when all else of it is remembered."""

    def decide(message: Message) -> Verdict:
        if b"victim" in (message.key or b"") and (
            b'"read"' in message.value or message.topic == "rejected"
        ):
            return verdict
        return Result.PUBLISHED

    publisher = Deduplicator(RecordingPublisher(decide), Steady(), RecentEvents(10_000, 600))
    pipeline, rng, now = Pipeline(publisher), random.Random(SEED), datetime.now(UTC)
    for number in range(1000):  # in process they cost next to nothing
        body = _states(rng, "victim", f"victim.{number}", f"good.{number}", "good")
        prepared = prepare(ROUTE, body, now, max_states=100)
        receipt = await pipeline.accept(ROUTE, prepared, now, 0.0)
        assert set(receipt.listed) == {f"good.{number}", "good"}
        assert set(receipt.unlisted) == {"victim", f"victim.{number}"}


async def test_an_id_whose_dead_letter_cannot_be_written_is_never_acknowledged(
    kafka: ExternalKafka, kafka_topic: str
) -> None:
    """Over HTTP: one state is taken, the other has no topic to go to."""
    config = configuration(kafka.bootstrap_servers, kafka_topic, f"{kafka_topic}.not.there")
    with Gateway(config) as gateway:
        sender = Sender(gateway.server_address)
        for number in range(HALVES):
            good = document("victim", f"good.{number}")
            post = await sender.post(good.replace(b"</response>", BAD + b"</response>"))
            assert (post.status, post.listed) == (200, frozenset({f"good.{number}"}))
        alone = await sender.post(b"<response>" + BAD + b"</response>")
        assert (alone.status, alone.listed) == (503, frozenset())
        sender.close()
    found = await asyncio.to_thread(keys, kafka, kafka_topic)
    assert found == {"victim"} | {f"good.{n}" for n in range(HALVES)}
