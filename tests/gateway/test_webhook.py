"""The HTTP contract of an endpoint, row by row, and the order of its checks."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from bridge.gateway import webhook
from bridge.model import Item, Message, Result
from bridge.observability.requests import Request, RequestLog
from bridge.pipeline import MANY
from tests.support.application import TOKEN, TWO, Gateway, ids, is_problem, reasons
from tests.support.asgi import Hang
from tests.support.fake_kafka import IDLE_TURNS, idle
from tests.support.fakes import RecordingPublisher, Verdict

# --- the way it is meant to go -----------------------------------------------------------


async def test_every_id_is_listed_once_kafka_has_its_states() -> None:
    gateway = Gateway()
    reply = await gateway.post(TWO)
    assert reply.status == 200
    assert ids(reply) == ["1", "2"]
    assert [m.key for m in gateway.publisher.messages] == [b"1", b"2"]
    assert "connection" not in reply.headers
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


# --- in JSON -----------------------------------------------------------------------------

TWO_IN_JSON = b'[{"id_sms": "1", "state": "read"}, {"id_sms": 2, "state": "send"}]'


async def test_json_is_answered_in_json() -> None:
    """The records are those of the same states in XML, byte for byte."""
    gateway, other = Gateway(), Gateway()
    reply = await gateway.post(TWO_IN_JSON)
    await other.post(TWO)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.body == b'[{"id_sms":1},{"id_sms":2}]'
    assert [m.event_id for m in gateway.publisher.messages] == [
        m.event_id for m in other.publisher.messages
    ]


async def test_an_empty_array_is_acknowledged_by_one() -> None:
    reply = await Gateway().post(b"\xef\xbb\xbf [ ] \0")
    assert (reply.status, reply.body) == (200, b"[]")


async def test_nothing_taken_of_json_is_a_503_with_an_empty_array() -> None:
    reply = await Gateway(RecordingPublisher(lambda _: Result.FAILED)).post(TWO_IN_JSON)
    assert (reply.status, reply.body) == (503, b"[]")
    assert reply.headers["content-type"] == "application/json"
    assert int(reply.headers["retry-after"]) > 0


@pytest.mark.parametrize("body", [b"[", b'[{"id_sms": "1"', b"[1,]", b'[{"a": "\xff"}]'])
async def test_broken_json_is_a_problem_in_json_and_a_dead_letter(body: bytes) -> None:
    gateway = Gateway()
    reply = await gateway.post(body)
    problem = orjson.loads(reply.body)
    assert (reply.status, problem["status"]) == (400, 400)
    assert reply.headers["content-type"] == "application/problem+json"
    assert "expected is" in problem["detail"]
    assert set(problem) == {"title", "status", "detail"}
    assert len(reasons(gateway)) == 1


async def test_a_state_that_json_cannot_hold_costs_itself_alone() -> None:
    gateway = Gateway()
    body = b'[{"id_sms": 1, "state": "read", "a": NaN}, {"id_sms": 2, "state": "read"}, 3]'
    reply = await gateway.post(body)
    assert (reply.status, reply.body) == (200, b'[{"id_sms":1},{"id_sms":2}]')
    assert sorted(reasons(gateway)) == ["invalid_field", "not_an_object"]


async def test_a_fault_of_the_gateway_s_own_is_told_in_the_form_of_the_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateway = Gateway()

    def broken(*_: Any, **__: Any) -> Any:
        raise LookupError("injected")

    monkeypatch.setattr(webhook, "prepare", broken)
    reply = await gateway.post(TWO_IN_JSON)
    assert (reply.status, reply.headers["content-type"]) == (500, "application/problem+json")


@pytest.mark.parametrize("content_type", [None, "text/xml", "application/x-www-form-urlencoded"])
async def test_the_first_character_decides_on_the_form(content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    reply = await Gateway().post(TWO_IN_JSON, headers=headers)
    assert reply.headers["content-type"] == "application/json"
    reply = await Gateway().post(TWO, headers={"content-type": "application/json"})
    assert ids(reply) == ["1", "2"]


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
    labels = {"endpoint": "main", "reason": "stopping"}
    assert gateway.metrics.registry.get_sample_value("sms_bridge_refused_total", labels) == 1
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


async def test_what_a_large_document_holds_is_freed_in_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once all who look on have seen it: freed at once, it would hold up every other request."""
    seen: list[tuple[Sequence[Item], int]] = []

    def look_on(_: RequestLog, request: Request) -> None:
        assert request.receipt is not None
        seen.append((request.receipt.items, len(request.receipt.items)))

    monkeypatch.setattr(RequestLog, "__call__", look_on)
    count = 8 * MANY + 1
    states = b"".join(b'<state id_sms="%d" time="">send</state>' % n for n in range(count))
    reply = await Gateway().post(b"<response>%b</response>" % states)
    assert len(ids(reply)) == count
    ((items, at_first),) = seen
    assert at_first == count
    left = [len(items)]
    for _ in range(IDLE_TURNS):
        await asyncio.sleep(0)
        left.append(len(items))
    assert max(before - after for before, after in pairwise(left)) == MANY
    assert left[-1] == 0
