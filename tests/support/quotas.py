"""Quotas of a real Kafka: how much a client may produce. No client library here can set them."""

from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Float64, Int16, Int32, Schema, String

_ENTITY = ("entity", Array(("type", String("utf-8")), ("name", String("utf-8"))))


class _Response(Response):
    API_KEY = 49
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("entries", Array(("code", Int16), ("message", String("utf-8")), _ENTITY)),
    )


class _RequestV0(RequestStruct):
    """AlterClientQuotas."""

    API_KEY = 49
    API_VERSION = 0
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        (
            "entries",
            Array(
                _ENTITY,
                ("ops", Array(("key", String("utf-8")), ("value", Float64), ("remove", Boolean))),
            ),
        ),
        ("validate_only", Boolean),
    )


class _Request(Request[_RequestV0]):
    API_KEY = 49

    def __init__(self, client_id: str, bytes_per_second: float | None) -> None:
        entity = [("client-id", client_id)]
        rate = ("producer_byte_rate", bytes_per_second or 0.0, bytes_per_second is None)
        self._entries = [(entity, [rate])]

    def build(self, request_struct_class: type[Any]) -> Any:
        return request_struct_class(self._entries, False)


async def limit_rate(
    bootstrap_servers: str, client_id: str, bytes_per_second: float | None
) -> None:
    """Let the clients of this id produce no more than that; None is without a limit again."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers)
    try:
        await client.bootstrap()
        answer = await client.send(client.get_random_node(), _Request(client_id, bytes_per_second))
        assert [entry[:2] for entry in answer.entries] == [(0, None)], answer
    finally:
        await client.close()
