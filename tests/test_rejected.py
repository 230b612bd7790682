"""Dead letters: what they say, and that they always fit."""

import hashlib
import json
from base64 import b64decode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import DocumentError
from bridge.event import (
    MAX_RECEIVED_BYTES,
    rejected_body,
    rejected_state,
)
from bridge.model import InvalidState, Message, Received
from tests.support.event import AT, MODES, SOURCE, Mode, data_of, event_of, route
from tests.support.reference import MAX_RECORD_BYTES, digest

# Room for the rest of the record: key, headers, and the batch around it.
MAX_VALUE_BYTES = MAX_RECORD_BYTES - 4096

# --- dead letters of states --------------------------------------------------------------


def rejected(
    attributes: dict[str, str],
    text: str = "",
    *,
    id_sms: str = "",
    reason: str = "missing_id",
    mode: Mode = "structured",
) -> Message:
    invalid = InvalidState(id_sms, reason, "what is wrong", Received(attributes, text))
    return rejected_state(route(mode), "sms.status.rejected", invalid, AT)


def as_received(attributes: dict[str, str], text: str) -> bytes:
    """What `size` and `sha256` of a state are of: compact JSON in order of name."""
    whole = {"attributes": attributes, "text": text}
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("mode", MODES)
def test_the_dead_letter_of_a_state_shows_all_of_it(mode: Mode) -> None:
    attributes = {"time": " 1 ", "sms": "читано"}
    whole = as_received(attributes, " Read ")

    message = rejected(attributes, " Read ", mode=mode)

    expected = digest(SOURCE, "missing_id", "sms", "читано", "time", " 1 ", " Read ")
    event = event_of(message)
    assert message.topic == "sms.status.rejected"
    assert message.key == expected.encode()
    assert event.get_id() == message.event_id == expected
    assert event.get_type() == "com.example.messaging.rejected"
    assert event.get_subject() is None
    assert event.get_time() == AT
    assert event.get_dataschema() == "urn:sms-status-bridge:schema:rejected:1"
    assert event.get_data() == {
        "reason": "missing_id",
        "detail": "what is wrong",
        "endpoint": "main",
        "received_at": "2026-11-23T09:15:02.123456Z",
        "state": {"attributes": attributes, "text": " Read "},
        "truncated": False,
        "size": len(whole),
        "sha256": hashlib.sha256(whole).hexdigest(),
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("id_sms", ["a/b", "32 34", "№ 1", "1" * 65, 'a<b>&"c', "😀", "x" * 256])
def test_the_dead_letter_of_an_id_has_it_as_key_and_subject(id_sms: str, mode: Mode) -> None:
    message = rejected({"id_sms": id_sms}, id_sms=id_sms, reason="invalid_id", mode=mode)

    event = event_of(message)
    assert message.key == id_sms.encode()
    assert event.get_subject() == id_sms
    assert event.get_extension("partitionkey") == id_sms
    assert event.get_id() == digest(SOURCE, "invalid_id", "id_sms", id_sms, "")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "id_sms", ["1\n2", "1\t2", "1\r2", "1\x7f2", "1\x852", "1\u20282", "1\ufdd02"]
)
def test_control_characters_never_become_an_attribute(id_sms: str, mode: Mode) -> None:
    """CloudEvents 1.0, type system: a String holds no control characters or noncharacters."""
    message = rejected({"id_sms": id_sms}, id_sms=id_sms, reason="invalid_id", mode=mode)

    event = event_of(message)
    assert message.key == message.event_id.encode()
    assert event.get_subject() is None
    assert event.get_extension("partitionkey") == message.event_id
    assert data_of(message)["state"]["attributes"] == {"id_sms": id_sms}


@pytest.mark.parametrize("mode", MODES)
def test_a_very_long_id_is_no_key(mode: Mode) -> None:
    """It would stand in the record three times over, beyond any limit."""
    id_sms = "1" * 500_000
    message = rejected({"id_sms": id_sms}, id_sms=id_sms, reason="invalid_id", mode=mode)

    assert message.key == message.event_id.encode()
    assert data_of(message)["state"]["attributes"] == {"id_sms": id_sms}
    assert len(message.value) < MAX_VALUE_BYTES


def test_the_order_of_attributes_is_no_part_of_a_dead_letters_identity() -> None:
    one, other = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}

    assert rejected(one).event_id == rejected(other).event_id
    assert data_of(rejected(one))["sha256"] == data_of(rejected(other))["sha256"]


def test_what_makes_another_dead_letter() -> None:
    """Source, reason, and every value received, white space included."""
    letters = {
        rejected({"a": "1"}, "x").event_id,
        rejected({"a": "1"}, "x ").event_id,
        rejected({"a": "1x"}, "").event_id,
        rejected({"a1": ""}, "x").event_id,
        rejected({"a": "1"}, "x", reason="invalid_id").event_id,
        rejected_state(
            route(source="urn:other"),
            "t",
            InvalidState("", "missing_id", "", Received({"a": "1"}, "x")),
            AT,
        ).event_id,
    }

    assert len(letters) == 6


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"id_sms": "1", "note": "n" * 4_000_000}, "read"),
        ({"id_sms": "1"}, "t" * 4_000_000),
        ({"id_sms": "1", "note": "😀" * 1_000_000}, "read"),
        ({"id_sms": "1", "note": "\\" * 4_000_000}, "read"),
        ({"id_sms": "1", "note": '"' * 600_000}, '"' * 600_000),
        ({"id_sms": "1"}, "\n\r\t" * 1_000_000),
        ({"id_sms": "1"}, "\x7f" * 4_000_000),
        ({f"a{n:x}": "" for n in range(400_000)}, "read"),
        ({"n" * 4_000_000: "x"}, "read"),
    ],
    ids=[
        "value",
        "text",
        "wide",
        "backslashes",
        "quotes",
        "line ends",
        "delete",
        "many names",
        "long name",
    ],
)
def test_a_huge_state_is_cut_so_that_the_record_is_taken(
    attributes: dict[str, str], text: str, mode: Mode
) -> None:
    """An invalid id is acknowledged once its dead letter is durable, so it has to fit."""
    whole = as_received(attributes, text)

    message = rejected(attributes, text, id_sms="1", mode=mode)

    data = data_of(message)
    assert len(message.value) < MAX_VALUE_BYTES
    assert data["truncated"] is True
    assert (data["size"], data["sha256"]) == (len(whole), hashlib.sha256(whole).hexdigest())
    shown = data["state"]["attributes"]
    assert all(attributes[name].startswith(value) for name, value in shown.items())
    assert text.startswith(data["state"]["text"])
    assert message.event_id == digest(
        SOURCE, "missing_id", *[part for pair in sorted(attributes.items()) for part in pair], text
    )


# --- dead letters of bodies --------------------------------------------------------------


def buried(body: bytes, mode: Mode = "structured") -> Message:
    error = DocumentError("not_xml", "what is wrong", 3)
    return rejected_body(route(mode), "sms.status.rejected", error, body, AT)


@pytest.mark.parametrize("mode", MODES)
def test_the_dead_letter_of_a_body_shows_its_text(mode: Mode) -> None:
    body = "<response>\r\n\tЇжю 😀".encode()

    message = buried(body, mode)

    expected = digest(SOURCE, "not_xml", body)
    assert message.key == expected.encode()
    assert message.topic == "sms.status.rejected"
    assert event_of(message).get_id() == expected
    assert event_of(message).get_subject() is None
    assert data_of(message) == {
        "reason": "not_xml",
        "detail": "what is wrong",
        "endpoint": "main",
        "received_at": "2026-11-23T09:15:02.123456Z",
        "body": "<response>\r\n\tЇжю 😀",
        "truncated": False,
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe<\0", "Їжак".encode("cp1251"), b"a\0b", b"a\x1bb", b"\xed\xa0\x80", b"\xd0"],
)
def test_a_body_that_is_not_clean_text_is_shown_in_base64(body: bytes) -> None:
    data = data_of(buried(body))

    assert "body" not in data
    assert b64decode(data["body_base64"], validate=True) == body
    assert data["truncated"] is False


@pytest.mark.parametrize("body", ['{"a":"b"}', '""""', "\n\n\n", '{\n"a":\n"b"\n}', "\\"])
def test_a_short_text_is_shown_as_text_however_many_escapes_it_needs(body: str) -> None:
    """Base64 is for what is not clean text; there is no want of room here."""
    data = data_of(buried(body.encode()))

    assert data.get("body") == body
    assert "body_base64" not in data


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("character", ["x", "ї", "€", "😀"])
@pytest.mark.parametrize("shift", range(4))
def test_a_long_text_is_cut_between_characters(character: str, shift: int, mode: Mode) -> None:
    """Cut at the limit in bytes; the character on the border is left out, not broken."""
    body = ("." * shift + character * (MAX_RECEIVED_BYTES + 10)).encode()

    message = buried(body, mode)

    data = data_of(message)
    shown = data["body"].encode()
    assert body.startswith(shown)
    assert MAX_RECEIVED_BYTES - len(character.encode()) < len(shown) <= MAX_RECEIVED_BYTES
    assert data["truncated"] is True
    assert (data["size"], data["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert message.event_id == digest(SOURCE, "not_xml", body)


def test_a_body_at_the_limit_is_whole_and_one_byte_more_is_not() -> None:
    at_limit = data_of(buried(b"x" * MAX_RECEIVED_BYTES))
    beyond = data_of(buried(b"x" * (MAX_RECEIVED_BYTES + 1)))

    assert (at_limit["truncated"], len(at_limit["body"])) == (False, MAX_RECEIVED_BYTES)
    assert (beyond["truncated"], len(beyond["body"])) == (True, MAX_RECEIVED_BYTES)
    assert at_limit["sha256"] != beyond["sha256"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "body",
    [b"\0", b'"', b"\\", b"\n", b"\x01", b"\x7f", b"\xff", "\u2028".encode(), "\x85".encode()],
    ids=repr,
)
def test_the_worst_of_bodies_stays_within_a_record(body: bytes, mode: Mode) -> None:
    """Escapes make text up to six times as long; the limit of the topic stays."""
    message = buried(body * 4_000_000, mode)

    assert len(message.value) < MAX_VALUE_BYTES
    assert data_of(message)["truncated"] is True


@settings(deadline=None)  # a loaded machine is no failure
@given(st.binary(max_size=200))
def test_any_body_can_be_had_back_from_its_dead_letter(body: bytes) -> None:
    data = data_of(buried(body))

    shown = data["body"].encode() if "body" in data else b64decode(data["body_base64"])
    assert shown == body
    assert {"body", "body_base64"} & data.keys() != {"body", "body_base64"}
