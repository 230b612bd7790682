"""What `find` makes of records, without a broker."""

import codecs
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bridge import find
from bridge.event import status_message
from bridge.find import Finder, Findings, Missing, Trail
from bridge.kafka.consumer import Record
from bridge.model import Message, State
from tests.support.letters import RECEIVED_AT, ROUTE, of_body, of_state, record

DEAD_LETTERS = ROUTE.dead_letter_topic


def event(
    status: str, clock: str | None = "12:57:46", minutes: int = 0, id_sms: str = "3234"
) -> Message:
    """The event of a state that was received so many minutes after the first."""
    raw_time = None if clock is None else f"2011-01-01 {clock}"
    state = State(id_sms, status, {}, {}, raw_time, {})
    return status_message(ROUTE, state, RECEIVED_AT + timedelta(minutes=minutes))


def finder(messages: Sequence[Message], *ids: str) -> Finder:
    taken = Finder(ids or ("3234",))
    for offset, message in enumerate(messages):
        taken.take(record(message, offset), may_be_body=message.topic == DEAD_LETTERS)
    return taken


def findings(*messages: Message) -> Findings:
    return finder(messages).findings["3234"]


def trail(*messages: Message) -> Trail:
    (only,) = findings(*messages).trails
    return only


# --- states ------------------------------------------------------------------------------


def test_states_are_in_order_of_the_rule_and_not_of_their_arrival() -> None:
    """The latest is that of the rule, though a `send` came last."""
    found = trail(
        event("deliver", "09:09:00"), event("not_deliver", "09:05:00"), event("send", "09:00:00", 5)
    )

    assert [each.event.status for each in found.states] == ["send", "not_deliver", "deliver"]
    assert [each.record.offset for each in found.states] == [2, 1, 0]
    assert found.latest.status == "deliver"


def test_a_repeat_is_counted_and_is_no_second_state() -> None:
    """Whichever order its records are in: when the first and when the last was received."""
    found = trail(event("read", minutes=7), event("read"), event("read", minutes=3))

    (state,) = found.states
    assert state.records == 3
    assert state.received_at == RECEIVED_AT
    assert state.last_received_at == RECEIVED_AT + timedelta(minutes=7)


@pytest.mark.parametrize(
    ("statuses", "settled", "missing"),
    [
        (["send", "deliver", "read"], True, []),
        (["send", "not_deliver"], True, []),
        (["read"], True, ["first_state"]),
        (["send", "deliver"], False, ["final_state"]),
        (["send"], False, ["outcome", "final_state"]),
        (["partly_deliver"], False, ["outcome", "final_state", "first_state"]),
        (["brand_new"], False, ["outcome", "final_state"]),
        (["brand_new", "send"], False, ["outcome", "final_state"]),
    ],
)
def test_what_is_missing_is_said(statuses: list[str], settled: bool, missing: list[str]) -> None:
    """Only that of which it is certain: ranks between the first and the latest may be skipped."""
    found = trail(*map(event, statuses))

    assert found.settled is settled
    assert found.missing == tuple(Missing(each) for each in missing)


def test_an_id_may_be_a_message_of_several_accounts() -> None:
    other = replace(ROUTE, source="urn:example:sms:other")
    state = State("3234", "send", {}, {}, None, {})

    found = findings(event("read"), status_message(other, state, RECEIVED_AT))

    assert [(each.message.source[-5:], each.latest.status) for each in found.trails] == [
        (":main", "read"),
        ("other", "send"),
    ]


def test_both_content_modes_are_one_event() -> None:
    state = State("3234", "read", {}, {}, "2011-01-01 12:57:46", {})
    binary = status_message(replace(ROUTE, content_mode="binary"), state, RECEIVED_AT)

    (found,) = trail(binary, event("read")).states

    assert found.records == 2


def test_a_record_under_the_key_that_is_no_event_of_it_is_told_of() -> None:
    message = event("read")
    odd = [
        message._replace(value=b"{"),
        event("read", id_sms="42")._replace(key=b"3234"),
    ]

    found = findings(*odd)

    assert not found.found
    assert [each.record.offset for each in found.unreadable] == [0, 1]
    assert found.unreadable[0].why.startswith("the value is not JSON")
    assert found.unreadable[1].why == "a state of another message, 42"


def test_other_keys_and_no_key_at_all_are_passed_over() -> None:
    taken = finder([event("read", id_sms="42")])
    taken.take(Record("t", 0, 1, 0, None, None, ()), may_be_body=True)

    assert not taken.findings["3234"].found


def test_far_too_many_unreadable_records_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "MAX_KEPT", 3)

    found = findings(*[event("read")._replace(value=b"") for _ in range(5)])

    assert (len(found.unreadable), found.more_unreadable) == (3, 2)


def test_far_too_many_states_keep_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory has an end; what is left out is the lowest, and is counted with its repeats."""
    monkeypatch.setattr(find, "MAX_KEPT", 3)
    clocks = [f"10:00:{second:02}" for second in range(20)]

    found = trail(*[event("send", clock) for clock in clocks for _ in range(2)], event("read"))

    times = [each.event.raw_time for each in found.states]
    assert found.latest.status == "read"
    assert times[-2] == "2011-01-01 10:00:19"
    assert len(found.states) <= 2 * 3
    assert sum(each.records for each in found.states) + found.left_out == 41
    assert Missing.FIRST_STATE not in found.missing


def test_large_states_are_kept_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "MAX_KEPT_BYTES", 1000)

    found = trail(*[event("send", f"10:00:{second:02}") for second in range(20)])

    assert 1 <= len(found.states) < 20
    assert len(found.states) + found.left_out == 20
    assert found.latest.raw_time == "2011-01-01 10:00:19"


# --- dead letters ------------------------------------------------------------------------


def test_a_state_s_dead_letters_are_found_by_their_key_each_once() -> None:
    found = findings(of_state(), of_state(), of_state(text="other"))

    assert not found.trails
    assert [each.records for each in found.dead_letters] in ([1, 2], [2, 1])
    assert {each.event.reason for each in found.dead_letters} == {"invalid_status"}


@pytest.mark.parametrize(
    "body",
    [
        b'<response><state id_sms="3234">read',
        '<?xml version="1.0" encoding="utf-16"?><state id_sms="3234">'.encode("utf-16"),
        codecs.BOM_UTF8 + b'<state id_sms="3234" a="\xff">',
        b'[{"id_sms":3234,"state":"read"},',
    ],
)
def test_a_rejected_body_is_found_by_the_id_in_it(body: bytes) -> None:
    """Whatever its encoding; it has no key that would tell."""
    found = findings(of_body(body))

    (letter,) = found.dead_letters
    assert letter.event.reason == "too_deep"


@pytest.mark.parametrize("body", [b"<a>32345</a>", b"<a>1.3234</a>", b"<a>3234-1</a>", b"<a/>"])
def test_a_longer_id_is_another(body: bytes) -> None:
    assert not findings(of_body(body)).found


def test_one_body_may_have_several_ids() -> None:
    body = b'<state id_sms="1"/><state id_sms="2"/><state id_sms="1"/>'

    found = finder([of_body(body)], "1", "2", "3").findings

    assert [[each.records for each in found[name].dead_letters] for name in "123"] == [[1], [1], []]


def test_a_letter_with_a_body_that_is_damaged_is_passed_over() -> None:
    message = of_body(b"\xff 3234")
    event = json.loads(message.value)
    for body in ("*", 5, None, "\u00e9"):
        event["data"]["body_base64"] = body
        assert not findings(message._replace(value=json.dumps(event).encode())).found


def test_an_id_with_characters_of_patterns_is_itself_alone() -> None:
    taken = finder([of_body(b"<a>1x2</a>"), of_body(b"<a>1.2</a>")], "1.2").findings["1.2"]

    (letter,) = taken.dead_letters
    assert letter.record.offset == 1


def test_times_are_compared_as_times() -> None:
    """A record of the future, or of long ago, breaks nothing."""
    far = datetime(9999, 12, 31, tzinfo=UTC)
    state = State("3234", "read", {}, {}, None, {})
    found = trail(status_message(ROUTE, state, far), event("send"))
    assert found.latest.received_at == far
