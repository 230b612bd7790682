"""The simulated provider against receivers that answer, misbehave and vanish on script."""

import asyncio
import re
import socket
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from time import perf_counter
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import pytest

from bridge.simulate import (
    Plan,
    Report,
    SentState,
    Tally,
    client,
    render,
    run,
    simulate,
    states,
    write_report,
)

HANG = None  # a script's answer: none, until the client leaves


@dataclass(frozen=True, slots=True)
class Request:
    """One POST as the receiver saw it; `number` counts from 0 over all connections."""

    number: int
    head: str
    body: bytes
    at: float

    @property
    def ids(self) -> list[str]:
        """The ids in order."""
        return re.findall(r'id_sms="([^"]*)"', self.body.decode())

    @property
    def lines(self) -> dict[str, bytes]:
        """Each state's line, byte for byte, by id."""
        return dict(zip(self.ids, self.body.splitlines()[2:-1], strict=True))


Script = Callable[[Request], bytes | None]


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def listing(*ids: str) -> bytes:
    listed = "".join(f"     <id_sms>{i}</id_sms>\n" for i in ids)
    return f'<?xml version="1.0" encoding="utf-8" ?>\n<response>\n{listed}</response>'.encode()


def everything(request: Request) -> bytes:
    return http(listing(*request.ids))


class Receiver:
    """An HTTP server that answers by script and closes where an answer is not whole."""

    def __init__(self, script: Script) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.url = ""
        self.handlers: set[asyncio.Task[Any]] = set()
        self._script = script

    def posts_of(self, id_sms: str) -> list[Request]:
        """Return the requests that hold the id, in order."""
        return [request for request in self.requests if id_sms in request.ids]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until either side closes it."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.handlers.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left
        finally:
            writer.close()
            self.handlers.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = int(head.partition("Content-Length: ")[2].split()[0])
        body = await reader.readexactly(size)
        request = Request(len(self.requests), head, body, perf_counter())
        self.requests.append(request)
        answer = self._script(request)
        if answer is HANG:
            await reader.read()
            return False
        writer.write(answer)
        await writer.drain()
        if b"Connection: close" in answer:
            await reader.read()  # the client is to leave
            return False
        whole = re.search(rb"Content-Length: (\d+)", answer)
        end = answer.find(b"\r\n\r\n") + 4
        return whole is not None and len(answer) - end >= int(whole[1])


@asynccontextmanager
async def receiving(script: Script = everything, port: int = 0) -> AsyncIterator[Receiver]:
    """Serve on a free port of 127.0.0.1, and hold that the client has closed every connection."""
    receiver = Receiver(script)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/webhook"
    try:
        yield receiver
    finally:
        server.close()
        async with asyncio.timeout(60):
            while receiver.handlers:
                await asyncio.wait(set(receiver.handlers))
            await server.wait_closed()


def plan(url: str, messages: int, **changes: Any) -> Plan:
    options: dict[str, Any] = {"seed": 7, "retry_seconds": 0.01, **changes}
    return Plan(url, messages, **options)


def assert_adds_up(report: Report) -> None:
    """Every figure that can be derived from another agrees with it."""
    tally = report.tally
    assert tally.posts == sum(report.answers.values()) + sum(report.faults.values())
    assert tally.sent == sum(attempts * count for attempts, count in report.attempts.items())
    assert tally.posted == tally.messages == sum(report.attempts.values())
    assert tally.acknowledged + tally.unacknowledged == tally.messages
    assert tally.waiting == 0
    assert len(report.acknowledged_ids) == report.acknowledged
    assert len(report.unacknowledged_ids) == report.unacknowledged
    assert not report.acknowledged_ids & report.unacknowledged_ids


# The states.


def test_same_seed_gives_the_same_documents() -> None:
    first = render(states(plan("http://h/", 500)))
    assert first == render(states(plan("http://h/", 500)))
    assert first != render(states(plan("http://h/", 500, seed=8, first_id=7_000_000_001)))


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    shorter = list(states(plan("http://h/", 10)))
    assert shorter == list(islice(states(plan("http://h/", 99)), 10))


def test_different_seeds_share_no_id() -> None:
    """Not even neighbouring seeds with the longest runs."""
    longest = [Plan("http://h/", 10**9 - 1, seed=seed).ids for seed in (0, 1, 2, 2**32 - 1)]
    assert all(first.stop <= second.start for first, second in pairwise(longest))
    assert longest[-1].stop <= 2**63


def test_no_seed_draws_one_that_is_reported() -> None:
    drawn = Plan("http://h/", 3)
    assert drawn.seed is not None
    assert list(states(drawn)) == list(states(Plan("http://h/", 3, seed=drawn.seed)))
    assert drawn.ids != Plan("http://h/", 3).ids


def test_first_id_sets_the_ids_and_leaves_the_rest() -> None:
    moved = list(states(plan("http://h/", 3, first_id=40)))
    assert [state.id_sms for state in moved] == ["40", "41", "42"]
    assert [s.status for s in moved] == [s.status for s in states(plan("http://h/", 3))]


def test_states_are_what_the_provider_describes() -> None:
    """Statuses and times of provider-webhook, over SMS alone, Viber alone and both."""
    known = {"send", "not_deliver", "expired", "deliver", "read", "partly_deliver"}
    mix = list(states(plan("http://h/", 3000)))
    assert {state.status for state in mix} == known
    assert {(s.sms is None, s.viber is None) for s in mix} == {
        (False, True),
        (True, False),
        (False, False),
    }
    for state in mix:
        assert {state.sms, state.viber} <= known | {None}
        assert state.status in (state.sms, state.viber)
        assert (state.time == "") == (state.status == "send")
        assert re.fullmatch(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)?", state.time)


def test_states_are_made_one_by_one() -> None:
    """The first of a billion is there at once."""
    assert next(states(Plan("http://h/", 10**9 - 1, seed=3))).id_sms == "3000000001"


def test_render_is_the_providers_document() -> None:
    both = SentState("3234", "read", "2011-01-01 12:57:46", "deliver", "read")
    viber = SentState("3235", "send", "", None, "send")
    assert render([both, viber]) == (
        b'<?xml version="1.0" encoding="utf-8" ?>\n<response>\n'
        b'     <state id_sms="3234" time="2011-01-01 12:57:46" sms="deliver" viber="read">'
        b"read</state>\n"
        b'     <state id_sms="3235" time="" viber="send">send</state>\n'
        b"</response>\n"
    )


def test_render_escapes() -> None:
    odd = SentState("a\"'<&>é", "<&>é", "\"'", "<", "&")
    element = ET.fromstring(render([odd]))[0]
    assert element.attrib == {"id_sms": "a\"'<&>é", "time": "\"'", "sms": "<", "viber": "&"}
    assert element.text == "<&>é"


# Plans.


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"messages": 0}, "messages"),
        ({"per_post": 0}, "per_post"),
        ({"rate": 0.0}, "rate"),
        ({"concurrency": 0}, "concurrency"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": 256}, "attempts"),
        ({"retry_seconds": -1.0}, "retry_seconds"),
        ({"retry_seconds": float("nan")}, "retry_seconds"),
        ({"timeout_seconds": 0.0}, "timeout_seconds"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"first_id": -1}, "first_id"),
        ({"first_id": 2**63}, "first_id"),
        ({"url": "ftp://secret@h/"}, "url"),
        ({"url": "http:///secret"}, "url"),
        ({"url": "http://h:port/secret"}, "url"),
        ({"url": "http://a..b/secret"}, "url"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(changes: dict[str, Any], word: str) -> None:
    """By name of the field, and without the URL's secrets."""
    with pytest.raises(ValueError, match=word) as caught:
        Plan(**{"url": "http://h/", "messages": 1, **changes})
    assert "secret" not in str(caught.value)


def test_the_url_is_in_no_repr_and_no_report() -> None:
    assert "secret" not in repr(Plan("http://u:secret@h/?token=secret", 1))


# Runs against a receiver that works.


async def test_everything_acknowledged_at_once() -> None:
    tallies: list[Tally] = []
    async with receiving() as receiver:
        chosen = plan(receiver.url, 95, per_post=10)
        report = await simulate(chosen, on_progress=tallies.append)
    assert report.ok
    assert_adds_up(report)
    assert report.attempts == {1: 95}
    assert report.answers == {200: 10}
    assert report.tally == tallies[-1]
    assert len(tallies) == 10
    assert sorted(len(request.ids) for request in receiver.requests) == [5] + [10] * 9
    assert report.acknowledged_ids == {state.id_sms for state in states(chosen)}
    sent = {i: line for request in receiver.requests for i, line in request.lines.items()}
    assert sent == {s.id_sms: render([s]).splitlines()[2] for s in states(chosen)}


async def test_connections_are_kept_alive() -> None:
    async with receiving() as receiver:
        report = await simulate(plan(receiver.url, 200, per_post=1, concurrency=3))
    assert report.ok
    assert len(receiver.requests) == 200
    assert receiver.connections == 3


async def test_connection_close_is_obeyed() -> None:
    async with receiving(
        lambda r: http(listing(*r.ids), headers="Connection: close\r\n")
    ) as receiver:
        report = await simulate(plan(receiver.url, 20, per_post=1))
    assert report.ok
    assert report.faults == {}
    assert receiver.connections == 20


async def test_the_request_carries_what_the_url_holds() -> None:
    """User and password as basic authentication, the query, and no more than that."""
    async with receiving() as receiver:
        url = receiver.url.replace("//", "//us%65r:p%40ss@") + "?token=a%20b&x"
        assert (await simulate(plan(url, 1))).ok
    head = receiver.requests[0].head.split("\r\n")
    assert head[0] == "POST /webhook?token=a%20b&x HTTP/1.1"
    assert "Authorization: Basic " + b64encode(b"user:p@ss").decode() in head
    assert f"Host: {receiver.url.split('/')[2]}" in head


async def test_rate_holds_new_states_back() -> None:
    """No post comes before its share of the time."""
    begin = perf_counter()
    async with receiving() as receiver:
        report = await simulate(plan(receiver.url, 60, per_post=10, rate=200.0))
    for number, request in enumerate(receiver.requests):
        assert request.at - begin > number * 10 / 200 - 0.01
    assert report.duration_seconds > 0.24


async def test_only_what_is_in_flight_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def counted(chosen: Plan) -> Iterator[SentState]:
        nonlocal made
        for state in states(chosen):
            made += 1
            yield state

    def on_progress(tally: Tally) -> None:
        assert made - tally.posted <= 4 * 10

    monkeypatch.setattr(run, "states", counted)
    async with receiving() as receiver:
        report = await simulate(plan(receiver.url, 5000, per_post=10), on_progress=on_progress)
    assert report.ok
    assert made == 5000


@pytest.mark.parametrize(
    "wrapped",
    [
        pytest.param(lambda b: b"HTTP/1.1 200 OK\r\n\r\n" + b, id="until the end of connection"),
        pytest.param(lambda b: b"HTTP/1.1 100 Continue\r\n\r\n" + http(b), id="after a 100"),
        pytest.param(
            lambda b: (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (b[:5], len(b) - 5, b[5:])
            ),
            id="chunked",
        ),
        pytest.param(lambda b: http(b, "500 Oops"), id="whatever the status"),
        pytest.param(lambda b: http(b.replace(b">7", b"> 7")), id="white space around ids"),
        pytest.param(lambda b: http(b) + b"rubbish", id="rubbish behind it"),
    ],
)
async def test_forms_of_an_answer(wrapped: Callable[[bytes], bytes]) -> None:
    async with receiving(lambda r: wrapped(listing(*r.ids))) as receiver:
        report = await simulate(plan(receiver.url, 9, per_post=3, attempts=1))
    assert report.acknowledged == 9
    assert report.ok


# What is not listed.


async def test_only_what_was_not_listed_is_sent_again_and_unchanged() -> None:
    """The first answer to an id with an odd number leaves it out."""
    seen: Counter[str] = Counter()

    def evens_first(request: Request) -> bytes:
        seen.update(request.ids)
        return http(listing(*(i for i in request.ids if int(i) % 2 == 0 or seen[i] > 1)))

    async with receiving(evens_first) as receiver:
        report = await simulate(plan(receiver.url, 100, per_post=10))
    assert report.ok
    assert_adds_up(report)
    assert report.attempts == {1: 50, 2: 50}
    assert report.tally.retried == 50
    for id_sms in report.acknowledged_ids:
        posts = receiver.posts_of(id_sms)
        assert len(posts) == 1 + int(id_sms) % 2
        assert len({request.lines[id_sms] for request in posts}) == 1
        assert all(b.at - a.at >= 0.009 for a, b in pairwise(posts))


async def test_retries_are_grouped_again() -> None:
    """Ten posts that each leave one state out become fewer than ten posts."""
    seen: Counter[str] = Counter()

    def all_but_one(request: Request) -> bytes:
        seen.update(request.ids)
        return http(listing(*(i for i in request.ids if i[-1] != "1" or seen[i] > 1)))

    async with receiving(all_but_one) as receiver:
        chosen = plan(receiver.url, 100, per_post=10, concurrency=1, retry_seconds=1.0)
        report = await simulate(chosen)
    assert report.ok
    assert report.attempts == {1: 90, 2: 10}
    assert 11 <= len(receiver.requests) < 20


async def test_attempts_end() -> None:
    """A state that is never listed is sent five times, no more, and fails the run."""
    never = "7000000003"

    def all_but_never(request: Request) -> bytes:
        return http(listing(*(i for i in request.ids if i != never)))

    async with receiving(all_but_never) as receiver:
        report = await simulate(plan(receiver.url, 10))
    assert not report.ok
    assert_adds_up(report)
    assert report.unacknowledged_ids == {never}
    assert report.attempts == {1: 9, 5: 1}
    assert len(receiver.posts_of(never)) == 5


@pytest.mark.parametrize(
    ("answer", "unreadable"),
    [
        (http(b'<?xml version="1.0"?><response></response>', "503 Busy"), 0),
        (http(b"<response><id_sms>7000000001</id_sms>"), 1),
        (http(b"<answer><id_sms>7000000001</id_sms></answer>"), 1),
        (http(b"<response><x><id_sms>7000000001</id_sms></x></response>"), 0),
        (http(b'<?xml version="1.0" encoding="nope"?><response/>'), 1),
        (http(b"7000000001"), 1),
        (http(b""), 1),
        (http(b"<problem/>", "400 Bad"), 1),
        (b"HTTP/1.1 200 OK\r\n\r\n<response><id_sms>7000000001</id_sms>", 1),
    ],
)
async def test_an_answer_that_lists_nothing(answer: bytes, unreadable: int) -> None:
    async with receiving(lambda _: answer) as receiver:
        report = await simulate(plan(receiver.url, 1, attempts=2))
    assert_adds_up(report)
    assert report.unacknowledged == 1
    assert report.unreadable_answers == unreadable * 2
    assert sum(report.answers.values()) == 2
    assert report.foreign_ids == 0
    assert not report.ok


async def test_a_foreign_id_fails_the_run() -> None:
    """Even though everything is acknowledged; an id of another post is foreign as well."""
    async with receiving(lambda r: http(listing(*r.ids, "x", "7000000009"))) as receiver:
        report = await simulate(plan(receiver.url, 10, per_post=1))
    assert report.acknowledged == 10
    assert report.foreign_ids == 10 + 9
    assert set(report.foreign_id_sample) == {"x", "7000000009"}
    assert not report.ok


# What networks do.


@pytest.mark.parametrize(
    ("misbehaved", "kind"),
    [
        pytest.param(b"", "closed", id="closes without an answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", "closed", id="closes in the head"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + listing("7000000001"),
            "closed",
            id="closes in the body, the listing complete",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"36\r\n<response><id_sms>7000000001</id_sms></response>",
            "closed",
            id="closes in a chunk",
        ),
        pytest.param(b"SSH-2.0-rubbish\r\n", "protocol", id="no HTTP"),
        pytest.param(
            b"HTTP/1.1 101 Up\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "protocol", id="101"
        ),
        pytest.param(HANG, "timeout", id="hangs"),
    ],
)
async def test_a_fault_acknowledges_nothing_and_is_got_over(
    misbehaved: bytes | None, kind: str
) -> None:
    """The first post meets the fault, its retry an answer."""
    async with receiving(lambda r: everything(r) if r.number else misbehaved) as receiver:
        patience = 2.0 if misbehaved is HANG else 60.0
        report = await simulate(plan(receiver.url, 3, timeout_seconds=patience))
    assert_adds_up(report)
    assert report.faults == {kind: 1}
    assert report.last_fault is not None
    assert report.last_fault.startswith(f"{kind}: ")
    assert report.attempts == {2: 3}
    assert report.ok


async def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MAX_ANSWER_BYTES", 1000)
    async with receiving(lambda _: http(listing("7000000001") + b" " * 1000)) as receiver:
        report = await simulate(plan(receiver.url, 1, attempts=1))
    assert report.faults == {"protocol": 1}
    assert report.unacknowledged == 1


async def test_refused_until_the_receiver_is_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    refused = asyncio.Event()

    def on_progress(tally: Tally) -> None:
        if tally.waiting:
            refused.set()

    chosen = plan(f"http://127.0.0.1:{port}/", 50, per_post=10, attempts=255, retry_seconds=0.05)
    run = asyncio.create_task(simulate(chosen, on_progress=on_progress))
    async with asyncio.timeout(60):
        await refused.wait()
        async with receiving(port=port):
            report = await run
    assert report.ok
    assert_adds_up(report)
    assert report.faults["connect"] >= 1


async def test_nobody_there_is_a_report_and_no_exception() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    report = await simulate(plan(f"http://127.0.0.1:{port}/", 7, attempts=2))
    assert_adds_up(report)
    assert report.unacknowledged == 7
    assert report.faults == {"connect": 2}
    assert report.latency is None
    assert report.slowest is None


async def test_tls_against_plain_http_is_a_fault() -> None:
    """The receiver answers the greeting in plain text."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        report = await simulate(plan(f"https://127.0.0.1:{port}/", 1, attempts=1))
    assert report.unacknowledged == 1
    assert report.faults == {"tls": 1}


async def test_a_slow_run_is_timed() -> None:
    """Latency spans the whole wait for an answer; posts that hang do not count in it."""
    async with receiving(lambda r: everything(r) if r.number else HANG) as receiver:
        report = await simulate(plan(receiver.url, 1, timeout_seconds=2.0))
    assert report.latency is not None
    assert report.slowest is not None
    assert 0 < report.latency.p50 == report.latency.p99 == report.latency.max < 2000
    assert report.slowest.after_seconds > 2.0
    assert report.duration_seconds > 2.0
    (delivery,) = report.deliveries()
    assert delivery.acknowledged_after is not None
    assert 2.0 < delivery.acknowledged_after <= report.duration_seconds


async def test_cancelling_closes_every_connection() -> None:
    """`receiving` waits until the client has left."""
    four = asyncio.Event()

    def hang(request: Request) -> bytes | None:
        if request.number == 3:
            four.set()
        return HANG

    async with receiving(hang) as receiver:
        run = asyncio.create_task(simulate(plan(receiver.url, 8, per_post=1, timeout_seconds=60)))
        async with asyncio.timeout(60):
            await four.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert asyncio.all_tasks() == {asyncio.current_task()}


# The report.


async def test_the_written_report_names_every_id(tmp_path: Path) -> None:
    lost = {"7000000002", "7000000010"}

    def all_but_lost(request: Request) -> bytes:
        return http(listing(*(i for i in request.ids if i not in lost)))

    async with receiving(all_but_lost) as receiver:
        report = await simulate(plan(receiver.url + "?token=secret", 30, attempts=2))
    write_report(report, tmp_path / "report.json")
    text = (tmp_path / "report.json").read_bytes()
    written = orjson.loads(text)
    assert b"secret" not in text
    assert {k: v for k, v in written.items() if k in report.to_dict()} == report.to_dict()
    assert written["unacknowledged_ids"] == sorted(lost) == written["unacknowledged_sample"]
    assert set(written["acknowledged_ids"]) == report.acknowledged_ids
    assert written["acknowledged_ids"] == sorted(written["acknowledged_ids"], key=int)
    assert written["ok"] is False
    assert written["attempts"] == {"1": 28, "2": 2}
