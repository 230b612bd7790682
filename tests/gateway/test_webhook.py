"""The HTTP contract of an endpoint, row by row, and the order of its checks."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
import xmltodict
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from bridge.gateway import admission as capacity
from bridge.gateway.app import Health, public_app
from bridge.model import Message, Result
from bridge.observability.metrics import Metrics
from tests.support.asgi import Hang, Leave, Reply, request
from tests.support.fake_kafka import idle, until
from tests.support.fakes import RecordingPublisher, Verdict
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
        patient = {"publish_timeout_seconds": 60}  # however busy the machine is
        sections["kafka"] = patient | sections.get("kafka", {})
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


# --- the way it is meant to go -----------------------------------------------------------


async def test_every_id_is_listed_once_kafka_has_its_states() -> None:
    gateway = Gateway()
    reply = await gateway.post(TWO)
    assert reply.status == 200
    assert ids(reply) == ["1", "2"]
    assert [m.key for m in gateway.publisher.messages] == [b"1", b"2"]
    assert "connection" not in reply.headers
    assert reply.headers["content-length"] == str(len(reply.body))
    assert gateway.requests(200) == 1


@pytest.mark.parametrize("path", ["/webhook", "/webhook/"])
async def test_a_single_trailing_slash_is_the_same_path(path: str) -> None:
    assert (await Gateway().post(TWO, path=path)).status == 200


@pytest.mark.parametrize(
    "content_type",
    [None, "application/x-www-form-urlencoded", "text/xml; charset=koi8-r", "nonsense"],
)
async def test_the_content_type_is_neither_trusted_nor_required(content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    assert ids(await Gateway().post(TWO, headers=headers)) == ["1", "2"]


async def test_a_body_in_chunks_is_one_document() -> None:
    chunks = [TWO[i : i + 7] for i in range(0, len(TWO), 7)]
    assert ids(await Gateway().post(*chunks)) == ["1", "2"]


async def test_no_states_at_all_is_an_empty_acknowledgement() -> None:
    gateway = Gateway()
    reply = await gateway.post(b"<response/>")
    assert reply.status == 200
    assert ids(reply) == []
    assert gateway.publisher.messages == []


async def test_states_past_the_limit_are_left_for_the_next_attempt() -> None:
    gateway = Gateway(server={"max_states": 1})
    reply = await gateway.post(TWO)
    assert (reply.status, ids(reply)) == (200, ["1"])
    assert [m.key for m in gateway.publisher.messages] == [b"1"]


async def test_the_log_says_that_states_were_past_the_limit() -> None:
    """Their ids are not listed, and no error of Kafka's explains it."""
    gateway = Gateway(server={"max_states": 1})
    with capture_logs() as logs:
        await gateway.post(TWO)
        await gateway.post(TWO.replace(b'<state id_sms="2"', b'<state id_sms="1"'))
    assert [(log["unlisted_ids"], log["past_max_states"]) for log in logs] == [
        (["2"], 1),
        (["1"], 1),
    ]


async def test_identical_states_are_one_record_and_one_id() -> None:
    gateway = Gateway()
    state = b'<state id_sms="1" time="">send</state>'
    assert ids(await gateway.post(b"<response>" + state * 3 + b"</response>")) == ["1"]
    assert len(gateway.publisher.messages) == 1


async def test_endpoints_have_their_own_source_and_topic() -> None:
    gateway = Gateway(
        endpoints=[{}, {"name": "b", "path": "/b", "source": "urn:b", "topic": "status.b"}]
    )
    await gateway.post(TWO)
    await gateway.post(TWO, path="/b")
    assert {(m.topic, orjson.loads(m.value)["source"]) for m in gateway.publisher.messages} == {
        ("sms.status", "urn:example:sms:main"),
        ("status.b", "urn:b"),
    }


# --- what Kafka has not taken ------------------------------------------------------------


def failing(key: bytes, result: Result = Result.FAILED) -> RecordingPublisher:
    return RecordingPublisher(lambda m: result if m.key == key else Result.PUBLISHED)


@pytest.mark.parametrize("result", [Result.FAILED, Result.UNKNOWN])
async def test_an_id_that_is_not_durable_is_not_listed(result: Result) -> None:
    reply = await Gateway(failing(b"1", result)).post(TWO)
    assert (reply.status, ids(reply)) == (200, ["2"])


async def test_an_id_is_listed_only_when_each_of_its_states_is_durable() -> None:
    """The heart of the promise: two states, one failed, no acknowledgement."""
    publisher = RecordingPublisher(
        lambda m: Result.FAILED if b'"status":"read"' in m.value else Result.PUBLISHED
    )
    body = b'<response><state id_sms="1">send</state><state id_sms="1">read</state></response>'
    reply = await Gateway(publisher).post(body)
    assert (reply.status, ids(reply)) == (503, [])
    assert len(publisher.messages) == 2


@pytest.mark.parametrize("result", [Result.FAILED, Result.UNKNOWN])
async def test_nothing_taken_is_a_503_with_an_empty_response(result: Result) -> None:
    gateway = Gateway(RecordingPublisher(lambda _: result))
    reply = await gateway.post(TWO)
    assert (reply.status, ids(reply)) == (503, [])
    assert int(reply.headers["retry-after"]) > 0


async def test_the_ids_that_were_not_listed_are_logged() -> None:
    with capture_logs() as logs:
        await Gateway(failing(b"1")).post(TWO)
    (line,) = [log for log in logs if log["log_level"] == "warning"]
    assert line["unlisted_ids"] == ["1"]
    assert (line["published"], line["failed"], line["unknown"]) == (1, 1, 0)


async def test_a_request_is_one_line_with_its_id_and_how_long_it_took() -> None:
    with capture_logs() as logs:
        await Gateway().post(TWO, headers={"x-request-id": "from-the-proxy"})
    (line,) = logs
    assert (line["event"], line["log_level"], line["status"]) == ("request", "info", 200)
    assert (line["endpoint"], line["request_id"]) == ("main", "from-the-proxy")
    assert (line["bytes"], line["states"], line["listed"]) == (len(TWO), 2, 2)
    assert line["seconds"] > 0


async def test_refusals_that_repeat_themselves_are_counted_and_not_all_written() -> None:
    """Each kind for itself: a flood of one must not hide another."""
    gateway = Gateway(endpoints=[{"auth": {"tokens": [TOKEN]}}])
    with capture_logs() as logs:
        for _ in range(100):
            await gateway.post(TWO, query="token=wrong")
        await gateway.post(TWO, method="PUT")
    assert [log["status"] for log in logs].count(405) == 1
    assert 1 <= [log["status"] for log in logs].count(401) < 20
    assert {log.get("credentials") for log in logs if log["status"] == 401} == {"wrong"}
    assert TOKEN not in str(logs)
    assert gateway.requests(401) == 100


# --- invalid states ----------------------------------------------------------------------

MIXED = b'<response><state id_sms="1">read</state><state id_sms="2">%%</state></response>'


def reasons(gateway: Gateway) -> list[str]:
    events = [orjson.loads(m.value) for m in gateway.publisher.messages]
    return [e["data"]["reason"] for e in events if e["type"].endswith(".rejected")]


async def test_what_is_wrong_with_one_state_costs_that_state_alone() -> None:
    """Its dead letter is durable, so its id is acknowledged: it need not come again."""
    gateway = Gateway()
    reply = await gateway.post(MIXED)
    assert (reply.status, ids(reply)) == (200, ["1", "2"])
    assert reasons(gateway) == ["invalid_status"]


async def test_an_invalid_state_whose_dead_letter_failed_is_not_listed() -> None:
    publisher = RecordingPublisher(
        lambda m: Result.FAILED if m.topic.endswith("rejected") else Result.PUBLISHED
    )
    assert ids(await Gateway(publisher).post(MIXED)) == ["1"]


async def test_without_a_dead_letter_topic_it_is_logged_and_never_listed() -> None:
    gateway = Gateway(kafka={"dead_letter_topic": None})
    with capture_logs() as logs:
        reply = await gateway.post(MIXED)
    assert (reply.status, ids(reply)) == (200, ["1"])
    assert [log["rejected"] for log in logs if "rejected" in log] == [{"invalid_status": 1}]
    assert len(gateway.publisher.messages) == 1


async def test_a_blank_id_is_never_listed_though_its_dead_letter_is_durable() -> None:
    gateway = Gateway()
    reply = await gateway.post(b'<response><state id_sms=" ">read</state></response>')
    assert (reply.status, ids(reply)) == (200, [])
    assert reasons(gateway) == ["missing_id"]


async def test_an_id_of_over_256_characters_is_a_dead_letter_and_not_listed() -> None:
    """It is among the unlisted in the log, and nobody waits for its acknowledgement."""
    gateway = Gateway()
    body = f'<response><state id_sms="{"9" * 257}">read</state></response>'.encode()
    with capture_logs() as logs:
        reply = await gateway.post(body)
    assert (reply.status, ids(reply)) == (200, [])
    assert reasons(gateway) == ["invalid_id"]
    assert [(log["listed"], log["unlisted"]) for log in logs] == [(0, 1)]
    assert len(logs[0]["unlisted_ids"][0]) < 100
    oldest = "sms_bridge_oldest_unlisted_seconds"
    assert gateway.metrics.registry.get_sample_value(oldest, {"endpoint": "main"}) == 0


async def test_an_event_too_large_for_the_topic_becomes_a_dead_letter() -> None:
    publisher = RecordingPublisher(
        lambda m: "too_large" if m.key == b"1" and m.topic == "sms.status" else Result.PUBLISHED
    )
    gateway = Gateway(publisher)
    reply = await gateway.post(TWO)
    assert (reply.status, ids(reply)) == (200, ["1", "2"])
    assert reasons(gateway) == ["too_large"]


@pytest.mark.parametrize("result", [Result.FAILED, Result.UNKNOWN, "too_large"])
async def test_an_event_too_large_whose_dead_letter_is_not_in_kafka_is_not_listed(
    result: Verdict,
) -> None:
    """No letter is taken for granted: the state would be nowhere."""

    def decide(m: Message) -> Verdict:
        if m.key != b"1":
            return Result.PUBLISHED
        return "too_large" if m.topic == "sms.status" else result

    gateway = Gateway(RecordingPublisher(decide))
    reply = await gateway.post(TWO)
    assert (reply.status, ids(reply)) == (200, ["2"])


# --- refusals ----------------------------------------------------------------------------


async def test_another_path_is_404() -> None:
    assert is_problem(await Gateway().post(TWO, path="/nowhere"), 404)
    assert is_problem(await Gateway().post(TWO, path="/webhook//"), 404)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_another_method_is_405_and_names_the_one(method: str) -> None:
    reply = await Gateway().post(method=method)
    assert is_problem(reply, 405)
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("query", "header", "status"),
    [
        ("", None, 401),
        ("", f"Bearer {TOKEN}", 200),
        ("", "Bearer wrong", 401),
        (f"token={TOKEN}", None, 200),
        ("token=wrong", None, 401),
        ("", "Basic dXNlcjpwYXNz", 200),  # user:pass
        ("", "Basic dXNlcjp3cm9uZw==", 401),
    ],
)
async def test_credentials(query: str, header: str | None, status: int) -> None:
    auth = {"tokens": [TOKEN], "basic": [{"username": "user", "password": "pass"}]}
    gateway = Gateway(endpoints=[{"auth": auth}])
    headers = {"authorization": header} if header else {}
    reply = await gateway.post(TWO, query=query, headers=headers)
    assert reply.status == status
    if status == 401:
        assert is_problem(reply, 401)
        assert reply.headers["www-authenticate"] == (
            'Basic realm="sms-status-bridge", Bearer realm="sms-status-bridge"'
        )
        assert gateway.publisher.messages == []


@pytest.mark.parametrize(
    ("peer", "forwarded", "status"),
    [
        ("203.0.113.7", None, 200),
        ("::ffff:203.0.113.7", None, 200),
        ("2001:db8::1", None, 200),
        ("198.51.100.1", None, 403),
        ("2001:db9::1", None, 403),
        ("198.51.100.1", "203.0.113.7", 403),  # anybody's claim
        ("203.0.113.7", "198.51.100.1", 200),
        ("10.0.0.1", None, 403),  # a proxy is no sender
        ("10.0.0.1", "203.0.113.7", 200),
        ("10.0.0.1", "203.0.113.7, 198.51.100.1", 403),
        ("10.0.0.1", "203.0.113.7, unknown", 403),
        ("10.0.0.1", "[2001:db8::1]:443, 10.0.0.2", 200),
        (None, "203.0.113.7", 403),
    ],
)
async def test_addresses(peer: str | None, forwarded: str | None, status: int) -> None:
    gateway = Gateway(
        endpoints=[{"auth": {"allow": ["203.0.113.0/24", "2001:db8::/32"]}}],
        server={"trusted_proxies": ["10.0.0.0/8"]},
    )
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    client = (peer, 4711) if peer else None
    reply = await gateway.post(TWO, headers=headers, client=client)
    assert reply.status == status
    assert gateway.requests(status) == 1
    if status == 403:
        assert is_problem(reply, 403)
        assert gateway.publisher.messages == []


async def test_of_a_refused_address_nothing_is_read_as_a_document() -> None:
    """Not even to be buried."""
    gateway = Gateway(endpoints=[{"auth": {"allow": ["203.0.113.7"]}}])
    assert is_problem(await gateway.post(b"<response><state", b" not XML"), 403)
    assert is_problem(await gateway.post(b""), 403)
    assert gateway.publisher.messages == []


async def test_each_endpoint_has_its_own_addresses() -> None:
    other = {"name": "b", "path": "/b", "source": "urn:b"}
    gateway = Gateway(endpoints=[{"auth": {"allow": ["203.0.113.7"]}}, other])
    for path, host, status in [
        ("/webhook", "203.0.113.7", 200),
        ("/webhook", "203.0.113.8", 403),
        ("/b", "203.0.113.8", 200),
    ]:
        assert (await gateway.post(TWO, path=path, client=(host, 1))).status == status


async def test_the_right_address_is_no_credential_nor_the_other_way_round() -> None:
    auth = {"tokens": [TOKEN], "allow": ["203.0.113.7"]}
    gateway = Gateway(endpoints=[{"auth": auth}])
    good = {"authorization": f"Bearer {TOKEN}"}
    near, far = ("203.0.113.7", 1), ("203.0.113.8", 1)
    assert is_problem(await gateway.post(TWO, client=near), 401)
    assert is_problem(await gateway.post(TWO, client=far, headers=good), 403)
    assert (await gateway.post(TWO, client=near, headers=good)).status == 200


async def test_the_log_says_who_was_refused_and_never_what_was_presented() -> None:
    auth = {"tokens": [TOKEN], "allow": ["203.0.113.7", "203.0.113.8"]}
    gateway = Gateway(endpoints=[{"auth": auth}], server={"trusted_proxies": ["10.0.0.1"]})
    proxy = ("10.0.0.1", 1)
    with capture_logs() as logs:
        for sender in ("203.0.113.8", "203.0.113.9", "unknown"):
            headers = {"x-forwarded-for": sender, "authorization": "Bearer wr0ng"}
            await gateway.post(TWO, client=proxy, headers=headers, query="token=wr0ng")
    about = {"event": "request", "endpoint": "main", "peer": "10.0.0.1", "log_level": "warning"}
    assert [log.items() >= about.items() for log in logs] == [True] * 3
    assert [(log["status"], log.get("credentials"), log["client"]) for log in logs] == [
        (401, "wrong", "203.0.113.8"),
        (403, None, "203.0.113.9"),
        (403, None, None),
    ]
    assert "wr0ng" not in str(logs)


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (400, {"body": b"no XML"}),
        (404, {"path": "/elsewhere"}),
        (405, {"method": "GET"}),
        (408, {"body": Hang}),
        (411, {"http_version": "1.0"}),
        (413, {"body": b" " * 1001}),
        (415, {"headers": {"content-encoding": "gzip"}}),
        (None, {"body": Leave}),
    ],
)
async def test_the_log_says_who_sent_what_was_refused(
    status: int | None, request_: dict[str, Any]
) -> None:
    """Behind a proxy, too: the provider's mistakes are mended, others' are not."""
    server = {"trusted_proxies": ["10.0.0.1"], "max_body_bytes": 1000, "body_timeout_seconds": 0.01}
    gateway = Gateway(server=server)
    headers = request_.pop("headers", {}) | {"x-forwarded-for": "203.0.113.8"}
    body = request_.pop("body", TWO)
    with capture_logs() as logs:
        await request(gateway.app, body, client=("10.0.0.1", 1), headers=headers, **request_)
    assert [(log["status"], log["peer"], log["client"]) for log in logs] == [
        (status, "10.0.0.1", "203.0.113.8")
    ]
    assert type(logs[0]["status"]) in {int, type(None)}  # an enum is no number on the console


async def test_the_log_says_how_large_a_body_was_to_be() -> None:
    gateway = Gateway(server={"max_body_bytes": 10})
    with capture_logs() as logs:
        await gateway.post(TWO, headers={"content-length": str(len(TWO))})
    assert logs[0]["declared_bytes"] == len(TWO)


async def test_http_1_0_without_a_length_is_411() -> None:
    """Its body's end cannot be told from a broken connection."""
    assert is_problem(await Gateway().post(TWO, http_version="1.0"), 411)
    headers = {"content-length": str(len(TWO))}
    assert (await Gateway().post(TWO, http_version="1.0", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("encoding", "status"), [("gzip", 415), ("br", 415), ("identity", 200), (" IDENTITY ", 200)]
)
async def test_an_encoded_body_is_415(encoding: str, status: int) -> None:
    reply = await Gateway().post(TWO, headers={"content-encoding": encoding})
    assert reply.status == status
    assert status == 200 or is_problem(reply, 415)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_413(declared: bool) -> None:
    gateway = Gateway(server={"max_body_bytes": len(TWO)})
    assert (await gateway.post(TWO)).status == 200
    headers = {"content-length": str(len(TWO) + 1)} if declared else {}
    assert is_problem(await gateway.post(TWO, b" ", headers=headers), 413)


async def test_a_body_that_does_not_come_in_time_is_408() -> None:
    gateway = Gateway(server={"body_timeout_seconds": 0.05})
    reply = await gateway.post(TWO[:10], Hang)
    assert is_problem(reply, 408)
    assert gateway.publisher.messages == []


@pytest.mark.parametrize("body", [b"", b"   \r\n", b"\0\0", b"\xef\xbb\xbf\n"])
async def test_an_empty_body_is_400_without_a_dead_letter(body: bytes) -> None:
    gateway = Gateway()
    assert is_problem(await gateway.post(body), 400)
    assert gateway.publisher.messages == []


@pytest.mark.parametrize("dead_letter", [Result.PUBLISHED, Result.FAILED, Result.UNKNOWN])
async def test_a_400_stays_a_400_whatever_becomes_of_its_dead_letter(dead_letter: Result) -> None:
    gateway = Gateway(RecordingPublisher(lambda _: dead_letter))
    assert is_problem(await gateway.post(b"not XML"), 400)
    assert reasons(gateway) == ["not_xml"]


async def test_dead_letters_of_bodies_are_rate_limited() -> None:
    """A broken sender must not fill the topic; each refusal is still counted."""
    gateway = Gateway()
    for _ in range(60):
        assert (await gateway.post(b"not XML")).status == 400
    assert 1 <= len(gateway.publisher.messages) < 60
    assert gateway.requests(400) == 60


async def test_a_client_that_leaves_before_its_end_gets_nothing_published() -> None:
    gateway = Gateway()
    with capture_logs() as logs:
        assert await request(gateway.app, TWO, Leave) is None
    assert gateway.publisher.messages == []
    assert [log["event"] for log in logs] == ["client left before the end of its body"]


# --- limits on what is in flight ---------------------------------------------------------


async def while_one_is_held(gateway: Gateway, then: Callable[[], Any]) -> Any:
    """Do something while another POST waits for Kafka."""
    gateway.publisher.hold.clear()
    before = len(gateway.publisher.calls)
    held = asyncio.create_task(gateway.post(TWO))
    await until(lambda: len(gateway.publisher.calls) > before)
    try:
        return await then()
    finally:
        gateway.publisher.hold.set()
        assert (await held).status == 200


@pytest.mark.parametrize(
    "limit",
    [
        {"max_in_flight": 1},
        {"max_in_flight_bytes": len(TWO), "max_body_bytes": len(TWO)},
        {"max_in_flight_bytes": len(TWO) + 1, "max_body_bytes": len(TWO)},
        {"max_in_flight_states": 2},
        {"max_in_flight_states": 3},
    ],
)
async def test_beyond_a_limit_it_is_503_and_free_again_afterwards(limit: dict[str, int]) -> None:
    gateway = Gateway(server=limit)
    reply = await while_one_is_held(gateway, lambda: gateway.post(TWO))
    assert is_problem(reply, 503)
    assert int(reply.headers["retry-after"]) > 0
    assert (await gateway.post(TWO)).status == 200


async def test_slow_senders_take_no_place_from_others() -> None:
    """A POST counts once its body is complete."""
    gateway = Gateway(server={"max_in_flight": 1, "body_timeout_seconds": 0.2})
    slow = [asyncio.create_task(gateway.post(b"<resp", Hang)) for _ in range(5)]
    await idle()
    assert (await gateway.post(TWO)).status == 200
    assert {reply.status for reply in await asyncio.gather(*slow)} == {408}


@pytest.mark.parametrize("size", [20_000, 200_000])
async def test_heavy_states_count_as_several_while_they_are_in_flight(size: int) -> None:
    """However they are read: what they cost in memory is bounded by it."""
    attributes = "".join(f' a{n}=""' for n in range(60))
    state = f'<state id_sms="1"{attributes}>read</state>'
    count = size // len(state)
    gateway = Gateway()
    gateway.publisher.hold.clear()
    held = asyncio.create_task(gateway.post(f"<response>{state * count}</response>".encode()))
    await until(lambda: bool(gateway.publisher.calls))
    assert gateway.in_flight("posts") == 1
    assert gateway.in_flight("states") > 3 * count
    gateway.publisher.hold.set()
    assert (await held).status == 200
    assert gateway.in_flight("states") == 0


MIB = 2**20
STOPPED = b"<response>".ljust(4 * MIB - 10)  # and the rest never comes


async def stopped(gateway: Gateway, count: int) -> list[asyncio.Task[Reply]]:
    """So many POSTs of which the last ten bytes are missing."""
    tasks = [asyncio.create_task(gateway.post(STOPPED, Hang)) for _ in range(count)]
    await idle()
    return tasks


@pytest.mark.parametrize("count", [9, 64])
async def test_bodies_that_stop_short_of_their_end_keep_nobody_out(count: int) -> None:
    gateway = Gateway(server={"body_timeout_seconds": 0.3})
    slow = await stopped(gateway, count)
    for _ in range(50):
        assert ids(await gateway.post(TWO)) == ["1", "2"]
        assert ids(await gateway.post(TWO[:20], TWO[20:])) == ["1", "2"]
    middling = TWO[:10] + b" " * 40_000 + TWO[10:]
    assert ids(await gateway.post(middling[:20_000], middling[20_000:])) == ["1", "2"]
    assert gateway.in_flight("bytes") <= 24 * MIB
    assert {reply.status for reply in await asyncio.gather(*slow)} == {408, 503}
    assert gateway.in_flight("bytes") == 0


async def test_the_slowest_bodies_are_cut_once_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once, not when their time is over, and like all others that did not come in time."""
    monkeypatch.setattr(capacity, "PROGRESS_SECONDS", 0.0)
    gateway = Gateway(server={"body_timeout_seconds": 30})
    slow = await stopped(gateway, 9)
    cut = [task for task in slow if task.done()]
    assert cut == slow[:3]
    for task in cut:
        reply = await task
        assert is_problem(reply, 408)
    assert gateway.requests(408) == 3
    for task in slow[3:]:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert gateway.in_flight("bytes") == 0


async def test_a_body_that_has_to_make_room_for_itself_is_a_408(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(capacity.Lease, "burden", lambda lease, _now: lease.bytes)
    limits = {"max_in_flight_bytes": 100, "max_body_bytes": 100, "body_timeout_seconds": 0.3}
    gateway = Gateway(server=limits)
    other = asyncio.create_task(gateway.post(b"x" * 30, Hang))
    await idle()
    assert is_problem(await gateway.post(b"x" * 40, b"x" * 20, b"x" * 10), 408)
    assert gateway.in_flight("bytes") == 30
    assert (await other).status == 408


async def test_a_body_that_is_cut_when_its_time_is_over_is_a_408(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both in one turn of the loop."""
    monkeypatch.setattr(capacity, "PROGRESS_SECONDS", 0.0)
    gateway = Gateway(server={"body_timeout_seconds": 0.05})
    (first,) = await stopped(gateway, 1)
    time.sleep(0.1)  # noqa: ASYNC251 -- its end is due, and so are these
    others = await stopped(gateway, 8)
    replies = await asyncio.gather(first, *others)
    assert {reply.status for reply in replies} == {408}


async def test_many_small_chunks_cost_no_more_than_their_bytes() -> None:
    body = TWO[:10] + b" " * 50_000 + TWO[10:]
    chunks = [body[i : i + 2] for i in range(0, len(body), 2)]
    assert ids(await Gateway().post(*chunks)) == ["1", "2"]


async def test_one_document_with_more_states_than_the_limit_is_not_locked_out() -> None:
    assert (await Gateway(server={"max_in_flight_states": 1}).post(TWO)).status == 200


# --- order, drain, deadline --------------------------------------------------------------


async def test_the_checks_come_in_the_contract_s_order() -> None:
    """Each request fails all the later checks too."""
    gateway = Gateway(
        endpoints=[{"auth": {"tokens": [TOKEN], "allow": ["203.0.113.7"]}}],
        server={"max_body_bytes": 10, "max_in_flight_bytes": 100},
    )
    near = ("203.0.113.7", 1)
    bad = {"content-encoding": "gzip", "content-length": "99"}
    good = {"authorization": f"Bearer {TOKEN}"}
    full = {"path": "/x", "method": "GET", "http_version": "1.0", "headers": {}}

    async def status(**changes: Any) -> int:
        return (await gateway.post(b"x" * 99, **(full | changes))).status

    assert await status() == 404
    assert await status(path="/webhook") == 405
    assert await status(path="/webhook", method="POST") == 403
    assert await status(path="/webhook", method="POST", headers=good) == 403
    assert await status(path="/webhook", method="POST", client=near) == 401
    assert await status(path="/webhook", method="POST", client=near, headers=good) == 411
    modern = {"path": "/webhook", "method": "POST", "http_version": "1.1", "client": near}
    assert await status(**modern, headers=good | bad) == 415
    assert await status(**modern, headers=good | {"content-length": "99"}) == 413


async def test_while_draining_it_answers_and_closes_the_connection() -> None:
    gateway = Gateway()
    gateway.health.draining = True
    reply = await gateway.post(TWO)
    assert ids(reply) == ["1", "2"]
    assert reply.headers["connection"] == "close"


async def test_a_body_that_the_end_of_the_drain_cuts_short_is_a_503() -> None:
    gateway = Gateway()
    half_sent = asyncio.create_task(gateway.post(TWO[:10], Hang))
    await idle()
    gateway.health.draining = True
    half_sent.cancel()
    reply = await half_sent
    assert is_problem(reply, 503)
    assert reply.headers["connection"] == "close"
    assert gateway.publisher.messages == []


async def test_the_deadline_counts_from_the_last_byte_of_the_body() -> None:
    gateway = Gateway(kafka={"publish_timeout_seconds": 30})
    now = asyncio.get_running_loop().time()
    await gateway.post(TWO)
    (deadline,) = gateway.publisher.deadlines
    assert now + 30 <= deadline < now + 31


async def test_the_time_of_receipt_is_in_the_event_and_on_the_record() -> None:
    gateway = Gateway()
    before = datetime.now(UTC)
    await gateway.post(TWO)
    message: Message = gateway.publisher.messages[0]
    received = orjson.loads(message.value)["data"]["received_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", received)
    moment = datetime.fromisoformat(received)
    assert before <= moment <= datetime.now(UTC)
    assert message.timestamp_ms == int(moment.timestamp() * 1000)


async def test_an_answer_that_is_not_read_keeps_its_bytes_and_nothing_else() -> None:
    gateway = Gateway(server={"max_in_flight": 1})
    reading = asyncio.Event()
    stuck = asyncio.create_task(gateway.post(TWO, reading=reading))
    while not gateway.publisher.messages or gateway.in_flight("posts"):
        await asyncio.sleep(0)
    assert gateway.in_flight("states") == 0
    held = gateway.in_flight("bytes")
    assert (await gateway.post(TWO)).status == 200
    reading.set()
    reply = await stuck
    assert (reply.status, len(reply.body)) == (200, held)
    assert gateway.in_flight("bytes") == 0


async def test_answers_that_are_not_read_keep_others_out_as_bodies_do() -> None:
    most = 2 * len(TWO)
    gateway = Gateway(server={"max_in_flight_bytes": most, "max_body_bytes": most})
    reading = asyncio.Event()
    stuck = []
    while gateway.in_flight("bytes") < 2 * len(TWO):
        stuck.append(asyncio.create_task(gateway.post(TWO, reading=reading)))
        await asyncio.sleep(0)
    assert is_problem(await gateway.post(TWO), 503)
    reading.set()
    await asyncio.gather(*stuck)
    assert (await gateway.post(TWO)).status == 200


# --- what the log says of requests that no endpoint answers ------------------------------


async def test_another_path_is_logged_at_a_bounded_rate_and_not_shown() -> None:
    """A mistyped URL may hold the secret."""
    gateway = Gateway()
    with capture_logs() as logs:
        for _ in range(20):
            reply = await gateway.post(
                path=f"/webhook&token={TOKEN}", headers={"x-request-id": "r"}
            )
            assert is_problem(reply, 404)
    assert 1 <= len(logs) < 20
    assert (logs[0]["event"], logs[0]["status"], logs[0]["request_id"]) == ("request", 404, "r")
    assert logs[0]["peer"] == "127.0.0.1"
    assert TOKEN not in str(logs)


async def test_a_fault_of_the_program_s_own_is_a_500_and_one_line() -> None:
    """Nothing is acknowledged, the next request is served, and nothing stays in use."""

    def broken(_: Message) -> Result:
        raise RuntimeError("a bug")

    gateway = Gateway(RecordingPublisher(broken))
    with capture_logs() as logs:
        reply = await gateway.post(TWO)
    assert is_problem(reply, 500)
    assert reply.headers["connection"] == "close"
    (line,) = logs
    assert (line["event"], line["log_level"], line["status"]) == ("request", "error", 500)
    assert str(line["exc_info"]) == "a bug"
    assert gateway.requests(500) == 1
    assert gateway.metrics.registry.get_sample_value("sms_bridge_in_flight_posts") == 0


@pytest.mark.parametrize("draining", [False, True])
async def test_a_cancellation_that_nobody_asked_for_is_a_fault_like_any_other(
    *, draining: bool
) -> None:
    def broken(_: Message) -> Result:
        raise asyncio.CancelledError

    gateway = Gateway(RecordingPublisher(broken))
    gateway.health.draining = draining
    with capture_logs() as logs:
        reply = await gateway.post(TWO)
    assert is_problem(reply, 500)
    (line,) = logs
    assert (line["event"], line["log_level"], line["status"]) == ("request", "error", 500)
    assert gateway.requests(500) == 1


async def test_the_server_s_own_cancellation_at_the_end_of_the_drain_is_its_to_answer() -> None:
    gateway = Gateway()
    gateway.publisher.hold.clear()
    held = asyncio.create_task(gateway.post(TWO))
    await until(lambda: bool(gateway.publisher.calls))
    gateway.health.draining = True
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert gateway.requests(500) == 0


async def test_a_request_s_line_counts_its_states_by_outcome() -> None:
    with capture_logs() as logs:
        await Gateway().post(TWO)
    (line,) = logs
    assert (line["states"], line["listed"], line["published"]) == (2, 2, 2)
    assert line["seconds"] >= 0
    assert line["request_id"]
