"""What the cluster says of topics: whether they exist, which ones they are, who may write.

aiokafka speaks Metadata up to version 5. Version 12 (Kafka 2.8) is defined here with aiokafka's
own tools, for two things that a gateway cannot do without: a topic's id, which tells a topic
from another that was made again under its name, and the operations that are allowed on it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
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


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic that exists.

    `id` is None where the broker is too old to say it; `writable` is None where it does not
    say. `replicas` is the smallest number of a partition's. Where `denied`, the bridge may not
    even be told of it: whether it exists, and all else, is unknown.
    """

    name: str
    id: bytes | None
    partitions: int
    replicas: int
    writable: bool | None
    denied: bool = False

    @property
    def must_allow(self) -> str | None:
        """The operations that must be allowed yet, so that it can be written to."""
        if self.denied:
            return "Describe and Write"
        return "Write" if self.writable is False else None


async def describe(client: AIOKafkaClient, names: Iterable[str]) -> dict[str, Topic]:
    """Those of the topics that exist or are denied, by name; makes none. Raises KafkaError."""
    response = await client.send(client.get_random_node(), _MetadataRequest(list(names)))
    topics = response.to_object()["topics"]
    return {t["topic"]: _topic(t) for t in topics if t["error_code"] in {_NO_ERROR, _DENIED}}


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
