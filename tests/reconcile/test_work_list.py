"""Ids are found in plain lists, in the log's lines, and in what others wrap around these."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from bridge.config.settings import route_of
from bridge.model import Result
from bridge.observability.requests import Disposition, Request, RequestLog
from bridge.pipeline import Pipeline, prepare
from bridge.reconcile.work_list import SHOWN_CHARACTERS, read_work_list
from tests.support.fakes import RecordingPublisher
from tests.support.settings import settings

SETTINGS = settings()
NOW = datetime(2026, 11, 23, 9, 15, 2, tzinfo=UTC)

LINE = {"endpoint": "main", "event": "ids not acknowledged", "unlisted_ids": ["1", "2"]}
IN_JSON = json.dumps(LINE)


def found(*lines: str) -> dict[str | None, list[str]]:
    work = read_work_list(lines)
    assert not work.unreadable, work.unreadable
    return {endpoint: list(ids) for endpoint, ids in work.ids.items()}


def test_ids_one_a_line() -> None:
    assert found("3234\n", "  0042\r\n", "\ufeffa.b-c_d", "", "3234") == {
        None: ["3234", "0042", "a.b-c_d"]
    }


@pytest.mark.parametrize(
    "line",
    [
        IN_JSON,
        f"[pod/bridge-7c9/gateway] {IN_JSON}",
        f"2026-11-25T10:00:00.123Z stderr F {IN_JSON}",
        json.dumps({"log": IN_JSON + "\n", "stream": "stderr"}),
        json.dumps({"message": json.dumps({"log": IN_JSON}), "host": "a"}),
    ],
)
def test_the_log_s_lines_name_their_endpoint(line: str) -> None:
    assert found(line) == {"main": ["1", "2"]}


def test_other_lines_of_the_log_name_no_ids() -> None:
    assert found('{"event": "ready"}', '{"event": "request", "unlisted": 0}') == {}


def test_lists_and_log_lines_go_together_and_each_id_counts_once() -> None:
    brand = json.dumps(LINE | {"endpoint": "brand", "unlisted_ids": ["9"]})
    assert found("7", IN_JSON, brand, IN_JSON, "1") == {
        None: ["7", "1"],
        "main": ["1", "2"],
        "brand": ["9"],
    }


@pytest.mark.parametrize("cut", ['{"event": "x", "unlisted_ids": ["1", "2', '{"a": }', "two words"])
def test_what_cannot_be_read_is_not_passed_over(cut: str) -> None:
    """A line that a collector has cut may have held ids."""
    work = read_work_list(["1", cut, "2"])
    assert list(work.ids[None]) == ["1", "2"]
    assert work.unreadable == {2: cut}


def test_an_id_that_no_message_can_have_is_told_and_clipped() -> None:
    line = json.dumps(LINE | {"unlisted_ids": ["b@d", "x" * 5000, "3"]})
    work = read_work_list([line])
    assert list(work.ids["main"]) == ["3"]
    assert [len(each) <= SHOWN_CHARACTERS + 30 for each in work.invalid] == [True, True]


def test_ids_that_the_log_counts_and_does_not_name_are_counted() -> None:
    """Lines may have been dropped, or cut off the end of a file."""
    first = {"request_id": "a", "unlisted": 3, "unlisted_ids": ["1"]}
    more = {"request_id": "a", "unlisted_ids": ["2", "3"]}
    other = {"request_id": "b", "unlisted": 2, "unlisted_ids": ["1", "4"]}
    whole = [json.dumps(line) for line in (first, other, more)]
    assert read_work_list(whole).missing == 0
    assert read_work_list(whole[:2]).missing == 2
    dropped = json.dumps({"event": "log lines dropped", "lines": 7})
    assert read_work_list([dropped, *whole]).dropped == 7


def test_ten_thousand_ids_of_one_request_are_all_in_the_log() -> None:
    """What the gateway logs of a document of which nothing was published is a whole work list."""
    ids = [f"{number:07}" for number in range(10_000)]
    states = "".join(f'<state id_sms="{i}" time="">read</state>' for i in ids)
    route = route_of(SETTINGS, SETTINGS.endpoints[0])
    prepared = prepare(route, f"<response>{states}</response>".encode(), NOW, max_states=10_000)
    pipeline = Pipeline(RecordingPublisher(lambda _: Result.FAILED))
    request = Request("main", "r", {}, {}, lambda: None, disposition=Disposition.READ, status=503)
    request.receipt = asyncio.run(pipeline.accept(route, prepared, NOW, float("inf")))
    with capture_logs() as lines:
        RequestLog("main")(request)

    work = read_work_list(json.dumps(line) for line in lines)
    assert list(work.ids["main"]) == ids
    assert (work.missing, work.dropped, work.unreadable) == (0, 0, {})
