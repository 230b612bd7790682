"""What is refused, with which answer, and what the log says of it."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.model import Message, Result
from bridge.observability.requests import LINES_AT_ONCE
from tests.support.application import TOKEN, TWO, Gateway, ids, is_problem, reasons
from tests.support.asgi import Hang, Leave, request
from tests.support.fake_kafka import until
from tests.support.fakes import RecordingPublisher

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
    ("lines", "coding"),
    [
        *((name, name) for name in ("gzip", "x-gzip", "deflate", "br", "zstd", "compress")),
        (" GZip ", "gzip"),
        ("gzip;q=1", "gzip"),
        ("identity, br", "br"),
        ("utf-8,gzip", "gzip"),
        (("utf-8", "gzip"), "gzip"),
    ],
)
async def test_a_compressed_body_is_415_and_the_log_names_the_coding(
    lines: str | tuple[str, ...], coding: str
) -> None:
    gateway = Gateway()
    headers = [("content-encoding", line) for line in ([lines] if type(lines) is str else lines)]
    with capture_logs() as logs:
        reply = await gateway.post(TWO, headers=headers)
    assert is_problem(reply, 415)
    assert coding.encode() in reply.body
    assert [(log["reason"], log["coding"]) for log in logs] == [("compressed", coding)]
    assert gateway.publisher.messages == []


@pytest.mark.parametrize(
    "encoding",
    [
        *("", "identity", " IDENTITY ", "utf-8", "UTF-8", "windows-1251", "charset=utf-8"),
        *("utf-8, identity", "text/xml; charset=gzip", "8bit", "gzip2", ",;,", "\xff", "none"),
    ],
)
async def test_what_names_no_compression_is_no_coding(encoding: str) -> None:
    """Senders write character sets there."""
    assert ids(await Gateway().post(TWO, headers={"content-encoding": encoding})) == ["1", "2"]


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


EMPTY = [b"", b"   \r\n", b"\0\0", b"\xef\xbb\xbf\n"]


@pytest.mark.parametrize("body", EMPTY)
async def test_an_empty_body_is_400_without_a_dead_letter(body: bytes) -> None:
    gateway = Gateway()
    assert is_problem(await gateway.post(body), 400)
    assert gateway.publisher.messages == []


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        *(({"method": "POST", "body": body}, 400, "empty") for body in EMPTY),
        ({"method": "GET"}, 405, "method"),
        ({"method": "HEAD"}, 405, "method"),
    ],
)
async def test_who_tries_the_address_learns_what_it_is_for(
    request_: dict[str, Any], status: int, reason: str
) -> None:
    """In the log with the peer, and not with each try: a check goes on for ever."""
    gateway = Gateway()
    body = request_.pop("body", b"")
    with capture_logs() as logs:
        replies = [await gateway.post(body, **request_) for _ in range(100)]
    for reply in replies:
        assert is_problem(reply, status)
        assert b"receives delivery statuses, which an SMS provider posts" in reply.body
    assert [(log["status"], log["reason"], log["peer"], log["suppressed"]) for log in logs] == [
        (status, reason, "127.0.0.1", 0)
    ] * LINES_AT_ONCE
    assert gateway.requests(status) == 100


async def test_empty_posts_hide_no_other_400_from_the_log() -> None:
    gateway = Gateway()
    with capture_logs() as logs:
        for _ in range(100):
            await gateway.post(b"")
        await gateway.post(b"not XML")
    assert [log["reason"] for log in logs].count("not_xml") == 1


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


# --- what the log says of requests that no endpoint answers ------------------------------


async def test_another_path_is_logged_at_a_bounded_rate_and_without_a_secret() -> None:
    """A mistyped URL may hold one, where its query should begin."""
    gateway = Gateway()
    with capture_logs() as logs:
        for _ in range(20):
            reply = await gateway.post(
                path=f"/webhook&token={TOKEN}", headers={"x-request-id": "r"}
            )
            assert is_problem(reply, 404)
    assert 1 <= len(logs) < 20
    assert (logs[0]["event"], logs[0]["status"], logs[0]["request_id"]) == ("request", 404, "r")
    assert (logs[0]["peer"], logs[0]["endpoint"]) == ("127.0.0.1", "-")
    assert logs[0]["path"] == "/webhook…"
    assert TOKEN not in str(logs)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/webhok", "/webhok"),
        ("/" + "a" * 300, "/" + "a" * 199 + "…"),
        ("/\x1b[2J\n", "/\\x1b[2J\\n"),
        ("/webhook;token=t", "/webhook…"),
    ],
)
async def test_the_path_of_another_request_is_clipped_and_printable(path: str, shown: str) -> None:
    """A terminal obeys nothing of it."""
    gateway = Gateway()
    with capture_logs() as logs:
        await gateway.post(path=path)
    assert logs[0]["path"] == shown


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
