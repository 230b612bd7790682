"""Recorded bodies, through all pure stages, against the events and the answer beside each.

A sample is `NAME.xml`, or `NAME.body` where it is JSON: the bytes as they were posted; and
`NAME.json`: the answer, the events in order, and `outcomes` by event id where a record was not
simply published. An event's `detail` is for people and is not recorded.
"""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.ack import answer, problem
from bridge.errors import DocumentError
from bridge.model import Message, Result, Route
from bridge.parse import form_of, is_blank
from bridge.pipeline import Pipeline, prepare
from tests.hostile import reading
from tests.support.fakes import RecordingPublisher, Verdict
from tests.support.reference import event_id

SAMPLES = Path(__file__).parent / "samples"
BODIES = {path.stem: path for kind in ("xml", "body") for path in SAMPLES.glob(f"*.{kind}")}
NAMES = sorted(BODIES)
RECEIVED_AT = datetime(2026, 11, 23, 9, 15, 2, 123456, tzinfo=UTC)
RECEIVED_AT_MS = 1795425302123
MAX_STATES = 10_000
MAX_DETAIL_CHARACTERS = 500
ROUTE = Route(
    endpoint="main",
    source="urn:example:sms:main",
    timezone=ZoneInfo("UTC"),
    topic="status",
    dead_letter_topic="rejected",
    type_prefix="com.example.messaging",
    content_mode="structured",
)


@dataclass(frozen=True, slots=True)
class Answered:
    """What the provider gets, and what Kafka got."""

    status: int
    body: bytes
    messages: list[Message]
    calls: int


async def answered(body: bytes, outcomes: dict[str, str] | None = None) -> Answered:
    words = outcomes or {}

    def decide(message: Message) -> Verdict:
        word = words.get(message.event_id, "published")
        return "too_large" if word == "too_large" else Result(word)

    publisher = RecordingPublisher(decide)
    pipeline = Pipeline(publisher)
    if is_blank(body):
        return Answered(400, problem(400, "Bad Request", "the body is empty"), [], 0)
    try:
        prepared = prepare(ROUTE, body, RECEIVED_AT, max_states=MAX_STATES)
    except DocumentError as error:
        await pipeline.publish_dead_letter(ROUTE, error, body, RECEIVED_AT, deadline=0.0)
        refused = problem(400, "Bad Request", str(error), form_of(body))
        return Answered(400, refused, publisher.messages, len(publisher.calls))
    receipt = await pipeline.accept(ROUTE, prepared, RECEIVED_AT, deadline=0.0)
    status = 503 if receipt.refused else 200
    listing = answer(receipt.listed, form_of(body))
    return Answered(status, listing, publisher.messages, len(publisher.calls))


def listed(body: bytes) -> list[str]:
    """The ids of an answer, as any reader of XML or JSON finds them."""
    if body.startswith(b"["):
        return [str(item["id_sms"]) for item in json.loads(body)]
    if body.startswith(b"{"):
        return []
    return [element.text or "" for element in ET.fromstring(body).iter("id_sms")]


def recorded(message: Message) -> dict[str, Any]:
    """A message in the form of a sample, less what a sample does not record."""
    event = json.loads(message.value)
    detail = event["data"].pop("detail", None)
    if message.topic == "rejected":
        assert isinstance(detail, str)
        assert 0 < len(detail) <= MAX_DETAIL_CHARACTERS
    return {"topic": message.topic, "key": message.key.decode(), "event": event}


@pytest.mark.parametrize("name", NAMES)
async def test_a_sample_becomes_the_events_and_the_answer_beside_it(name: str) -> None:
    """Every field of every event, every key, in order; the ids and the status of the answer."""
    expected = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))

    got = await answered(BODIES[name].read_bytes(), expected.get("outcomes"))

    assert [recorded(message) for message in got.messages] == expected["events"]
    assert listed(got.body) == expected["answer"]["ids"]
    assert got.status == expected["answer"]["status"]


@pytest.mark.parametrize("name", NAMES)
async def test_the_records_of_a_sample_say_what_they_are(name: str) -> None:
    """Event id, time of receipt and header stand on the record as they do in the event."""
    expected = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))

    got = await answered(BODIES[name].read_bytes(), expected.get("outcomes"))

    assert [m.event_id for m in got.messages] == [e["event"]["id"] for e in expected["events"]]
    for message in got.messages:
        assert message.timestamp_ms == RECEIVED_AT_MS
        assert message.headers == [("content-type", b"application/cloudevents+json")]


@pytest.mark.parametrize("name", NAMES)
async def test_a_retry_of_a_sample_has_the_same_identities(name: str) -> None:
    """What is sent again is recognised: the same ids and keys, whatever the hour."""
    body = BODIES[name].read_bytes()

    first, second = await answered(body), await answered(body)

    assert [(m.topic, m.key, m.event_id) for m in first.messages] == [
        (m.topic, m.key, m.event_id) for m in second.messages
    ]


def twin(body: bytes) -> bytes | None:
    """The same states in JSON; None where a document has none there, or is refused."""
    try:
        elements = reading.elements(body)
    except reading.RefusedError:
        return None
    if any(element.children or "state" in element.attributes for element in elements):
        return None
    return json.dumps([{**each.attributes, "state": each.text} for each in elements]).encode()


TWINS = {n: body for n in NAMES if (body := twin(BODIES[n].read_bytes())) is not None}


@pytest.mark.parametrize("name", TWINS)
async def test_a_sample_in_json_has_the_same_records_and_the_same_answer(name: str) -> None:
    """Byte for byte the same records, their ids with them: the form is no part of a state."""
    outcomes = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8")).get("outcomes")

    in_xml = await answered(BODIES[name].read_bytes(), outcomes)
    in_json = await answered(TWINS[name], outcomes)

    assert in_json.messages == in_xml.messages
    assert (in_json.status, listed(in_json.body)) == (in_xml.status, listed(in_xml.body))
    assert in_json.body.startswith(b"[")


def test_nearly_every_sample_that_is_read_has_a_twin() -> None:
    assert len(TWINS) > 70


def test_every_sample_has_both_files_and_a_description() -> None:
    """No body without its expectation, and no expectation without its body."""
    assert len(NAMES) > 100
    assert sorted(path.stem for path in SAMPLES.glob("*.json")) == sorted([*NAMES, "identities"])
    for name in NAMES:
        expected = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
        assert expected["description"]
        assert expected["answer"]["status"] in (200, 400, 503)


def test_samples_cover_the_bytes_that_senders_really_send() -> None:
    """Nothing has rewritten the bytes: line ends, byte order marks and NULs are still there."""
    assert b"\r\n" in (SAMPLES / "posted_as_form.xml").read_bytes()
    assert (SAMPLES / "bom.xml").read_bytes().startswith(b"\xef\xbb\xbf<?xml")
    assert (SAMPLES / "utf_16_le.xml").read_bytes().startswith(b"\xff\xfe<\0")
    assert (SAMPLES / "nul_after.xml").read_bytes().endswith(b"</response>\n\0")
    assert b"<response>.\n" in (SAMPLES / "provider_sample_as_printed.xml").read_bytes()


# --- documents too long to record --------------------------------------------------------


def states(count: int) -> Iterator[str]:
    for number in range(count):
        yield f'<state id_sms="{number:06}" time="2011-01-01 12:57:46" sms="read">read</state>'


async def test_ten_thousand_states_are_sent_together_and_all_listed() -> None:
    """One call to the publisher, one event a state, every id in order."""
    ids = [f"{number:06}" for number in range(10_000)]

    got = await answered(f"<response>{''.join(states(10_000))}</response>".encode())

    assert got.calls == 1
    assert got.status == 200
    assert listed(got.body) == ids
    assert [m.event_id for m in got.messages] == [
        event_id("urn:example:sms:main", i, "read", "2011-01-01 12:57:46", [("sms", "read")])
        for i in ids
    ]


async def test_states_past_the_limit_are_neither_published_nor_listed() -> None:
    """They come again, as does an id that stands on both sides of the limit."""
    late = '<state id_sms="000001" time="2011-01-01 13:00:00">read</state>'

    got = await answered(f"<response>{''.join(states(10_000))}{late}</response>".encode())

    assert len(got.messages) == 10_000
    assert len(listed(got.body)) == 9_999
    assert "000001" not in listed(got.body)
