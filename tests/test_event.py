"""Events of states: identity, meaning, times, and all that the contract says of them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import orjson
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bridge.event import (
    event_id,
    parse_time,
    rejected_state,
    status_message,
)
from bridge.model import MEANINGS, InvalidState, Message, Received, State, Trace
from tests.support.event import AT, MODES, SOURCE, Mode, data_of, event_of, route
from tests.support.reference import event_id as reference_id

EARLY = datetime(1, 1, 2, tzinfo=UTC)
VECTORS = json.loads((Path(__file__).parent / "samples" / "identities.json").read_text("utf-8"))


BOTH = {"sms": "deliver", "viber": "read"}


def state(
    id_sms: str = "3234",
    status: str = "read",
    values: Mapping[str, str] = BOTH,
    raw_time: str | None = "2011-01-01 12:57:46",
    channels: Collection[str] = BOTH,
) -> State:
    ordered = dict(sorted(values.items()))
    words = {name: value.lower() for name, value in ordered.items() if name in channels}
    return State(id_sms, status, words, ordered, raw_time, {})


# --- identity ----------------------------------------------------------------------------


@pytest.mark.parametrize("row", VECTORS, ids=[row["note"] for row in VECTORS])
def test_the_frozen_identities_have_not_moved(row: dict[str, Any]) -> None:
    """Subscribers drop repetitions by them: a change is a new major version."""
    one = state(row["id_sms"], row["status"], dict(row["values"]), row["raw_time"])

    assert event_id(row["source"], one) == row["id"]
    if row["source"].isascii():  # the configuration takes no other
        assert status_message(route(source=row["source"]), one, AT).event_id == row["id"]


def test_the_golden_vectors() -> None:
    """Written out here as well as in the table."""
    several = {"price": "0.55", "sms": "DELIVER", "err": "000"}

    assert event_id(SOURCE, state()) == "3234.940d7bb750bed8bb52b9621402425a66"
    assert event_id(SOURCE, state("0042", "send", {}, None)) == (
        "0042.a4660195ebe166d83f2ff975569805f2"
    )
    assert event_id(SOURCE, state("9101", "send", {"rcs": "queued"}, None)) == (
        "9101.0d4fbf6872ad62bf738b6f5f2b4f10be"
    )
    assert event_id(SOURCE, state("3234", "deliver", several)) == (
        "3234.0b5860472d2408b996145ef95d4f420d"
    )


def test_what_is_no_part_of_the_identity() -> None:
    """Which values are channels, time of receipt, time zone, content mode, white space."""
    known = status_message(route(), state(), AT).event_id
    untrimmed = state()._replace(element={"@id_sms": " 3234 ", "#text": " Read "})

    assert status_message(route(), state(channels=()), AT).event_id == known
    assert status_message(route(), state(), AT + timedelta(days=1)).event_id == known
    assert status_message(route(timezone="Europe/Kyiv"), state(), AT).event_id == known
    assert status_message(route("binary"), state(), AT).event_id == known
    assert status_message(route(), untrimmed, AT).event_id == known


TEXT = st.text(max_size=12)
VALUES = st.dictionaries(st.text(min_size=1, max_size=6), TEXT, max_size=4)
PARTS = st.tuples(TEXT, TEXT, TEXT, TEXT, VALUES)


def id_of(parts: tuple[str, str, str, str, dict[str, str]]) -> str:
    source, id_sms, status, raw_time, values = parts
    return event_id(source, state(id_sms, status, values, raw_time))


@settings(deadline=None)  # a loaded machine is no failure
@given(PARTS)
def test_the_identity_is_what_the_contract_says(
    parts: tuple[str, str, str, str, dict[str, str]],
) -> None:
    source, id_sms, status, raw_time, values = parts

    assert id_of(parts) == reference_id(source, id_sms, status, raw_time, [*values.items()])


@settings(deadline=None)  # a loaded machine is no failure
@given(PARTS, PARTS)
def test_different_states_have_different_identities(
    one: tuple[str, str, str, str, dict[str, str]],
    other: tuple[str, str, str, str, dict[str, str]],
) -> None:
    assume(one != other)

    assert id_of(one) != id_of(other)


@settings(deadline=None)  # a loaded machine is no failure
@given(st.lists(st.text("a1:", max_size=3), min_size=6, max_size=6), st.data())
def test_moving_characters_between_fields_makes_another_identity(
    fields: list[str], data: st.DataObject
) -> None:
    """The lengths keep apart what a mere concatenation would not: colons and digits too."""
    source, id_sms, status, raw_time, name, word = fields
    index = data.draw(st.integers(0, 4))
    assume(fields[index])
    moved = fields.copy()
    moved[index], moved[index + 1] = fields[index][:-1], fields[index][-1] + fields[index + 1]

    one = (source, id_sms, status, raw_time, {name: word})
    other = (moved[0], moved[1], moved[2], moved[3], {moved[4]: moved[5]})

    assert id_of(one).rpartition(".")[2] != id_of(other).rpartition(".")[2]


def test_no_time_and_an_empty_time_are_one() -> None:
    assert event_id(SOURCE, state(raw_time=None)) == event_id(SOURCE, state(raw_time=""))


# --- meaning -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "final", "outcome", "rank"),
    [
        ("send", False, "pending", 0),
        ("partly_deliver", False, "pending", 1),
        ("enroute", False, "pending", 1),
        ("acceptd", False, "pending", 1),
        ("deliver", False, "delivered", 2),
        ("delivrd", False, "delivered", 2),
        ("not_deliver", True, "undelivered", 2),
        ("expired", True, "undelivered", 2),
        ("undeliv", True, "undelivered", 2),
        ("rejectd", True, "undelivered", 2),
        ("deleted", True, "undelivered", 2),
        ("read", True, "delivered", 3),
        ("unknown", None, None, None),
        ("blocked", None, None, None),
        ("delivered", None, None, None),
    ],
)
def test_what_a_status_means(
    status: str, final: bool | None, outcome: str | None, rank: int | None
) -> None:
    data = data_of(status_message(route(), state(status=status), AT))

    assert (data["status"], data["final"], data["outcome"], data["rank"]) == (
        status,
        final,
        outcome,
        rank,
    )


def test_no_other_status_has_a_meaning() -> None:
    assert set(MEANINGS) == {
        *("send", "partly_deliver", "deliver", "not_deliver", "expired", "read"),
        *("enroute", "acceptd", "delivrd", "undeliv", "rejectd", "deleted"),
    }


def test_the_configuration_may_correct_a_meaning() -> None:
    """The word, and with it the type and the identity, stays the provider's."""
    corrected = {**MEANINGS, "deliver": MEANINGS["deliver"]._replace(final=True)}
    ours = replace(route(), statuses=corrected)

    made = status_message(ours, state(status="deliver"), AT)

    data = data_of(made)
    assert (data["final"], data["outcome"], data["rank"]) == (True, "delivered", 2)
    assert made.event_id == status_message(route(), state(status="deliver"), AT).event_id


# --- times -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw_time", "timezone", "utc"),
    [
        ("2011-01-01 12:57:46", "UTC", "2011-01-01T12:57:46"),
        ("2011-01-01 12:57:46", "Europe/Kyiv", "2011-01-01T10:57:46"),
        ("2011-07-01 12:57:46", "Europe/Kyiv", "2011-07-01T09:57:46"),
        ("2011-01-01 12:57:46", "Asia/Kolkata", "2011-01-01T07:27:46"),
        ("2024-02-29 00:00:00", "UTC", "2024-02-29T00:00:00"),
        # The hour that comes twice is the first of the two: still summer time.
        ("2025-10-26 01:59:59", "Europe/Berlin", "2025-10-25T23:59:59"),
        ("2025-10-26 02:00:00", "Europe/Berlin", "2025-10-26T00:00:00"),
        ("2025-10-26 02:59:59", "Europe/Berlin", "2025-10-26T00:59:59"),
        ("2025-10-26 03:00:00", "Europe/Berlin", "2025-10-26T02:00:00"),
        ("2025-11-02 01:30:00", "America/New_York", "2025-11-02T05:30:00"),
        ("2025-11-02 02:00:00", "America/New_York", "2025-11-02T07:00:00"),
        # The hour that is skipped takes the offset before the change: still winter time.
        ("2025-03-30 01:59:59", "Europe/Berlin", "2025-03-30T00:59:59"),
        ("2025-03-30 02:30:00", "Europe/Berlin", "2025-03-30T01:30:00"),
        ("2025-03-30 03:00:00", "Europe/Berlin", "2025-03-30T01:00:00"),
        ("2025-03-09 02:30:00", "America/New_York", "2025-03-09T07:30:00"),
        ("2025-03-09 03:00:00", "America/New_York", "2025-03-09T07:00:00"),
        # The ends of the calendar, where the zone leaves them within it.
        ("0001-01-01 00:00:00", "UTC", "0001-01-01T00:00:00"),
        ("9999-12-31 23:59:59", "UTC", "9999-12-31T23:59:59"),
        ("9999-12-31 23:59:59", "Asia/Tokyo", "9999-12-31T14:59:59"),
        ("0001-01-01 00:00:00", "Etc/GMT+5", "0001-01-01T05:00:00"),
    ],
)
def test_a_time_is_read_in_the_endpoints_zone(raw_time: str, timezone: str, utc: str) -> None:
    message = status_message(route(timezone=timezone), state(raw_time=raw_time), AT)

    data = data_of(message)
    assert data["changed_at"] == f"{utc}Z"
    assert data["raw_time"] == raw_time
    assert json.loads(message.value)["time"] == f"{utc}Z"


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize(
    "raw_time",
    [
        "",
        " ",
        "now",
        "2011-01-01",
        "12:57:46",
        "2011-01-01T12:57:46",
        "2011-01-01 12:57:46Z",
        "2011-01-01 12:57:46+02:00",
        "2011-01-01 12:57:46.0",
        "2011-01-01 12:57",
        "2011-1-1 12:57:46",
        "01.01.2011 12:57:46",
        "2011-01-01  12:57:46",
        "2011-01-01 12:57:46\n",
        " 2011-01-01 12:57:46",
        "2011-02-29 12:57:46",
        "2011-13-01 12:57:46",
        "2011-00-01 12:57:46",
        "2011-01-01 24:00:00",
        "2011-01-01 23:60:00",
        "2011-01-01 23:59:60",
        "0000-00-00 00:00:00",
        "٢٣٤٦-٢٣-٢٣ ٢٣:٢٣:٢٣",
        "\uff12\uff10\uff11\uff11-01-01 12:57:46",
        "1293886666",
        "-001-01-01 00:00:00",
        "20110-01-01 00:00:00",
        "x" * 4096,
    ],
)
def test_any_other_time_is_kept_and_not_interpreted(raw_time: str, timezone: str) -> None:
    assert parse_time(raw_time, ZoneInfo(timezone)) is None


@pytest.mark.parametrize(
    ("raw_time", "timezone"),
    [
        ("0001-01-01 00:00:00", "Europe/Berlin"),
        ("0001-01-01 00:00:00", "Asia/Tokyo"),
        ("9999-12-31 23:59:59", "America/New_York"),
    ],
)
def test_a_time_that_leaves_the_calendar_is_not_interpreted(raw_time: str, timezone: str) -> None:
    data = data_of(status_message(route(timezone=timezone), state(raw_time=raw_time), AT))

    assert (data["changed_at"], data["raw_time"]) == (None, raw_time)


@settings(deadline=None)  # a loaded machine is no failure
@given(
    st.integers(0, 3_652_056 * 86_400).map(lambda s: EARLY + timedelta(seconds=s)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
)
def test_every_time_of_the_form_is_read(moment: datetime, timezone: str) -> None:
    """What is read stands within a day of what was written, whatever the zone."""
    read = parse_time(moment.replace(tzinfo=None).isoformat(" "), ZoneInfo(timezone))

    assert read is not None
    assert read.tzinfo is UTC
    assert abs(read - moment) < timedelta(days=1)


@pytest.mark.parametrize("raw_time", [None, "no time"])
@pytest.mark.parametrize("mode", MODES)
def test_without_a_time_the_event_has_the_time_of_receipt(mode: Mode, raw_time: str | None) -> None:
    """`time` is never absent: the official JavaScript SDK fails on an event without it."""
    message = status_message(route(mode), state(raw_time=raw_time), AT)

    assert event_of(message).get_time() == AT
    assert data_of(message)["changed_at"] is None
    assert data_of(message)["raw_time"] == raw_time


# --- the event ---------------------------------------------------------------------------


STATUS_DATA = {
    "id_sms": "3234",
    "status": "read",
    "outcome": "delivered",
    "final": True,
    "rank": 3,
    "channels": {"sms": "deliver", "viber": "read"},
    "attributes": {},
    "changed_at": "2011-01-01T09:57:46Z",
    "raw_time": "2011-01-01 12:57:46",
    "received_at": "2026-11-23T09:15:02.123456Z",
}


def contract_example(mode: Mode = "structured") -> Message:
    """The example of the contract, which is three hours ahead of UTC."""
    return status_message(route(mode, timezone="Etc/GMT-3"), state(), AT)


def test_the_structured_form_is_the_contracts_example() -> None:
    message = contract_example()

    assert message.headers == [("content-type", b"application/cloudevents+json")]
    assert json.loads(message.value) == {
        "specversion": "1.0",
        "id": "3234.940d7bb750bed8bb52b9621402425a66",
        "source": SOURCE,
        "type": "com.example.messaging.status.read",
        "subject": "3234",
        "partitionkey": "3234",
        "time": "2011-01-01T09:57:46Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:sms-status-bridge:schema:status:1",
        "data": STATUS_DATA,
    }


def test_the_binary_form_has_the_attributes_as_headers() -> None:
    """CloudEvents Kafka binding 3.2: `ce_` and the name; the data alone is the value."""
    message = contract_example("binary")

    assert dict(message.headers) == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": b"3234.940d7bb750bed8bb52b9621402425a66",
        "ce_source": SOURCE.encode(),
        "ce_type": b"com.example.messaging.status.read",
        "ce_subject": b"3234",
        "ce_partitionkey": b"3234",
        "ce_time": b"2011-01-01T09:57:46Z",
        "ce_dataschema": b"urn:sms-status-bridge:schema:status:1",
    }
    assert len(message.headers) == len(dict(message.headers))
    assert json.loads(message.value) == STATUS_DATA


@pytest.mark.parametrize("mode", MODES)
def test_the_record_around_the_event(mode: Mode) -> None:
    message = contract_example(mode)

    assert message.topic == "sms.status"
    assert message.key == b"3234"
    assert message.event_id == "3234.940d7bb750bed8bb52b9621402425a66"
    assert message.timestamp_ms == 1795425302123


@settings(deadline=None)  # a loaded machine is no failure
@given(st.integers(0, 999_999), st.integers(0, 10**9))
def test_the_records_timestamp_is_the_millisecond_of_receipt(micro: int, seconds: int) -> None:
    moment = AT.replace(microsecond=micro) + timedelta(seconds=seconds)

    assert status_message(route(), state(), moment).timestamp_ms == (
        (1795425302 + seconds) * 1000 + micro // 1000
    )


def test_the_time_of_receipt_always_has_microseconds() -> None:
    data = data_of(status_message(route(), state(), AT.replace(microsecond=0)))

    assert data["received_at"] == "2026-11-23T09:15:02.000000Z"


XML_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff").filter(
        lambda c: c >= " " or c in "\t\n\r"
    ),
    max_size=20,
)


@settings(deadline=None)  # a loaded machine is no failure
@given(
    st.text("azAZ09._-", min_size=1, max_size=64),
    st.text("az09_", min_size=1, max_size=64),
    st.dictionaries(XML_TEXT.filter(bool), XML_TEXT, max_size=3),
    st.none() | XML_TEXT.filter(bool),
)
def test_both_forms_are_read_back_alike_by_the_sdk(
    id_sms: str, status: str, values: dict[str, str], raw_time: str | None
) -> None:
    """Whatever the provider sends, both content modes hold the same event."""
    channels = [*values][::2]
    one = state(id_sms, status, values, raw_time, channels)
    structured, binary = (event_of(status_message(route(mode), one, AT)) for mode in MODES)

    assert structured.get_attributes() == binary.get_attributes()
    assert structured.get_data() == binary.get_data()
    assert structured.get_subject() == id_sms
    assert structured.get_extension("partitionkey") == id_sms
    assert structured.get_type() == f"com.example.messaging.status.{status}"
    data = structured.get_data()
    assert isinstance(data, dict)
    assert data["channels"] == {name: values[name].lower() for name in channels}
    assert data["attributes"] == {n: v for n, v in values.items() if n not in channels}
    assert (data["id_sms"], data["raw_time"]) == (id_sms, raw_time)


@settings(deadline=None)  # a loaded machine is no failure
@given(
    st.text("azAZ09._-", min_size=1, max_size=64),
    st.text("az09_", min_size=1, max_size=64) | st.sampled_from(sorted(MEANINGS)),
    st.dictionaries(XML_TEXT.filter(bool), XML_TEXT, max_size=3),
    st.sampled_from([None, "2011-01-01 12:57:46"]) | XML_TEXT.filter(bool),
)
def test_what_is_written_in_pieces_is_what_is_written_at_once(
    id_sms: str, status: str, values: dict[str, str], raw_time: str | None
) -> None:
    """The usual event is put together from pieces of JSON; one with a trace is not."""
    one = state(id_sms, status, values, raw_time, [*values][::2])
    trace = Trace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    pieces = status_message(route(), one, AT)
    whole = status_message(replace(route(), trace=trace), one, AT)

    assert orjson.dumps(orjson.loads(pieces.value)) == pieces.value
    ending = f',"traceparent":"{trace.traceparent}"}}'.encode()
    assert pieces.value == whole.value.removesuffix(ending) + b"}"
    assert pieces._replace(value=b"", headers=[]) == whole._replace(value=b"", headers=[])


# --- held against the SDK ----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize("made", [status_message(route(), state(), AT).event_id, "rejected"])
def test_what_is_written_is_what_the_sdk_writes(
    mode: Literal["structured", "binary"], made: str
) -> None:
    """Every attribute, header, key and field of data: the SDK is the authority on the format."""
    to = route(mode)
    bad = InvalidState("п", "invalid_id", "detail", Received({"id_sms": "п"}, '"й\\'))
    ours = (
        rejected_state(to, "d", bad, AT)
        if made == "rejected"
        else status_message(to, state(values=BOTH | {"ціна": '"1"'}), AT)
    )
    kept = KafkaMessage(dict(ours.headers), ours.key, ours.value)
    event = from_kafka(kept, JSONFormat(), None)
    writer = to_structured if mode == "structured" else to_binary
    theirs = writer(event, JSONFormat())
    assert json.loads(ours.value) == json.loads(theirs.value)
    assert dict(ours.headers) == theirs.headers
    assert ours.key.decode() == theirs.key
