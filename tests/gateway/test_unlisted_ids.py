"""The log is a complete list of the ids that were read and not listed: none is left out."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bridge.clip import ID_CHARACTERS, clipped
from bridge.demo.child import wait_until
from bridge.model import Message, Result
from bridge.observability import logging as logs
from bridge.observability.requests import _lines_of
from tests.support.application import Gateway as Application
from tests.support.fake_kafka import until
from tests.support.fakes import RecordingPublisher
from tests.support.gateway import Gateway, configuration
from tests.support.senders import document

NO_KAFKA = "127.0.0.1:1"


def ids_in(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """What whoever reads the log finds in it."""
    return [id_sms for line in lines for id_sms in line.get("unlisted_ids", ())]


def test_ten_thousand_ids_of_one_document_are_all_in_the_log(topic: str) -> None:
    """In their order, those past `max_states` too, each once, in lines of bounded length."""
    long = "9" * 100_000
    ids = [f"{10**21 + 7 * n}" for n in range(5_000)]
    ids += [f"a b {n}" for n in range(10)] + [long] + [f"{n}.x-Y" for n in range(4_989)]
    whole = configuration(NO_KAFKA, topic, server={"port": 0, "max_states": 7_000})
    whole["kafka"]["publish_timeout_seconds"] = 2
    with Gateway(whole, wait_ready=False) as gateway:
        answer = gateway.post(document(*ids, *ids[:50]), headers={"x-request-id": "the-one"})
        assert (answer.status, answer.ids) == (503, [])
        ours = '"request_id":"the-one"'
        wait_until(lambda: ids[-1] in gateway.output, "the last id is in the log")
        written = [line for line in gateway.output.splitlines() if ours in line]
        dropped = "sms_bridge_dropped_log_lines_total 0.0"
        assert dropped in gateway.admin("/metrics").body.decode()
    lines = [json.loads(line) for line in written]
    assert ids_in(lines) == [clipped(id_sms, ID_CHARACTERS) for id_sms in ids]
    assert [line["unlisted"] for line in lines if "unlisted" in line] == [len(ids)] == [10_000]
    assert {line["event"] for line in lines} == {"request", "unlisted ids"}
    assert {(line["endpoint"], line["level"]) for line in lines} == {("main", "warning")}
    assert max(map(len, written)) <= logs.MAX_LINE_BYTES


@settings(deadline=None)  # a loaded machine is no failure
@given(st.lists(st.text(st.characters(), max_size=100), max_size=50), st.integers(1, 60))
@example(list("0123456789"), 500)
def test_lines_hold_whatever_ids_there_are(some: list[str], times: int) -> None:
    """Those that JSON escapes, or cannot hold as they are, and beside a traceback, too."""
    ids = some * times
    fields = {"event": "request", "exception": "\U0001f600" * 20_000}
    written = [logs._dumps({**fields, "unlisted_ids": line}) for line in _lines_of(ids)]
    found = ids_in([json.loads(line) for line in written])
    assert found == [
        clipped(one, ID_CHARACTERS).encode(errors="backslashreplace").decode() for one in ids
    ]
    assert all(len(line) <= logs.MAX_LINE_BYTES for line in written)


# --- read, and not answered as a document --------------------------------------------------


MANY = [str(number) for number in range(1_000)]


async def test_a_fault_of_the_gateway_s_own_names_the_ids_that_it_had_read() -> None:
    def broken(_: Message) -> Result:
        raise LookupError("a bug")

    gateway = Application(RecordingPublisher(broken), server={"max_states": 900})
    with capture_logs() as lines:
        for _ in range(10):
            assert (await gateway.post(document(*MANY))).status == 500
    assert ids_in(lines) == MANY * 10  # though such refusals are written at a bounded rate
    assert {line["unlisted"] for line in lines if line["event"] == "request"} == {1000}


async def test_a_document_for_which_there_was_no_room_names_its_ids() -> None:
    gateway = Application(server={"max_in_flight_states": 3})
    gateway.publisher.hold.clear()
    held = asyncio.create_task(gateway.post(document("1", "2")))
    await until(lambda: bool(gateway.publisher.calls))
    with capture_logs() as lines:
        for _ in range(10):
            assert (await gateway.post(document("3", "4"))).status == 503
    gateway.publisher.hold.set()
    assert (await held).status == 200
    assert ids_in(lines) == ["3", "4"] * 10


async def test_what_the_end_of_the_drain_cuts_off_names_its_ids() -> None:
    gateway = Application()
    gateway.publisher.hold.clear()
    held = asyncio.create_task(gateway.post(document("1", "2")))
    await until(lambda: bool(gateway.publisher.calls))
    gateway.health.draining = True
    with capture_logs() as lines:
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
    (line,) = lines
    assert (line["reason"], line["status"], line["unlisted_ids"]) == ("stopping", None, ["1", "2"])


async def test_what_was_listed_is_not_named() -> None:
    def decide(message: Message) -> Result:
        return Result.FAILED if message.key == b"2" else Result.PUBLISHED

    with capture_logs() as lines:
        await Application(RecordingPublisher(decide)).post(document("1", "2", "3"))
        await Application().post(document("4"))
    assert ids_in(lines) == ["2"]
