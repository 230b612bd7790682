"""The parts under test, wired as the program wires them, over a broker of values."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bridge.config.settings import Kafka
from bridge.duplicates import Deduplicator, RecentEvents
from bridge.kafka.admin import TopicDescription
from bridge.kafka.publisher import Publisher
from bridge.kafka.supervisor import Supervisor, Timing
from bridge.kafka.topic_metadata import Topic
from bridge.pipeline import Pipeline
from tests.exhaustive.broker import StandIn
from tests.exhaustive.provider import ROUTE

if TYPE_CHECKING:
    from tests.exhaustive.world import World

PUBLISH_SECONDS = 4.0
GRACE_SECONDS = 3.0  # that a drain has for the producer
# Few moments on which anything depends, so that few orders differ in time alone.
TIMING = Timing(
    watch=2.0,
    probe=1.0,  # with every look, then
    missing_topic=2.0,
    complaint=math.inf,
    config_age=math.inf,
    backoff=(1.0, 1.0),
)
SETTINGS = Kafka(
    bootstrap_servers=("broker:9092",),
    topic=ROUTE.topic,
    dead_letter_topic=ROUTE.dead_letter_topic,
    publish_timeout_seconds=PUBLISH_SECONDS,
)
# The same with other credentials, which a reload of the configuration brings.
_SECURITY = {"protocol": "SASL_PLAINTEXT", "sasl": {"mechanism": "PLAIN"}}
_SECURITY["sasl"] |= {"username": "bridge", "password": "new"}  # type: ignore[operator]
RELOADED = Kafka.model_validate({**SETTINGS.model_dump(), "security": _SECURITY})
FOR_EVER = 1e5  # seconds that an event is remembered: no schedule lasts so long


class Gateway:
    """One pod's pipeline, and what it stands on."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self._world = world
        self.supervisor = Supervisor(
            SETTINGS,
            [ROUTE.topic],
            connect=self._connect,
            describe_configs=self._describe_configs,
            timing=TIMING,
        )
        self.publisher = Publisher(SETTINGS, self.supervisor, at_once=world.scenario.at_once)
        self.publisher._limits._clock = world.loop.time
        publisher: Publisher | Deduplicator = self.publisher
        self.recent = RecentEvents(1000, FOR_EVER, world.loop.time)
        if world.scenario.duplicates:
            publisher = Deduplicator(self.publisher, self.supervisor, self.recent)
        self.pipeline = Pipeline(publisher)
        self.draining = self.reloaded = False
        self.supervisor.start()

    async def reload(self) -> None:
        """Go on with other credentials."""
        await self.supervisor.use(RELOADED, [ROUTE.topic])

    async def stop(self) -> None:
        """As the server does, once it has answered all requests."""
        await self.publisher.stop()
        await self.supervisor.stop(GRACE_SECONDS)

    async def _connect(self, _: Kafka) -> StandIn:
        await self._world.ask(self.name, "connect")
        return StandIn(self._world, self.name)

    async def _describe_configs(
        self, _: Kafka, topics: Mapping[str, Topic]
    ) -> list[TopicDescription]:
        limits = {ROUTE.topic: self._world.scenario.max_bytes}
        return [TopicDescription(t, 2, limits.get(t.name, 1_048_588)) for t in topics.values()]
