"""The public application in this process, over a publisher that records."""

from collections.abc import Sequence
from typing import Any

import orjson
import xmltodict
from starlette.types import ASGIApp

from bridge.gateway.app import Health, public_app
from bridge.observability.metrics import Metrics
from tests.support.asgi import Reply, request
from tests.support.fakes import RecordingPublisher
from tests.support.settings import settings

TWO = b'<response><state id_sms="1">read</state><state id_sms="2">send</state></response>'
TOKEN = "s3cret-t0ken"


class Gateway:
    """The public application over a publisher that records."""

    def __init__(
        self,
        publisher: RecordingPublisher | None = None,
        endpoints: Sequence[dict[str, Any]] = (),
        **sections: Any,
    ) -> None:
        self.publisher = publisher or RecordingPublisher()
        self.metrics = Metrics()
        self.health = Health(lambda: None)
        self.app: ASGIApp = public_app(
            settings(*endpoints, **sections), self.publisher, self.metrics, self.health
        )

    async def post(self, *chunks: Any, **options: Any) -> Reply:
        reply = await request(self.app, *chunks, **options)
        assert reply is not None
        return reply

    def in_flight(self, what: str) -> float:
        value = self.metrics.registry.get_sample_value(f"sms_bridge_in_flight_{what}")
        assert value is not None
        return value

    def requests(self, code: int) -> float:
        return (
            self.metrics.registry.get_sample_value(
                "sms_bridge_requests_total", {"endpoint": "main", "code": str(code)}
            )
            or 0.0
        )


def ids(reply: Reply) -> list[str]:
    """The acknowledged ids, as any XML parser reads them."""
    assert reply.headers["content-type"] == "text/xml; charset=utf-8"
    assert reply.body.startswith(b"<?xml")
    response = xmltodict.parse(reply.body, force_list=("id_sms",))["response"]
    return list(response["id_sms"]) if response else []


def is_problem(reply: Reply, status: int) -> bool:
    """Whether it is a problem document of that status, without any id."""
    if reply.headers["content-type"] != "application/problem+xml" or reply.status != status:
        return False
    return b"id_sms" not in reply.body and int(
        xmltodict.parse(reply.body)["problem"]["status"]
    ) == (status)


def reasons(gateway: Gateway) -> list[str]:
    events = [orjson.loads(m.value) for m in gateway.publisher.messages]
    return [e["data"]["reason"] for e in events if e["type"].endswith(".rejected")]
