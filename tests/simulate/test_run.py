"""Runs against a receiver: what is sent, sent again, and counted."""

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import orjson
import pytest

from bridge.model import Form
from bridge.simulate import (
    Plan,
    SentState,
    Tally,
    render,
    run,
    simulate,
    states,
    write_report,
)
from tests.simulate.receiver import (
    HANG,
    Request,
    assert_adds_up,
    everything,
    everything_in_json,
    http,
    listing,
    plan,
    receiving,
)


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
    assert report.ids(acknowledged=True) == [state.id_sms for state in states(chosen)]
    sent = {i: line for request in receiver.requests for i, line in request.lines.items()}
    assert sent == {s.id_sms: render([s]).splitlines()[2] for s in states(chosen)}


async def test_a_run_in_json_posts_arrays_and_reads_numbers() -> None:
    async with receiving(everything_in_json) as receiver:
        chosen = plan(receiver.url, 25, per_post=10, form=Form.JSON)
        report = await simulate(chosen)
    assert report.ok
    assert report.ids(acknowledged=True) == [state.id_sms for state in states(chosen)]
    first = min(receiver.requests, key=lambda request: request.ids)
    assert "Content-Type: application/json" in first.head
    assert orjson.loads(first.body)[0].keys() >= {"id_sms", "time", "state"}


@pytest.mark.parametrize(
    "answer", [b"<response/>", b"{}x", b'{"id_sms": 1}', b"[1]", b'[{"id": 1}]']
)
async def test_what_is_no_array_of_ids_acknowledges_nothing_in_json(answer: bytes) -> None:
    async with receiving(lambda _: http(answer)) as receiver:
        report = await simulate(plan(receiver.url, 1, attempts=1, form=Form.JSON))
    assert (report.tally.acknowledged, report.unreadable_answers) == (0, 1)


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
    assert report.tally.acknowledged == 9
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
    for id_sms in report.ids(acknowledged=True):
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
    assert report.ids(acknowledged=False) == [never]
    assert report.attempts == {1: 9, 5: 1}
    assert len(receiver.posts_of(never)) == 5


async def test_a_slow_run_is_timed() -> None:
    """Latency spans the whole wait for an answer; posts that hang do not count in it."""
    async with receiving(lambda r: everything(r) if r.number else HANG) as receiver:
        report = await simulate(plan(receiver.url, 1, timeout_seconds=2.0))
    assert report.latency is not None
    assert report.slowest is not None
    assert 0 < report.latency.p50 == report.latency.p99 == report.latency.max < 2000
    assert report.slowest.after_seconds > 2.0
    assert report.duration_seconds > 2.0


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
    assert written["unacknowledged_ids"] == sorted(lost) == written["unacknowledged_sample"]
    assert written["acknowledged_ids"] == report.ids(acknowledged=True)
    assert written["acknowledged_ids"] == sorted(written["acknowledged_ids"], key=int)
    assert written["ok"] is False
    assert written["attempts"] == {"1": 28, "2": 2}
