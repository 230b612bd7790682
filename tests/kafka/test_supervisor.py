"""The producer's life: first producer, replacement, probes, topics, the end."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from pydantic import SecretStr
from structlog.testing import capture_logs

from bridge.config.settings import CreateTopics, Kafka, Sasl, Security
from bridge.errors import BridgeError
from bridge.kafka import supervisor as module
from bridge.kafka.admin import TopicDescription, creation_command
from bridge.kafka.causes import word_of
from bridge.kafka.credentials import Credentials
from bridge.kafka.producer import InFlight
from bridge.kafka.supervisor import Supervisor, Timing
from bridge.kafka.topic_metadata import Topic
from bridge.model import Log
from tests.support.fake_kafka import DescribeConfigs, FakeProducer, durable, until

QUICK = Timing(watch=0.005, probe=0.02, missing_topic=0.01, backoff=(0.001, 0.01))
SETTINGS = Kafka(topic="status", dead_letter_topic="rejected", publish_timeout_seconds=0.2)


class Cluster:
    """Hands out the scripted producers one after the other; an exception is a refusal."""

    def __init__(self, script: Sequence[FakeProducer | Exception]) -> None:
        self.script = list(script)
        self.attempted_at: list[float] = []

    @property
    def attempts(self) -> int:
        return len(self.attempted_at)

    async def connect(self, _: Kafka) -> FakeProducer:
        self.attempted_at.append(asyncio.get_running_loop().time())
        if not self.script:
            raise KafkaConnectionError("no broker")
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


@asynccontextmanager
async def supervised(
    *script: FakeProducer | Exception,
    settings: Kafka = SETTINGS,
    timing: Timing = QUICK,
    describe_configs: DescribeConfigs = durable,
) -> AsyncIterator[tuple[Supervisor, Cluster]]:
    cluster = Cluster(script)
    supervisor = Supervisor(
        settings,
        ["status"],
        connect=cluster.connect,
        describe_configs=describe_configs,
        timing=timing,
    )
    supervisor.start()
    try:
        yield supervisor, cluster
    finally:
        await supervisor.stop(1)


async def test_it_comes_up_without_kafka_and_is_ready_once_it_is_there() -> None:
    """Whatever an attempt to connect raises, the next one is made."""
    refusals = [KafkaConnectionError("refused"), TimeoutError(), ValueError("garbage")]
    async with supervised(*refusals, FakeProducer()) as (supervisor, cluster):
        assert not supervisor.ready
        await until(lambda: supervisor.ready)
        assert supervisor.connected
        assert cluster.attempts == 4


async def test_a_lost_connection_does_not_take_readiness_away() -> None:
    """An outage must not empty the Service: the answer then is a true 503."""
    producer = FakeProducer()
    async with supervised(producer) as (supervisor, cluster):
        await until(lambda: supervisor.ready)
        producer.answering = False
        await until(lambda: cluster.attempts > 3)
        assert supervisor.ready
        assert not supervisor.connected


@pytest.mark.parametrize("how", ["no broker answers", "stalled", "given up"])
async def test_a_connection_of_no_use_is_replaced_and_abandoned(how: str) -> None:
    old, new = FakeProducer(lambda *_: None), FakeProducer()
    ways: dict[str, Callable[[Supervisor], object]] = {
        "no broker answers": lambda _: setattr(old, "answering", False),
        "stalled": lambda _: old.in_flight.update({asyncio.Future(): InFlight("status", 0, 0.0)}),
        "given up": lambda supervisor: supervisor.give_up(old, "given up"),
    }
    async with supervised(old, new) as (supervisor, _):
        assert await supervisor.current() is old
        with capture_logs() as logs:
            ways[how](supervisor)
            await until(old.failed.done)
            assert await supervisor.current() is new
            await until(lambda: old.closed)
    # The metric's word, so that an alert leads to the line, and what it stands for.
    causes = [(log["cause"], log["error"]) for log in logs if "cause" in log]
    assert causes == [(word_of(how), how)]
    assert new.closed


async def test_nobody_is_handed_a_connection_that_was_given_up() -> None:
    """Not even in the moment before the supervisor has noticed."""
    old, new = FakeProducer(), FakeProducer()
    async with supervised(old, new) as (supervisor, _):
        await supervisor.current()
        supervisor.give_up(old, "broken")
        assert await supervisor.current() is new


async def test_a_probe_that_raises_replaces_the_connection() -> None:
    old, new = FakeProducer(), FakeProducer()

    async def refresh() -> bool:
        raise KafkaConnectionError("gone")

    old.refresh = refresh  # type: ignore[method-assign]
    async with supervised(old, new) as (supervisor, _):
        await supervisor.current()
        await until(old.failed.done)
        assert await supervisor.current() is new


async def test_a_probe_that_hangs_replaces_the_connection() -> None:
    old, new = FakeProducer(), FakeProducer()

    async def refresh() -> bool:
        await asyncio.Event().wait()
        return True

    old.refresh = refresh  # type: ignore[method-assign]
    async with supervised(old, new) as (supervisor, _):
        await supervisor.current()
        await until(old.failed.done)
        assert await supervisor.current() is new


async def test_a_failed_first_look_leaves_no_connection_behind() -> None:
    broken = FakeProducer()

    async def track(names: object) -> dict[str, Topic]:
        del names
        raise KafkaConnectionError("gone")

    broken.track = track  # type: ignore[method-assign]
    async with supervised(broken, FakeProducer()) as (supervisor, _):
        await until(lambda: supervisor.ready)
    assert broken.closed


async def test_a_missing_topic_is_one_message_with_the_command_that_makes_it() -> None:
    """Said once, however often it is looked for; ready as soon as it is there."""
    producer = FakeProducer(topics=["rejected"])
    with capture_logs() as logs:
        async with supervised(producer) as (supervisor, _):
            await until(lambda: producer.tracked > 3)
            assert not supervisor.ready
            producer.topics.add("status")
            await until(lambda: supervisor.ready)
    (message,) = [log for log in logs if log["event"] == "topic is missing"]
    assert message["topic"] == "status"
    assert message["create_it_with"] == (
        "kafka-topics.sh --create --bootstrap-server kafka:9092 --topic status --partitions 6 "
        "--replication-factor 3 --config min.insync.replicas=2"
    )


def test_the_command_that_creates_a_topic_on_a_secured_cluster_needs_its_credentials() -> None:
    secured = Kafka(topic="status", security=Security(protocol="SSL"))
    assert (
        "--bootstrap-server kafka:9092 --command-config client.properties --topic status "
        in creation_command(secured, "status")
    )


async def test_a_missing_dead_letter_topic_is_said_but_does_not_hold_it_up() -> None:
    with capture_logs() as logs:
        async with supervised(FakeProducer(topics=["status"])) as (supervisor, _):
            await until(lambda: supervisor.ready)
    assert [log["topic"] for log in logs if log["event"] == "topic is missing"] == ["rejected"]


@pytest.mark.parametrize(
    ("kind", "lacking"), [("unwritable", "Write"), ("denied", "Describe and Write")]
)
async def test_a_denied_topic_is_one_message_and_not_ready(kind: str, lacking: str) -> None:
    """Said once, however often it is looked for, and never taken for missing."""
    producer = FakeProducer()
    getattr(producer, kind).add("status")
    with capture_logs() as logs:
        async with supervised(producer) as (supervisor, _):
            await until(lambda: producer.tracked > 3)
            assert (
                supervisor.not_ready_because
                == f"topic status not authorized: allow {lacking} on it"
            )
            assert not supervisor.ready
            getattr(producer, kind).clear()
            await until(lambda: supervisor.ready)
    events = [log["event"] for log in logs]
    assert events.count("topic not authorized") == 1
    assert events.count("topic authorized again") == 1
    assert "topic is missing" not in events


async def test_a_denied_dead_letter_topic_is_said_but_does_not_hold_it_up() -> None:
    producer = FakeProducer()
    producer.denied.add("rejected")
    with capture_logs() as logs:
        async with supervised(producer) as (supervisor, _):
            await until(lambda: supervisor.ready)
            deadline = asyncio.get_running_loop().time() + 1
            asked = {"status": [0], "rejected": [0]}
            assert {*await supervisor.current_logs(asked, deadline)} == {"status"}
    assert [log["topic"] for log in logs if log["event"] == "topic not authorized"] == ["rejected"]


async def test_why_there_is_no_connection_is_said_once_and_where_it_is_looked_for() -> None:
    """In the log, each reason once for a while; and as what keeps it from being ready."""
    script = [BridgeError("wrong password"), BridgeError("wrong password"), BridgeError("expired")]
    with capture_logs() as logs:
        timing = replace(QUICK, backoff=(0.1, 0.1))
        async with supervised(*script, timing=timing) as (supervisor, cluster):
            because = "cannot reach Kafka: wrong password"
            await until(lambda: supervisor.not_ready_because == because)
            await until(lambda: cluster.attempts > 4)
    said = [log["error"] for log in logs if log["event"] == "cannot reach Kafka"]
    assert said == ["wrong password", "expired", "KafkaConnectionError: no broker"]


async def test_missing_topics_are_made_where_that_is_enabled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = FakeProducer(topics=[])

    async def create(_: Kafka, topics: frozenset[str], __: Credentials) -> None:
        producer.topics |= topics

    monkeypatch.setattr(module, "create_topics", create)
    settings = SETTINGS.model_copy(update={"create_topics": CreateTopics(enabled=True)})
    async with supervised(producer, settings=settings) as (supervisor, _):
        await until(lambda: supervisor.ready)
    assert producer.topics == {"status", "rejected"}


async def test_attempts_are_spaced_by_a_growing_pause() -> None:
    """With the brokers down there are few attempts, not a busy loop."""
    timing = Timing(watch=0.005, probe=60, missing_topic=60, backoff=(0.02, 10))
    async with supervised(timing=timing) as (_, cluster):
        await until(lambda: cluster.attempts >= 6)
    pauses = [later - earlier for earlier, later in pairwise(cluster.attempted_at)]
    for number, pause in enumerate(pauses):
        assert pause > 0.5 * 0.02 * 2**number - 0.001


async def test_stop_takes_no_longer_than_its_time() -> None:
    """However long a producer takes to end: the process has promised when it is gone."""
    producer = FakeProducer()

    async def close(seconds: float) -> None:
        del seconds
        await asyncio.Event().wait()

    producer.close = close  # type: ignore[method-assign]
    cluster = Cluster([producer])
    supervisor = Supervisor(
        SETTINGS, ["status"], connect=cluster.connect, describe_configs=durable, timing=QUICK
    )
    supervisor.start()
    await supervisor.current()
    async with asyncio.timeout(60):
        await supervisor.stop(0.1)


async def test_stop_ends_a_connection_that_was_given_up_just_now() -> None:
    """Its task is ended before it has begun."""
    old = FakeProducer()
    async with supervised(FakeProducer()) as (supervisor, _):
        await supervisor.current()
        supervisor._wind_down(old)
    assert old.closed


async def test_stop_ends_every_task_and_connection() -> None:
    before = asyncio.all_tasks()
    producer = FakeProducer()
    async with supervised(producer) as (supervisor, _):
        await supervisor.current()
    assert producer.closed
    await until(lambda: asyncio.all_tasks() == before)


# --- other credentials, other topics -----------------------------------------------------


def secured(password: str) -> Kafka:
    sasl = Sasl(mechanism="PLAIN", username="u", password=SecretStr(password))
    return SETTINGS.model_copy(update={"security": Security(protocol="SASL_PLAINTEXT", sasl=sasl)})


async def test_new_credentials_are_in_use_once_a_broker_accepts_them() -> None:
    """Until then the producer stays that there is, and one line says why; no cause is counted."""
    old, new = FakeProducer(lambda *_: None), FakeProducer()
    refusals = [BridgeError("refused")] * 1000
    async with supervised(old, *refusals, settings=secured("old")) as (supervisor, cluster):
        assert await supervisor.current() is old
        reply: asyncio.Future[int] = asyncio.Future()
        old.in_flight[reply] = InFlight("status", 0, time.monotonic())
        with capture_logs() as logs:
            await supervisor.use(secured("new"), ["status"])
            await until(lambda: cluster.attempts > 2)
            assert await supervisor.current() is old
            cluster.script.insert(0, new)
            await until(lambda: supervisor.producer is new)
        assert supervisor.connected
        assert not old.closed  # what is in flight has its time
        old.in_flight.clear()
        reply.set_result(0)
        await until(lambda: old.closed)
        assert not old.failed.done()
    assert [log["event"] for log in logs] == [
        "connections with new credentials fail; former ones in use",
        "new credentials are in use",
    ]


async def test_without_a_producer_new_credentials_come_first_and_then_the_former() -> None:
    """Whichever of both the brokers know by now."""
    used: list[Kafka] = []
    async with supervised(settings=secured("old")) as (supervisor, cluster):
        connect = cluster.connect

        async def noted(settings: Kafka) -> FakeProducer:
            used.append(settings)
            return await connect(settings)

        supervisor._connect = noted
        await supervisor.use(secured("new"), ["status"])
        await until(lambda: used[-2:] == [secured("new"), secured("old")])
        cluster.script.append(FakeProducer())
        await until(lambda: supervisor.connected)


async def test_credentials_that_are_taken_back_are_not_tried_again() -> None:
    async with supervised(FakeProducer(), settings=secured("old")) as (supervisor, cluster):
        await supervisor.current()
        await supervisor.use(secured("new"), ["status"])
        await until(lambda: cluster.attempts > 1)
        await supervisor.use(secured("old"), ["status"])
        attempts = cluster.attempts
        await asyncio.sleep(QUICK.probe * 3)
        assert cluster.attempts <= attempts + 1  # one may have been under way


async def test_credentials_that_are_taken_back_while_they_are_tried_are_not_used() -> None:
    """They may be wrong in all but that a broker still knows them."""
    old, new = FakeProducer(), FakeProducer()
    async with supervised(old, settings=secured("old")) as (supervisor, _):
        await supervisor.current()
        tried, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_: Kafka) -> FakeProducer:
            tried.set()
            await go_on.wait()
            return new

        supervisor._connect = slow
        await supervisor.use(secured("new"), ["status"])
        await tried.wait()
        await supervisor.use(secured("old"), ["status"])
        go_on.set()
        await until(lambda: new.closed)
        assert supervisor.producer is old


async def test_new_topics_are_known_when_they_are_in_use() -> None:
    """A first post to a new endpoint must not find that its topic is not known yet."""
    producer = FakeProducer(topics=["status", "rejected", "brand"])
    slow = Timing(watch=0.005, probe=60, missing_topic=60)
    async with supervised(producer, timing=slow) as (supervisor, _):
        await until(lambda: supervisor.ready)
        assert supervisor.last_seen("brand") is None
        await supervisor.use(SETTINGS, ["status", "brand"])
        assert supervisor.last_seen("brand") is not None
        await supervisor.use(SETTINGS, ["brand"])
        assert supervisor.ready


async def test_without_kafka_new_topics_hold_nothing_up() -> None:
    async with supervised() as (supervisor, _):
        async with asyncio.timeout(60):
            await supervisor.use(SETTINGS, ["status", "brand"])
        assert not supervisor.ready


async def test_a_reload_without_new_topics_waits_for_no_broker() -> None:
    """A token that is taken back must not work on while Kafka is looked for."""
    async with supervised() as (supervisor, _):
        using = asyncio.create_task(supervisor.use(SETTINGS, ["status"]))
        await asyncio.sleep(0)
        assert using.done()
        assert not supervisor.ready


# --- what the topics' settings mean ------------------------------------------------------


def described(replicas: int = 3, min_in_sync: int | None = 2, **more: Any) -> DescribeConfigs:
    async def describe_configs(_: Kafka, topics: Mapping[str, Topic]) -> list[TopicDescription]:
        return [
            TopicDescription(replace(topic, replicas=replicas), min_in_sync, **more)
            for topic in topics.values()
        ]

    return describe_configs


@pytest.mark.parametrize(("replicas", "min_in_sync"), [(2, 2), (3, 1), (1, 1)])
async def test_what_is_at_risk_is_said_and_with_require_not_ready(
    replicas: int, min_in_sync: int
) -> None:
    risky = described(replicas, min_in_sync)
    with capture_logs() as logs:
        async with supervised(FakeProducer(), describe_configs=risky) as (supervisor, _):
            await until(lambda: supervisor.ready)
    assert len([log for log in logs if "because" in log]) == 2
    require = SETTINGS.model_copy(update={"durability": "require"})
    producer = FakeProducer()
    async with supervised(producer, describe_configs=risky, settings=require) as (supervisor, _):
        await until(lambda: producer.tracked > 4)
        assert supervisor.connected
        assert not supervisor.ready
        said = "topic status is not durable, and durability is require"
        assert supervisor.not_ready_because == said


async def test_with_require_it_is_ready_once_the_topic_is_mended() -> None:
    require = SETTINGS.model_copy(update={"durability": "require"})
    seen: list[int] = []

    async def describe_configs(
        settings: Kafka, topics: Mapping[str, Topic]
    ) -> list[TopicDescription]:
        seen.append(len(topics))
        return await described(3, 1 if len(seen) < 3 else 2)(settings, topics)

    async with supervised(FakeProducer(), describe_configs=describe_configs, settings=require) as (
        supervisor,
        _,
    ):
        await until(lambda: supervisor.ready)
    assert len(seen) == 3


async def test_settings_that_may_not_be_read_are_a_warning() -> None:
    require = SETTINGS.model_copy(update={"durability": "require"})
    denied = described(3, None, unreadable="not authorized")
    with capture_logs() as logs:
        async with supervised(FakeProducer(), describe_configs=denied, settings=require) as (
            sup,
            _,
        ):
            await until(lambda: sup.ready)
    (said, _) = [log["what"] for log in logs if "what" in log]
    assert said == "its settings cannot be read: not authorized"


async def test_what_the_topic_takes_is_read_again_and_kept_where_the_broker_is_silent() -> None:
    """It may be changed at any time; a look without an answer changes nothing."""
    seen: list[int] = []

    async def describe_configs(
        settings: Kafka, topics: Mapping[str, Topic]
    ) -> list[TopicDescription]:
        seen.append(len(topics))
        if len(seen) % 3 == 2:
            return await described(2, None, unreadable="silent", unanswered=True)(settings, topics)
        return await described(max_message_bytes=4000 if len(seen) < 3 else 5000)(settings, topics)

    timing = replace(QUICK, config_age=0.0)
    async with supervised(FakeProducer(), describe_configs=describe_configs, timing=timing) as (
        supervisor,
        _,
    ):
        await until(lambda: len(seen) >= 2)
        assert supervisor.max_message_bytes("status") == 4000
        assert supervisor.max_message_bytes("another") is None
        await until(lambda: supervisor.max_message_bytes("status") == 5000)


async def test_what_the_topic_takes_is_not_read_with_each_probe() -> None:
    seen: list[int] = []

    async def describe_configs(
        settings: Kafka, topics: Mapping[str, Topic]
    ) -> list[TopicDescription]:
        seen.append(len(topics))
        return await durable(settings, topics)

    producer = FakeProducer()
    async with supervised(producer, describe_configs=describe_configs):
        await until(lambda: producer.tracked > 5)
    assert seen == [2]


async def test_a_topic_s_log_is_known_and_asked_for() -> None:
    producer = FakeProducer()
    async with supervised(producer, FakeProducer()) as (supervisor, _):
        await until(lambda: supervisor.ready)
        deadline = asyncio.get_running_loop().time() + 1
        assert supervisor.last_seen("status") == Log(b"first", {0: 0})
        producer.topic_id, producer.epoch, producer.start = b"second", 3, 7
        logs = await supervisor.current_logs({"status": [0], "another": [0]}, deadline)
        assert logs == {"status": Log(b"second", {0: 3}, {0: 7})}
        await until(lambda: supervisor.last_seen("status") == Log(b"second", {0: 3}))
        generation = supervisor.generation
        supervisor.give_up(producer, "broken")
        assert await supervisor.current_logs({"status": [0]}, deadline) == {}
        await supervisor.current()
        assert supervisor.generation > generation


async def test_a_producer_that_was_given_up_right_before_the_end_is_ended_too() -> None:
    producer = FakeProducer()
    async with supervised(producer) as (supervisor, _):
        await until(lambda: supervisor.ready)
        supervisor.give_up(producer, "broken")
        await supervisor.stop(1)
        assert producer.closed


async def test_the_start_of_a_log_is_not_that_of_the_topic_s_successor() -> None:
    """A topic may be re-created between two questions: its new log begins at 0 again."""
    producer = FakeProducer()
    producer.start = 7
    async with supervised(producer) as (supervisor, _):
        await until(lambda: supervisor.ready)
        offsets, describe = producer.offsets, producer.describe
        asked: list[str] = []

        def then(question: str) -> None:
            asked.append(question)
            if len(asked) == 1:
                producer.topic_id, producer.start = b"second", 0

        async def offsets_then(*arguments: Any) -> Mapping[int, int]:
            told = await offsets(*arguments)
            then("offsets")
            return told

        async def describe_then(names: Iterable[str]) -> dict[str, Topic]:
            told = await describe(names)
            then("describe")
            return told

        producer.offsets = offsets_then  # type: ignore[method-assign,assignment]
        producer.describe = describe_then  # type: ignore[method-assign]
        deadline = asyncio.get_running_loop().time() + 1
        logs = await supervisor.current_logs({"status": [0]}, deadline)
    assert len(asked) == 2
    assert logs["status"] != Log(b"first", {0: 0}, {0: 0})


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), RuntimeError("closed")])
async def test_logs_that_cannot_be_asked_for_prove_nothing(error: Exception) -> None:
    """Uvloop raises its own error where a transport is closed already."""
    producer = FakeProducer()
    async with supervised(producer) as (supervisor, _):
        await until(lambda: supervisor.ready)

        async def describe(names: object) -> dict[str, Topic]:
            del names
            raise error

        producer.describe = describe  # type: ignore[method-assign]
        deadline = asyncio.get_running_loop().time() + 1
        assert await supervisor.current_logs({"status": [0]}, deadline) == {}
