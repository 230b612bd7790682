"""Ids are found in plain lists, in the log's lines, and in what others wrap around these."""

import json

import pytest

from bridge.reconcile.work_list import SHOWN_CHARACTERS, read_work_list

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
