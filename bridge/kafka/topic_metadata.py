"""What the cluster says of topics: whether they exist, which ones they are, who may write.

aiokafka speaks Metadata up to version 5. Version 12 (Kafka 2.8) is defined here with aiokafka's
own tools, for what a gateway cannot do without: a topic's id, which tells a topic from another
that was re-created under its name, the operations that are allowed on it, and the epoch of each
partition's leader.

All questions here go over connections of their own: those for records are not read while a
broker throttles them.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_NO_ERROR = 0
_DENIED = 29  # TOPIC_AUTHORIZATION_FAILED
_WRITE = 1 << 4  # AclOperation's code, as a bit
_NOT_SAID = -(2**31)  # of the operations
_NO_ID = bytes(16)  # from a broker that has none to tell
_NO_TAGS: dict[int, bytes] = {}
_ANY_REPLICA = -1
_READ_UNCOMMITTED = 0
EARLIEST, LATEST = OffsetResetStrategy.EARLIEST, OffsetResetStrategy.LATEST


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads a partition, and the number of leaders that it has had."""

    node: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic that exists.

    `id` is None if the broker is too old to say it; `writable` is None if it does not
    say. `replicas` is the smallest number of a partition's. `leaders` are by partition, of those
    whose epoch is known. If `denied`, the bridge may not even describe it: whether it exists, and
    all else, is unknown.
    """

    name: str
    id: bytes | None
    partitions: int
    replicas: int
    writable: bool | None
    denied: bool = False
    leaders: Mapping[int, Leader] = field(default_factory=dict, compare=False)

    @property
    def epochs(self) -> dict[int, int]:
        """The epoch of each partition's leader."""
        return {partition: leader.epoch for partition, leader in self.leaders.items()}

    @property
    def must_allow(self) -> str | None:
        """The operations that must be allowed yet, so that it can be written to."""
        if self.denied:
            return "Describe and Write"
        return "Write" if self.writable is False else None


async def describe(client: AIOKafkaClient, names: Iterable[str]) -> dict[str, Topic]:
    """Those of the topics that exist or are denied, by name; makes none. Raises KafkaError."""
    response = await _ask(client, client.get_random_node(), _MetadataRequest(list(names)))
    topics = response.to_object()["topics"]
    return {t["topic"]: _topic(t) for t in topics if t["error_code"] in {_NO_ERROR, _DENIED}}


async def offsets(
    client: AIOKafkaClient, topic: Topic, partitions: Iterable[int], which: int
) -> dict[int, int]:
    """Where the log of each partition begins (EARLIEST) or ends (LATEST), as its leader says.

    Without those that the leader does not say. Raises KafkaError.
    """
    by_node: dict[int, list[tuple[int, int]]] = {}
    for partition in partitions:
        if partition in topic.leaders:
            by_node.setdefault(topic.leaders[partition].node, []).append((partition, which))
    requests = {
        node: OffsetRequest(_ANY_REPLICA, _READ_UNCOMMITTED, [(topic.name, asked)])
        for node, asked in by_node.items()
    }
    answers = await asyncio.gather(*(_ask(client, *request) for request in requests.items()))
    return {
        partition: offset
        for answer in answers
        for _, told in answer.topics
        for partition, code, _, offset in told
        if code == _NO_ERROR
    }


async def _ask(client: AIOKafkaClient, node: int | None, request: Any) -> Any:
    return await client.send(node, request, group=ConnectionGroup.COORDINATION)


def _topic(said: dict[str, Any]) -> Topic:
    if said["error_code"] == _DENIED:
        return Topic(said["topic"], None, 0, 0, writable=False, denied=True)
    operations = said.get("authorized_operations", _NOT_SAID)
    topic_id = said.get("topic_id", _NO_ID)
    return Topic(
        name=said["topic"],
        id=None if topic_id == _NO_ID else topic_id,
        partitions=len(said["partitions"]),
        replicas=min((len(p["replicas"]) for p in said["partitions"]), default=0),
        writable=None if operations == _NOT_SAID else bool(operations & _WRITE),
        leaders={
            p["partition"]: Leader(p["leader"], p["leader_epoch"])
            for p in said["partitions"]
            if "leader_epoch" in p
        },
    )


class _Uuid(AbstractType[bytes]):
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequestV12(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[MetadataRequest_v5 | _MetadataRequestV12]):
    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[Any]) -> Any:
        if request_struct_class is _MetadataRequestV12:
            named = [(bytes(16), name, _NO_TAGS) for name in self._topics]
            return request_struct_class(named, False, True, _NO_TAGS)
        return request_struct_class(self._topics, False)
