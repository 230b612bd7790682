"""Owns the producer's life: opens it, watches it, replaces it, and ends the old one.

What it does not do: touch a record. Who finds the producer broken says so with `give_up`.
"""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import structlog

from bridge.clip import reason_of
from bridge.config.settings import Kafka
from bridge.kafka import admin
from bridge.kafka.admin import (
    TopicDescription,
    create_topics,
    creation_command,
    log_warnings,
)
from bridge.kafka.causes import ADVICE, AWAY, explained, word_of
from bridge.kafka.credentials import Credentials
from bridge.kafka.losses import Losses
from bridge.kafka.producer import Producer
from bridge.kafka.renewal import follow
from bridge.kafka.topic_metadata import EARLIEST, Topic
from bridge.model import Log

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timing:
    """How often the supervisor does what, in seconds.

    `backoff` is the first and the longest pause between two attempts to connect, before jitter;
    `complaint` the least time between two lines that say that none succeeds, or that brokers
    throttle; `config_age` the age at which a topic's settings are read again.
    """

    watch: float = 0.25
    probe: float = 5.0
    missing_topic: float = 1.0
    complaint: float = 30.0
    config_age: float = 30.0
    backoff: tuple[float, float] = (0.1, 2.0)


class Supervisor:
    """Keeps one producer at a time, from the first one that can be had on.

    `topics` must exist for it to be ready; the dead-letter topic only for dead letters.
    `connect` and `describe_configs` reach the cluster. `on_rebuild` gets the cause of each
    replacement, and `on_refusal` that of each batch refused without one, as one of a few words
    (causes.py); `on_throttle` the seconds for which a broker asks to be left alone.
    """

    states: ClassVar[tuple[str, ...]] = ("starting", "connected", "replacing")

    def __init__(
        self,
        settings: Kafka,
        topics: Sequence[str],
        *,
        connect: Callable[[Kafka], Awaitable[Producer]] | None = None,
        describe_configs: Callable[[Kafka, Mapping[str, Topic]], Awaitable[list[TopicDescription]]]
        | None = None,
        timing: Timing = Timing(),
        on_rebuild: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        # What no broker has accepted yet.
        self._next: tuple[Kafka, Credentials] | None = None
        self._next_tried_at = -math.inf
        self._next_fault: str | None = None
        self._on_rebuild = on_rebuild
        self.on_refusal: Callable[[str], None] = lambda _: None
        self.on_throttle: Callable[[float], None] = lambda _: None
        self._required = frozenset(topics)
        self._wanted = frozenset(settings.with_dead_letters(tuple(topics)))
        self._credentials = Credentials(settings)
        self._connect = connect or self._open_producer
        self._describe_configs = describe_configs or self._read_configs
        self._timing = timing
        self._topics: dict[str, Topic] = {}
        self._looked_for: frozenset[str] = frozenset()
        self._looked = asyncio.Event()
        self._logs: dict[str, Log] = {}
        self._missing: frozenset[str] = frozenset()
        self._denied: dict[str, str] = {}  # topic -> the operations to allow
        self._descriptions: dict[str, TopicDescription] = {}
        self._described_at: dict[str, float] = {}
        self._throttle_said_at = -math.inf
        self.losses = Losses()
        self.generation = 0  # of the producer
        self._producer: Producer | None = None
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._winding_down: dict[asyncio.Task[None], Producer] = {}
        self.ready = False  # once true it stays: an outage must not empty the Service
        self.not_ready_because = "Kafka was not found yet"
        self.reachable = False  # the brokers, when they were last asked

    @property
    def connected(self) -> bool:
        """Whether there is a producer to publish through."""
        return self._producer is not None

    @property
    def state(self) -> str:
        """What the producer is at, one of `states`."""
        if self.connected:
            return "connected"
        return "replacing" if self.generation else "starting"

    def start(self) -> None:
        """Connect in the background, for as long as it takes."""
        self._task = asyncio.create_task(self._run(), name="kafka supervisor")
        if self._credentials.files is not None:
            following = follow(
                lambda: (self._settings, self._credentials.tokens),
                self._credentials.files,
                self._timing.probe,
            )
            self._renewal = asyncio.create_task(following, name="kafka TLS files")

    async def use(self, settings: Kafka, topics: Sequence[str]) -> None:
        """Go on with other topics, and with other credentials once a broker accepts them.

        Returns as soon as new topics were looked for, or cannot be in the time of a request.
        """
        former = self._wanted
        self._required = frozenset(topics)
        self._wanted = frozenset(settings.with_dead_letters(tuple(topics)))
        if self._credentials.files is not None:
            self._credentials.files.use(settings.security.tls)
        self._forget_next()
        if settings.security.sasl == self._settings.security.sasl:
            self._settings = settings
        else:
            self._next = settings, self._credentials.anew(settings)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.publish_timeout_seconds):
                while self._wanted - former - self._looked_for:
                    self._looked.clear()
                    await self._looked.wait()

    def _forget_next(self) -> None:
        if self._next is not None:
            self._next[1].close()
        self._next, self._next_tried_at, self._next_fault = None, -math.inf, None

    def _credentials_for(self, settings: Kafka) -> Credentials:
        if self._next is not None and self._next[0] is settings:
            return self._next[1]
        return self._credentials

    async def _open_producer(self, settings: Kafka) -> Producer:
        return await Producer.open(settings, credentials=self._credentials_for(settings))

    async def _read_configs(
        self, settings: Kafka, topics: Mapping[str, Topic]
    ) -> list[TopicDescription]:
        credentials = self._credentials_for(settings)
        return await admin.describe_configs(settings, topics, credentials=credentials)

    async def stop(self, seconds: float) -> None:
        """Flush and disconnect, within the time; what is left then ends with the process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._disconnect(seconds)

    async def _disconnect(self, seconds: float) -> None:
        all_tasks = (self._task, self._renewal, *self._winding_down)
        tasks = [task for task in all_tasks if task is not None]
        for task in tasks:
            task.cancel()
        self._credentials.close()
        producer, self._producer = self._producer, None
        if producer is not None:
            # Half the time to flush, and half for what cannot be flushed.
            await producer.close(seconds / 2)
        left = list(self._winding_down.values())
        await asyncio.gather(*tasks, return_exceptions=True)
        for producer in left:  # a task that had not begun has ended nothing
            await producer.abandon()

    @property
    def producer(self) -> Producer | None:
        """The producer; None while there is none."""
        return self._producer

    async def current(self) -> Producer:
        """The producer, as soon as there is one."""
        while self._producer is None:
            await self._connected.wait()
        return self._producer

    def last_seen(self, topic: str) -> Log | None:
        """The topic as last seen, if its cluster tells it from others of its name."""
        return self._logs.get(topic)

    async def current_logs(
        self, partitions: Mapping[str, Collection[int]], deadline: float
    ) -> dict[str, Log]:
        """The topics as they are now, with the starts of these partitions.

        Without what the cluster does not tell in time.
        """
        producer = self._producer
        if producer is None:
            return {}
        logs: dict[str, Log] = {}
        known = {name: self._topics[name] for name in partitions if name in self._topics}
        try:
            async with asyncio.timeout_at(deadline):
                starts = {
                    name: await producer.offsets(topic, partitions[name], EARLIEST)
                    for name, topic in known.items()
                }
                # Only then: a topic that still has its id had it when its starts were told. In the
                # other order they might be those of another topic, made under its name in between.
                for name, topic in (await producer.describe(known)).items():
                    if (log_now := _log_of(topic)) is not None:
                        logs[name] = replace(log_now, starts=starts[name])
        except Exception as exc:  # noqa: BLE001 -- without an answer there is no proof, that is all
            log.info("could not describe topics", error=reason_of(exc))
        return logs

    def max_message_bytes(self, topic: str) -> int | None:
        """How large a batch the topic takes, if that is known."""
        described = self._descriptions.get(topic)
        return described.max_message_bytes if described is not None else None

    def doubt(self, topic: str) -> None:
        """Have the topic's settings read again: a broker does not keep to what is known of them."""
        self._described_at[topic] = -math.inf

    def refused(self, cause: str) -> None:
        """Count a batch that a broker refused; the producer stays."""
        self.on_refusal(word_of(cause))

    def give_up(self, producer: Producer, cause: str) -> None:
        """Have the producer replaced; nobody is handed it any more."""
        producer.fail(cause)
        if self._producer is producer:
            self.reachable = word_of(cause) not in AWAY
            self._producer = None
            self._connected.clear()

    async def _run(self) -> None:
        while True:
            producer = await self._open()
            self._hand_out(producer)
            log.info("connected to Kafka")
            try:
                while (successor := await self._watch(producer)) is not None:
                    self._hand_out(successor)
                    self._wind_down(producer)
                    producer = successor
            except asyncio.CancelledError:
                if producer.failed.done():  # given up just now: nobody else ends it
                    await producer.abandon()
                raise
            cause = producer.failed.result()
            self._on_rebuild(word_of(cause))
            log.warning("replacing the producer", cause=word_of(cause), error=explained(cause))
            self._wind_down(producer)

    def _hand_out(self, producer: Producer) -> None:
        producer.on_throttle = self._throttled
        self._producer = producer
        self.generation += 1
        self._connected.set()
        self.reachable = True

    def _throttled(self, seconds: float) -> None:
        self.on_throttle(seconds)
        if time.monotonic() - self._throttle_said_at > self._timing.complaint:
            self._throttle_said_at = time.monotonic()
            log.warning("throttled by a broker", seconds=seconds, fix=ADVICE["throttled"])

    # --- opening -------------------------------------------------------------------------

    async def _open(self) -> Producer:
        pause, longest = self._timing.backoff
        said_at: dict[str, float] = {}
        while True:
            try:
                return await self._attempt()
            except Exception as exc:  # noqa: BLE001 -- whatever it is, the next try may succeed
                self.reachable = False
                self._complain(reason_of(exc), said_at)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
            pause = min(pause * 2, longest)

    def _complain(self, reason: str, said_at: dict[str, float]) -> None:
        """Say at once why there is no producer, and the same again only after a while."""
        if not self.ready:
            self.not_ready_because = f"cannot reach Kafka: {reason}"
        if time.monotonic() - said_at.get(reason, -math.inf) > self._timing.complaint:
            said_at[reason] = time.monotonic()
            servers = ",".join(self._settings.bootstrap_servers)
            log.warning("cannot reach Kafka", servers=servers, error=reason)

    async def _attempt(self) -> Producer:
        """Connect once; with new credentials, or else with those in use."""
        if self._next is not None:
            successor = await self._successor(*self._next)
            if successor is not None:
                return successor
        return await self._attempt_with(self._settings)

    async def _successor(self, settings: Kafka, credentials: Credentials) -> Producer | None:
        """A producer with new credentials, which are then in use; None if it cannot be had."""
        self._next_tried_at = time.monotonic()
        try:
            producer = await self._attempt_with(settings)
        except Exception as exc:  # noqa: BLE001 -- whatever it is, there are the former ones
            fault = reason_of(exc)
            if fault != self._next_fault:
                log.error(  # noqa: TRY400 -- a fault of the settings
                    "connections with new credentials fail; former ones in use", error=fault
                )
            self._next_fault = fault
            return None
        if self._next != (settings, credentials):  # changed again meanwhile
            self._wind_down(producer)
            return None
        self._credentials.close()
        self._next, self._settings, self._credentials = None, settings, credentials
        log.info("new credentials are in use")
        return producer

    async def _attempt_with(self, settings: Kafka) -> Producer:
        producer = await self._connect(settings)
        try:
            async with asyncio.timeout(settings.publish_timeout_seconds):
                await self._describe_topics(producer, settings)
        except BaseException:
            await producer.abandon()
            raise
        return producer

    async def _describe_topics(self, producer: Producer, settings: Kafka) -> None:
        wanted = self._wanted
        self._topics = await producer.track(wanted)
        missing = wanted - self._topics.keys()
        if missing and settings.create_topics.enabled:
            await create_topics(settings, missing, self._credentials_for(settings))
            self._topics = await producer.track(wanted)
            missing = wanted - self._topics.keys()
        for topic in sorted(missing - self._missing):
            command = creation_command(settings, topic)
            log.error("topic is missing", topic=topic, create_it_with=command)
        self._missing, self._looked_for = missing, wanted
        self._looked.set()
        await self.losses.compare(self._topics, producer.offsets)
        logs = {name: _log_of(topic) for name, topic in self._topics.items()}
        self._logs = {name: each for name, each in logs.items() if each is not None}
        self._log_denials()
        await self._update_descriptions(settings)
        self._settle_readiness(missing & self._required)

    def _log_denials(self) -> None:
        """Say of each topic once what the bridge may not do, and when it may."""
        denied = {n: lacking for n, t in sorted(self._topics.items()) if (lacking := t.must_allow)}
        for name, lacking in denied.items():
            if self._denied.get(name) != lacking:
                log.error("topic not authorized", topic=name, fix=f"allow {lacking} on it")
        for name in sorted(self._denied.keys() & self._topics.keys() - denied.keys()):
            log.info("topic authorized again", topic=name)
        self._denied = denied

    def _settle_readiness(self, missing: frozenset[str]) -> None:
        if missing:
            self.not_ready_because = f"topic {', '.join(sorted(missing))} is missing"
        elif denied := sorted(self._required & self._denied.keys()):
            self.not_ready_because = "; ".join(
                f"topic {name} not authorized: allow {self._denied[name]} on it" for name in denied
            )
        elif withheld := self._withheld():
            self.not_ready_because = "; ".join(
                f"topic {name} is not durable, and durability is require" for name in withheld
            )
        elif not self.ready:
            self.ready = True
            log.info("ready")

    async def _update_descriptions(self, settings: Kafka) -> None:
        """Say of each topic once what is at risk; again if that changes."""
        told = {name: topic for name, topic in self._topics.items() if not topic.denied}
        due = {name: topic for name, topic in told.items() if self._is_due(topic)}
        if not due:
            return
        for described in await self._describe_configs(settings, due):
            name = described.topic.name
            known = self._descriptions.get(name)
            if described.unanswered and known is not None and known.topic.id == described.topic.id:
                continue  # what is known is better than nothing, and they are read again soon
            if known != described:
                log_warnings(described, settings.durability)
            self._descriptions[name] = described
            self._described_at[name] = time.monotonic()

    def _is_due(self, topic: Topic) -> bool:
        known = self._descriptions.get(topic.name)
        return (
            known is None
            or known.topic.id != topic.id
            or time.monotonic() - self._described_at[topic.name] > self._timing.config_age
            or (not self.ready and bool(known.at_risk))
            or (self._settings.durability == "require" and known.unreadable is not None)
        )

    def _withheld(self) -> list[str]:
        """The topics for which `durability: require` keeps it from being ready."""
        if self._settings.durability != "require":
            return []
        return [
            topic
            for topic in sorted(self._required)
            if topic not in self._descriptions or self._descriptions[topic].at_risk
        ]

    # --- watching ------------------------------------------------------------------------

    async def _watch(self, producer: Producer) -> Producer | None:
        """Keep the knowledge of the cluster fresh; return when a replacement is due.

        That is a successor with new credentials, if there is one.
        """
        probed_at = time.monotonic()
        while not producer.failed.done():
            await asyncio.wait({producer.failed}, timeout=self._timing.watch)
            now = time.monotonic()
            if producer.oldest_seconds() > self._settings.publish_timeout_seconds:
                self.give_up(producer, producer.why_stalled())
            elif self._next is not None and now - self._next_tried_at > self._timing.probe:
                successor = await _unless_failed(producer, self._successor(*self._next))
                if successor is not None:
                    return successor
            elif now - probed_at > self._probe_interval() or self._wanted - self._looked_for:
                await _unless_failed(producer, self._probe(producer))
                probed_at = time.monotonic()
        return None

    def _probe_interval(self) -> float:
        settled = self.ready and not self._missing and not self._denied
        return self._timing.probe if settled else self._timing.missing_topic

    async def _probe(self, producer: Producer) -> None:
        """Ask the cluster. A broker that throttles answers late, and is there all the same."""
        try:
            async with asyncio.timeout(self._settings.publish_timeout_seconds):
                if producer.throttled or await producer.refresh():
                    await self._describe_topics(producer, self._settings)
                elif not producer.throttled:
                    self.give_up(producer, "no broker answers")
        except Exception as exc:  # noqa: BLE001 -- a new producer costs less than a doubt
            if not producer.throttled:
                self.give_up(producer, f"probe failed: {reason_of(exc)}")

    # --- ending --------------------------------------------------------------------------

    def _wind_down(self, producer: Producer) -> None:
        """Let batches in flight have their answers for a while, then give the rest up."""
        task = asyncio.create_task(self._end(producer), name="kafka wind-down")
        self._winding_down[task] = producer
        task.add_done_callback(self._winding_down.pop)

    async def _end(self, producer: Producer) -> None:
        left = self._settings.publish_timeout_seconds - producer.oldest_seconds()
        try:
            if producer.in_flight and left > 0:
                await asyncio.wait(list(producer.in_flight), timeout=left)
        finally:
            await producer.abandon()


async def _unless_failed(producer: Producer, work: Coroutine[Any, Any, T]) -> T | None:
    """What the work returns; None if the producer fails first: no more is to be learnt of it."""
    task = asyncio.create_task(work)
    either: set[asyncio.Future[Any]] = {task, producer.failed}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()


def _log_of(topic: Topic) -> Log | None:
    return None if topic.id is None else Log(topic.id, topic.epochs)
