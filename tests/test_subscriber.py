"""The subscribers' helper: it reads what the bridge writes, and tells the latest status."""

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import event as writer
from bridge import subscriber
from bridge.errors import DocumentError
from bridge.event import rejected_body, rejected_state, status_message
from bridge.model import MEANINGS, InvalidState, Meaning, Message, Received, Route, State
from bridge.pipeline import prepare
from bridge.subscriber import (
    RejectedEvent,
    StatusEvent,
    UnreadableError,
    latest,
    read,
)

ROOT = Path(__file__).parents[1]
LADDER = json.loads((ROOT / "docs/examples/latest_status.json").read_text("utf-8"))
SAMPLES = sorted((ROOT / "tests/samples").glob("*.json"))
AT = datetime(2026, 11, 23, 9, 15, 2, 123456, tzinfo=UTC)
EVENT = {
    "specversion": "1.0",
    "id": "3234.940d7bb750bed8bb52b9621402425a66",
    "source": "urn:example:sms:main",
    "type": "com.example.messaging.status.read",
    "time": "2011-01-01T12:57:46Z",
    "datacontenttype": "application/json",
    "dataschema": "urn:sms-status-bridge:schema:status:1",
    "partitionkey": "3234",
    "subject": "3234",
}
DATA = {
    "id_sms": "3234",
    "status": "read",
    "outcome": "delivered",
    "final": True,
    "rank": 3,
    "channels": {"sms": "deliver", "viber": "read"},
    "attributes": {},
    "changed_at": "2011-01-01T12:57:46Z",
    "raw_time": "2011-01-01 12:57:46",
    "received_at": "2026-11-23T09:15:02.123456Z",
}
STRUCTURED = [("content-type", b"application/cloudevents+json")]


def route(mode: Literal["structured", "binary"]) -> Route:
    return Route("main", "urn:example:sms:main", UTC, "s", "r", "com.example.messaging", mode)


def structured(**changes: Any) -> bytes:
    """The example as a value; a field that is given replaces that of the data."""
    return json.dumps({**EVENT, "data": {**DATA, **changes}}).encode()


def status(value: bytes) -> StatusEvent:
    event = read(value, STRUCTURED)
    assert isinstance(event, StatusEvent)
    return event


def rung(row: dict[str, Any]) -> StatusEvent:
    """A state of one message with what the rule looks at, and what it must not look at."""
    data = {**DATA, **{name: row[name] for name in ("final", "changed_at", "rank")}}
    return status(json.dumps({**EVENT, "id": row["id"], "data": data}).encode())


# --- what it needs -----------------------------------------------------------------------


def without_packages(code: str, place: Path) -> str:
    """What Python prints that has its own library, and what lies in `place`."""
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(place)!r}); {code}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_imported_without_anything_that_the_gateway_needs() -> None:
    said = without_packages(
        "import bridge.subscriber; print(sorted(n for n in sys.modules if n.startswith('bridge')))",
        ROOT,
    )

    assert said == "['bridge', 'bridge.subscriber']"


def test_the_file_alone_is_enough(tmp_path: Path) -> None:
    """It may be copied into a program that does not install the gateway."""
    shutil.copy(ROOT / "bridge/subscriber.py", tmp_path / "statuses.py")
    value = structured().decode()

    said = without_packages(f"import statuses; print(statuses.read({value!r}).outcome)", tmp_path)

    assert said == "delivered"


def test_it_names_the_schemas_that_the_bridge_writes() -> None:
    assert subscriber.STATUS_SCHEMA == writer.STATUS_SCHEMA
    assert subscriber.REJECTED_SCHEMA == writer.REJECTED_SCHEMA


# --- reading -----------------------------------------------------------------------------


def test_the_example_is_read_field_by_field() -> None:
    event = status(structured())

    assert event == StatusEvent(
        source="urn:example:sms:main",
        id="3234.940d7bb750bed8bb52b9621402425a66",
        type="com.example.messaging.status.read",
        time=datetime(2011, 1, 1, 12, 57, 46, tzinfo=UTC),
        received_at=AT,
        data=DATA,
        id_sms="3234",
        status="read",
        outcome="delivered",
        final=True,
        rank=3,
        channels={"sms": "deliver", "viber": "read"},
        attributes={},
        changed_at=datetime(2011, 1, 1, 12, 57, 46, tzinfo=UTC),
        raw_time="2011-01-01 12:57:46",
    )
    assert event.identity == ("urn:example:sms:main", "3234.940d7bb750bed8bb52b9621402425a66")
    assert event.message == ("urn:example:sms:main", "3234")
    assert len({event, status(structured(received_at="2026-11-23T09:15:03Z"))}) == 2
    with pytest.raises(FrozenInstanceError):
        event.status = "send"  # type: ignore[misc]


@pytest.mark.parametrize("path", SAMPLES, ids=[path.stem for path in SAMPLES])
def test_every_recorded_event_is_read(path: Path) -> None:
    """Dead letters, unknown words, extreme ids and times included."""
    sample = json.loads(path.read_text("utf-8"))
    for row in sample["events"] if isinstance(sample, dict) else []:
        event = row["event"]
        if row["topic"] == "rejected":
            event["data"]["detail"] = "what is wrong"
        got = read(json.dumps(event).encode(), STRUCTURED)

        assert isinstance(got, RejectedEvent) == (row["topic"] == "rejected")
        assert (got.id, got.source, got.type) == (event["id"], event["source"], event["type"])
        for name, value in got.data.items():
            held = getattr(got, name, value)
            assert as_text(held) == as_text(value), name


def as_text(value: Any) -> Any:
    """A time as the same text, however many digits it was written with."""
    if isinstance(value, str) and value.endswith("Z"):
        value = datetime.fromisoformat(value)
    return value.isoformat() if isinstance(value, datetime) else value


def both_modes(made: list[Message]) -> list[StatusEvent | RejectedEvent]:
    return [read(message.value, message.headers) for message in made]


@pytest.mark.parametrize("word", [*MEANINGS, "a_new_word"])
@pytest.mark.parametrize("raw_time", [None, "2011-01-01 12:57:46", "nonsense"])
def test_both_content_modes_hold_the_same_event(word: str, raw_time: str | None) -> None:
    state = State("0042", word, {"sms": word}, {"sms": word, "ціна": "½"}, raw_time, {})

    one, other = both_modes(
        [status_message(route(mode), state, AT) for mode in ("structured", "binary")]
    )

    assert one == other
    assert isinstance(one, StatusEvent)
    assert (one.final, one.outcome, one.rank) == MEANINGS.get(word, (None, None, None))
    assert (one.status, one.raw_time, one.attributes) == (word, raw_time, {"ціна": "½"})


def test_dead_letters_are_read_in_both_content_modes() -> None:
    invalid = InvalidState("№ 1", "invalid_id", "what is wrong", Received({"id_sms": "№ 1"}, ""))
    refused = DocumentError("not_xml", "what is wrong")

    states = both_modes(
        [rejected_state(route(mode), "r", invalid, AT) for mode in ("structured", "binary")]
    )
    bodies = both_modes(
        [rejected_body(route(mode), "r", refused, b"\xff", AT) for mode in ("structured", "binary")]
    )

    for one, other in (states, bodies):
        assert isinstance(one, RejectedEvent)
        assert one == other
        assert (one.detail, one.endpoint, one.received_at) == ("what is wrong", "main", AT)
    assert states[0].data["state"] == {"attributes": {"id_sms": "№ 1"}, "text": ""}
    assert bodies[0].data["body_base64"] == "/w=="


def test_new_fields_words_attributes_and_headers_are_tolerated() -> None:
    """A program that is not changed goes on when the contract grows."""
    event = {**EVENT, "type": "x.status.new", "traceparent": "00-1", "data_extra": 1}
    value = json.dumps({**event, "data": {**DATA, "status": "new", "price": 1}}).encode()

    got = read(value, [*STRUCTURED, ("other", None), ("ce_other", b"\xff")])

    assert isinstance(got, StatusEvent)
    assert (got.status, got.data["price"]) == ("new", 1)


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        [("Content-Type", b"application/cloudevents+json; charset=utf-8")],
        # Both: the binding goes by the content type.
        [*STRUCTURED, ("ce_specversion", b"1.0"), ("ce_id", b"another")],
    ],
)
def test_a_structured_event_is_known_without_its_header(headers: Any) -> None:
    """Tools that copy records may lose headers."""
    assert read(structured(), headers) == status(structured())


@pytest.mark.parametrize(
    ("value", "headers", "said"),
    [
        (None, [], "no value"),
        (b"", [], "not JSON"),
        (b"\xff", [], "not JSON"),
        (b"[" * 100_000, [], "not JSON"),
        (b"[]", [], "not a JSON object"),
        (b"{}", [], "not a CloudEvent"),
        (json.dumps({**EVENT, "specversion": "2.0"}).encode(), [], "not a CloudEvent"),
        (json.dumps(EVENT).encode(), [], "data is not a JSON object"),
        (json.dumps({**EVENT, "data": "text"}).encode(), [], "data is not a JSON object"),
        (json.dumps({**EVENT, "dataschema": "urn:x", "data": DATA}).encode(), [], "known kind"),
        (b"{}", [("ce_specversion", b"1.0"), ("ce_id", b"\xff")], "header ce_id is not UTF-8"),
        (b"{}", [("ce_specversion", b"1.0")], "known kind"),
        (structured(final="true"), [], "final cannot be 'true'"),
        (structured(rank=True), [], "rank cannot be True"),
        (structured(rank=1.5), [], "rank cannot be 1.5"),
        (structured(id_sms=3234), [], "id_sms cannot be 3234"),
        (structured(channels=[]), [], "channels cannot be"),
        (structured(channels={"sms": None}), [], "sms cannot be None"),
        (structured(changed_at="yesterday"), [], "changed_at is not a time"),
        (structured(changed_at="2011-01-01T12:57:46"), [], "changed_at is not in UTC"),
        (structured(changed_at="2011-01-01T12:57:46+02:00"), [], "changed_at is not in UTC"),
        (structured(received_at=None), [], "received_at cannot be None"),
        (json.dumps({**EVENT, "data": {}}).encode(), [], "received_at is missing"),
    ],
)
def test_what_is_no_event_of_a_known_kind_says_why(
    value: bytes | None, headers: Any, said: str
) -> None:
    with pytest.raises(UnreadableError, match=said):
        read(value, headers)


@settings(deadline=None)  # a loaded machine is no failure
@given(
    st.binary(max_size=40) | st.sampled_from([structured(), json.dumps(DATA).encode()]),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["content-type", "ce_specversion", "ce_id", "ce_time", "ce_dataschema"]
            ),
            st.none() | st.binary(max_size=8) | st.just(b"1.0"),
        )
    ),
)
def test_no_record_makes_it_fail_in_another_way(
    value: bytes, headers: list[tuple[str, bytes | None]]
) -> None:
    with suppress(UnreadableError):
        assert isinstance(read(value, headers), StatusEvent)


# --- the latest status -------------------------------------------------------------------


def test_every_rung_of_the_ladder_outranks_all_below_it() -> None:
    """The file is in order; the examples in other languages are held to the same one."""
    assert len(LADDER) > 20
    for low, high in combinations([rung(row) for row in LADDER], 2):
        assert latest(low, high) is high
        assert latest(high, low) is high


def test_the_words_of_the_ladder_mean_what_the_bridge_writes() -> None:
    """Every one of its words is there; the ranks above theirs may come."""
    rows = [row for row in LADDER if row["rank"] is None or row["rank"] <= 3]
    assert {row["status"] for row in rows} > {*MEANINGS}
    for row in rows:
        meaning = MEANINGS.get(row["status"], Meaning())
        assert (row["final"], row["rank"]) == (meaning.final, meaning.rank), row["note"]


CASCADE = """
<state id_sms="9104" time="2024-05-01 12:57:46" viber="not_deliver">not_deliver</state>
<state id_sms="9104" time="2024-05-01 12:58:30" viber="not_deliver" sms="deliver">deliver</state>
"""
# In Kyiv the clocks go back from four to three between the two.
REPEATED_HOUR = """
<state id_sms="770010" time="2026-10-25 03:59:50">send</state>
<state id_sms="770010" time="2026-10-25 03:00:10">deliver</state>
"""


@pytest.mark.parametrize("states", [CASCADE, REPEATED_HOUR], ids=["cascade", "repeated hour"])
def test_what_the_provider_sends_ends_as_delivered_in_any_order(states: str) -> None:
    """Neither a final state nor a time that goes back holds the outcome back."""
    kyiv = replace(route("structured"), timezone=ZoneInfo("Europe/Kyiv"))
    items = prepare(kyiv, f"<response>{states}</response>".encode(), AT, max_states=9).items
    made = [status(item.message.value) for item in items if item.message is not None]

    assert len({event.identity for event in made}) == 2
    for order in permutations([*made, *made]):
        assert reduce(latest, order).outcome == "delivered"


STATES = st.builds(
    lambda final, changed_at, rank, number: rung(
        {"id": f"3234.{number:x}", "final": final, "changed_at": changed_at, "rank": rank}
    ),
    st.sampled_from([None, False, True]),
    st.sampled_from([None, *sorted({row["changed_at"] or "" for row in LADDER} - {""})]),
    st.sampled_from([None, 0, 1, 2, 3]),
    st.integers(0, 40),
)


@settings(deadline=None)  # a loaded machine is no failure
@given(STATES, STATES, STATES)
def test_the_rule_is_commutative_associative_and_idempotent(
    a: StatusEvent, b: StatusEvent, c: StatusEvent
) -> None:
    """So the order in which states come does not matter, nor how often each does."""
    assert latest(a, b).precedence == latest(b, a).precedence
    assert latest(latest(a, b), c).precedence == latest(a, latest(b, c)).precedence
    assert latest(a, a) is a
    assert latest(latest(a, b), b).precedence == latest(a, b).precedence
    assert latest(None, a) is a


@settings(deadline=None)  # a loaded machine is no failure
@given(st.permutations(LADDER[:]), st.data())
def test_any_order_with_any_copies_ends_at_the_same_state(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    copies = data.draw(st.lists(st.sampled_from(rows), max_size=10))

    last = reduce(latest, [rung(row) for row in [*copies, *rows, *copies]])

    assert last.id == LADDER[-1]["id"]


def test_of_two_copies_the_held_one_stays() -> None:
    """They differ in the time of receipt alone, from which the waiting is counted."""
    held = status(structured())
    copy = status(structured(received_at="2026-11-23T10:15:02.123456Z"))

    assert latest(held, copy) is held


def test_states_of_two_messages_are_not_compared() -> None:
    """The same id_sms in another source is another message."""
    held = status(structured())
    other = read(json.dumps({**EVENT, "source": "urn:other", "data": DATA}).encode())

    assert isinstance(other, StatusEvent)
    with pytest.raises(ValueError, match="two messages"):
        latest(held, other)


def test_an_outcome_stands_when_it_is_final_or_nothing_final_came_in_time() -> None:
    day = timedelta(days=1)
    read_, delivered, unknown = (status(structured(final=final)) for final in (True, False, None))

    assert read_.settled(AT, day)
    for event in (delivered, unknown):
        assert not event.settled(AT + day - timedelta(seconds=1), day)
        assert event.settled(AT + day, day)


def test_every_field_of_the_data_has_a_name() -> None:
    """What the bridge writes can be had as an attribute; `data` is for what comes later."""
    assert {*DATA} <= {field.name for field in fields(StatusEvent)}
