"""The inspector's listener: its pages, its guard, and what arrives live."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.types import Message as AsgiMessage
from structlog.testing import capture_logs

from bridge.gateway.app import Health, public_app
from bridge.inspector import Inspector
from bridge.inspector import app as app_module
from bridge.inspector.browser_security import HEADERS
from bridge.inspector.views import WHY_REFUSED
from bridge.model import Result
from bridge.observability.metrics import Metrics
from bridge.observability.requests import Disposition, Request
from tests.inspector.observed import OK, OPEN, TOKEN
from tests.support.asgi import Leave, Reply, request
from tests.support.fakes import RecordingPublisher
from tests.support.settings import settings

LOCAL = {"host": "127.0.0.1:8082"}

# --- the listener ------------------------------------------------------------------------


class Rig:
    """A gateway with an inspector, both as applications; the publisher decides what fails."""

    def __init__(self, publisher: RecordingPublisher | None = None, **sections: Any) -> None:
        self.not_ready: str | None = None
        self.inspector = Inspector(
            {"main": OPEN},
            statuses=("read", "send"),
            host="inspector.example",
            not_ready=lambda: self.not_ready,
            pulse_seconds=0.01,
        )
        self.inspector.listening("0.0.0.0", 8080)
        self.gateway = public_app(
            settings(*sections.pop("endpoints", ()), **sections),
            publisher or RecordingPublisher(),
            Metrics(),
            Health(lambda: None),
            observer=self.inspector.observe,
        )

    async def post(self, *chunks: Any, **options: Any) -> Reply | None:
        return await request(self.gateway, *chunks, **options)

    async def get(
        self, path: str = "/", *, query: str = "", headers: Mapping[str, str] = LOCAL
    ) -> Reply:
        reply = await request(
            self.inspector.app, method="GET", path=path, query=query, headers=headers
        )
        assert reply is not None
        return reply

    async def page(self, path: str = "/", query: str = "") -> str:
        reply = await self.get(path, query=query)
        assert reply.status == 200
        return reply.body.decode()


ONE = b'<response><state id_sms="3234" time="" sms="send">send</state></response>'


async def test_a_document_is_shown_with_its_event_place_and_answer() -> None:
    rig = Rig()
    await rig.post(ONE, headers={"x-request-id": "proxy-7"})
    assert "3234" in await rig.page()
    page = await rig.page("/documents/1")
    text = re.sub(r"<[^>]+>", "", page)
    assert "&lt;state id_sms=&#34;3234&#34;" in text
    assert "&lt;id_sms&gt;3234&lt;/id_sms&gt;" in text  # the answer
    assert "sms.status partition 0 offset 0" in text
    assert "com.example.messaging.status.send" in text
    assert "proxy-7" in text
    assert "&#39;http://127.0.0.1:8080/webhook&#39;" in text


async def test_a_document_in_json_is_shown_as_it_came() -> None:
    rig = Rig()
    await rig.post(b'[{"id_sms": 1234567890123456789012,\n  "state": "read", "note": "<b>"}]')
    page = await rig.page("/documents/1")
    text = re.sub(r"<[^>]+>", "", page)
    assert "{&#34;id_sms&#34;: 1234567890123456789012," in text
    assert "[{&#34;id_sms&#34;:&#34;1234567890123456789012&#34;}]" in text  # the answer
    assert '<span class="name">&#34;id_sms&#34;</span>' in page
    assert "Content-Type: application/json" in text
    assert "<b>" not in page.partition('id="body"')[2]


async def test_broken_json_shows_its_line() -> None:
    rig = Rig()
    await rig.post(b'[{"id_sms": 1},\n {"id_sms": ]')
    page = await rig.page("/documents/1")
    assert "not_json" in page
    assert '<span class="line at">' in page


async def test_what_failed_says_why() -> None:
    rig = Rig(RecordingPublisher(lambda _: Result.FAILED))
    await rig.post(ONE)
    page = await rig.page("/documents/1")
    assert "scripted: failed" in page
    assert "Service Unavailable" in page


async def test_an_unknown_word_and_an_unreadable_time_are_marked_in_the_table() -> None:
    """Their states are published, so the labels of what became of them would all be green."""
    rig = Rig()
    await rig.post(ONE)
    await rig.post(b'<response><state id_sms="1" time="noon" sms="x">blocked</state></response>')
    for path in ("/", "/documents/2"):
        page = await rig.page(path)
        assert page.count("<b>1</b> unknown word</span>") == 1
        assert page.count("<b>1</b> unreadable time</span>") == 1
    assert 'class="troubled mild" data-number="2"' in await rig.page()
    assert "unknown word" not in await rig.page("/documents/1")


async def test_an_invalid_state_shows_its_reason_and_its_dead_letter() -> None:
    rig = Rig()
    await rig.post(b'<response><state id_sms="a b">read</state></response>')
    page = await rig.page("/documents/1")
    assert "invalid_id" in page
    assert "sms.status.rejected" in page
    assert "com.example.messaging.rejected" in page


async def test_a_state_that_is_too_large_shows_the_dead_letter_that_took_its_place() -> None:
    rig = Rig(RecordingPublisher(lambda m: "too_large" if m.topic == "sms.status" else OK.result))
    await rig.post(ONE)
    page = await rig.page("/documents/1")
    assert "too_large" in page
    assert "sms.status.rejected" in page


async def test_an_unreadable_body_shows_its_line_and_its_dead_letter() -> None:
    rig = Rig()
    await rig.post(b"<response>\n<state></response>")
    page = await rig.page("/documents/1")
    assert "not_xml" in page
    assert "Its dead letter is in Kafka" in page
    assert '<span class="line at">' in page


async def test_the_body_can_be_saved_and_is_never_shown_as_a_page() -> None:
    rig = Rig()
    await rig.post(ONE)
    reply = await rig.get("/documents/1/body")
    assert reply.body == ONE
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["content-disposition"].startswith("attachment")


async def test_filters_work_by_the_query_alone() -> None:
    """A plain form, without a script."""
    rig = Rig()
    await rig.post(ONE)
    await rig.post(ONE.replace(b"3234", b"777"))
    assert 'data-number="2"' not in await rig.page(query="id=3234")
    assert 'data-number="1"' in await rig.page(query="id=3234&status=send&outcome=published")
    assert "No document that is kept fits" in await rig.page(query="id=none")


HOSTILE = (
    b'<response><state id_sms="1" time="" x="&lt;script>alert(1)&lt;/script>" '
    b'y=\'"onmouseover=alert(1) x="\' z="javascript:alert(1)">read</state>'
    b'<state id_sms="&lt;img src=x onerror=alert(1)>">read</state>'
    b'<state id_sms="&#x202e;gnp">read</state><script>alert(2)</script></response>'
)


async def test_nothing_from_outside_is_markup() -> None:
    rig = Rig()
    await rig.post(HOSTILE)
    await rig.post(b"<script>alert(1)</script><img src=x onerror=alert(1)>\xff\x00\x1b")
    for path in ("/", "/documents/1", "/documents/2"):
        page = await rig.page(path)
        assert re.findall(r"<script[^>]*>", page) == ['<script src="/static/script.js" defer>']
        assert re.findall(r"<img [^>]*>", page) == [
            '<img src="/static/icon.svg" alt="" width="22" height="22">'
        ]
        assert "\u202e" not in page
        assert not re.search("[\x00-\x08\x0b-\x1f]", page)
        hrefs = re.findall(r'href="([^"]*)"', page)
        assert all(href.startswith(("/", "#")) for href in hrefs)


async def test_a_hostile_query_is_escaped_too() -> None:
    page = await Rig().page(query="id=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&status=%00%E2%80%AE")
    assert "<script>alert" not in page
    assert "&#34;&gt;&lt;script&gt;alert(1)" in page


def test_every_reason_to_refuse_a_request_has_its_words() -> None:
    read = {Disposition.READ, Disposition.UNREADABLE, Disposition.LATE}
    assert {*WHY_REFUSED} == {*Disposition} - read


async def test_no_secret_is_ever_in_a_page() -> None:
    """Neither of a request that was let in nor of one that was not."""
    rig = Rig(
        endpoints=[
            {"auth": {"tokens": [TOKEN], "basic": [{"username": "u", "password": "pw-123"}]}}
        ]
    )
    await rig.post(ONE, query=f"token={TOKEN}", headers={"authorization": f"Bearer {TOKEN}"})
    await rig.post(ONE, query="token=guessed-token")
    await rig.post(ONE, headers={"authorization": "Bearer guessed-token"})
    await rig.post(ONE, path="/webhook-guessed-token")
    await rig.post(b"<", query=f"token={TOKEN}")
    for path in ("/", "/documents/1", "/documents/2"):
        page = await rig.page(path)
        assert TOKEN not in page
        assert "guessed-token" not in page
        assert "pw-123" not in page
    page = await rig.page()
    assert "wrong credentials" in page
    assert "no endpoint has this path" in page
    assert TOKEN not in repr([*rig.inspector.store.refusals, *rig.inspector.store.entries()])


@pytest.mark.parametrize("path", ["/", "/nothing", "/documents/9", "/static/script.js", "/live"])
async def test_every_answer_has_the_headers(path: str) -> None:
    rig = Rig()
    if path == "/live":
        rig.inspector.end()
    reply = await rig.get(path)
    assert HEADERS.items() <= reply.headers.items()
    assert "unsafe" not in reply.headers["content-security-policy"]
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")


async def test_it_is_read_only() -> None:
    reply = await request(Rig().inspector.app, method="POST", path="/", headers=LOCAL)
    assert reply is not None
    assert reply.status == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8082", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8082", 200),
        ("inspector.example:8082", 200),
        ("10.1.2.3", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8082", 421),
        ("localhost.evil.example", 421),
        ("", 421),
        ("[evil", 421),
    ],
)
async def test_a_name_of_somebody_else_does_not_lead_here(host: str, status: int) -> None:
    """DNS rebinding: another site's name that points to the listener."""
    assert (await Rig().get(headers={"host": host})).status == status


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
        ("cross-site", "navigate", 200),  # a link in a chat
        ("cross-site", "no-cors", 403),
        ("same-site", "cors", 403),
    ],
)
async def test_other_sites_pages_get_nothing(site: str, mode: str, status: int) -> None:
    headers = {**LOCAL, "sec-fetch-site": site, "sec-fetch-mode": mode}
    assert (await Rig().get(headers=headers)).status == status


async def test_what_the_gateway_lacks_is_shown() -> None:
    rig = Rig()
    rig.not_ready = "topic sms.status is missing"
    assert "topic sms.status is missing" in await rig.page()


async def test_an_error_in_the_inspector_never_reaches_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()

    def fail(_: Request) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(rig.inspector.store, "add", fail)
    with capture_logs() as logs:
        replies = [await rig.post(ONE) for _ in range(3)]
    assert [reply.status for reply in replies if reply] == [200, 200, 200]
    events = [line["event"] for line in logs]
    assert events.count("inspector missed a request") == 1


async def test_a_request_that_nobody_waits_for_is_counted() -> None:
    rig = Rig()
    assert await rig.post(b"<resp", Leave) is None
    assert "left before the end of the body" in await rig.page()


# --- what is new -------------------------------------------------------------------------


class Browser:
    """One open stream. `stuck` takes nothing more."""

    def __init__(self, rig: Rig, query: str = "", last: str = "", *, stuck: bool = False) -> None:
        self.sent: list[AsgiMessage] = []
        self._gone = asyncio.Event()
        self._stuck = stuck
        headers = [(b"host", b"localhost")] + [(b"last-event-id", last.encode())] * bool(last)
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/live",
            "query_string": query.encode(),
            "headers": headers,
        }
        self.task = asyncio.create_task(rig.inspector.app(scope, self._receive, self._send))

    async def _receive(self) -> AsgiMessage:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: AsgiMessage) -> None:
        if self._stuck and message["type"] == "http.response.body":
            await asyncio.Event().wait()
        self.sent.append(dict(message))

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def text(self) -> str:
        return b"".join(part.get("body", b"") for part in self.sent).decode()

    async def until(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text not in self.text:
                await asyncio.sleep(0.005)

    async def leave(self) -> None:
        self._gone.set()
        await self.task


def cursor_of(page: str) -> str:
    found = re.search(r'data-cursor="([^"]+)"', page)
    assert found
    return found[1]


async def test_documents_arrive_live_and_nothing_is_missed_in_between() -> None:
    rig = Rig()
    await rig.post(ONE)
    page = await rig.page()
    await rig.post(ONE.replace(b"3234", b"555"))  # after the page, before the stream
    browser = Browser(rig, f"since={cursor_of(page)}")
    await browser.until('data-number="2"')
    await rig.post(ONE.replace(b"3234", b"666"))
    await browser.until('data-number="3"')
    assert 'data-number="1"' not in browser.text
    assert "event: totals" in browser.text
    await browser.leave()


async def test_a_stream_is_filtered() -> None:
    rig = Rig()
    browser = Browser(rig, "id=777")
    await browser.until("event: totals")
    await rig.post(ONE)
    await rig.post(ONE.replace(b"3234", b"777"))
    await browser.until('data-number="2"')
    assert 'data-number="1"' not in browser.text
    await browser.leave()


async def test_a_reconnecting_page_gets_what_it_missed_or_is_told_of_a_restart() -> None:
    rig = Rig()
    await rig.post(ONE)
    cursor = cursor_of(await rig.page())
    await rig.post(ONE)
    browser = Browser(rig, last=cursor)
    await browser.until('data-number="2"')
    await browser.leave()
    for other in ("otherlife-1", "nonsense", cursor + "9" * 30):
        stale = Browser(rig, last=other)
        await stale.until("event: restart")
        await stale.leave()


async def test_a_flood_is_told_in_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "LIVE_ROWS", 3)
    rig = Rig()
    start = cursor_of(await rig.page())
    for _ in range(10):
        await rig.post(ONE)
    browser = Browser(rig, f"since={start}")
    await browser.until("7 more came at the same time")
    assert browser.text.count("data-number=") == 3
    await browser.leave()


async def test_few_pages_at_most() -> None:
    rig = Rig()
    browsers = [Browser(rig) for _ in range(app_module.MAX_PAGES_LIVE)]
    for browser in browsers:
        await browser.until("event: totals")
    assert (await rig.get("/live")).status == 503
    await browsers[0].leave()
    another = Browser(rig)
    await another.until("event: totals")
    rig.inspector.end()
    await asyncio.gather(*(browser.task for browser in [*browsers, another]))


async def test_a_page_that_does_not_take_what_it_is_sent_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app_module, "SEND_SECONDS", 0.02)
    rig = Rig()
    stuck = Browser(rig, stuck=True)
    async with asyncio.timeout(60):
        await stuck.task
    assert rig.inspector._live_pages == 0
    assert (await rig.post(ONE)) is not None


async def test_open_pages_end_with_the_drain() -> None:
    rig = Rig()
    browser = Browser(rig)
    await browser.until("event: totals")
    rig.inspector.end()
    async with asyncio.timeout(60):
        await browser.task
    assert browser.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert (await rig.get("/live")).status == 503


async def test_a_quiet_stream_gives_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "HEARTBEAT_PULSES", 2)
    browser = Browser(Rig())
    async with asyncio.timeout(60):
        while browser.text.count(": \n\n") < 3:
            await asyncio.sleep(0.005)
    await browser.leave()


def test_it_costs_nothing_where_it_is_off() -> None:
    """Its templates are not even loaded."""
    code = (
        "import sys, bridge.gateway.server; print({'jinja2', 'bridge.inspector'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
