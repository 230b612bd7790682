"""Answers and connections that fail acknowledge nothing, and are got over."""

import asyncio
import socket

import pytest

from bridge.simulate import (
    Tally,
    client,
    simulate,
)
from tests.simulate.receiver import (
    HANG,
    Request,
    assert_adds_up,
    everything,
    http,
    listing,
    plan,
    receiving,
)


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
    assert report.tally.unacknowledged == 1
    assert report.unreadable_answers == unreadable * 2
    assert sum(report.answers.values()) == 2
    assert report.foreign_ids == 0
    assert not report.ok


async def test_a_foreign_id_fails_the_run() -> None:
    """Even though everything is acknowledged; an id of another post is foreign as well."""
    async with receiving(lambda r: http(listing(*r.ids, "x", "7000000009"))) as receiver:
        report = await simulate(plan(receiver.url, 10, per_post=1))
    assert report.tally.acknowledged == 10
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
    assert report.tally.unacknowledged == 1


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
    assert report.tally.unacknowledged == 7
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
    assert report.tally.unacknowledged == 1
    assert report.faults == {"tls": 1}


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
