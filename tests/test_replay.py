"""The dead letters, listed and replayed: what comes back is what the webhook would have made."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.cli.common import moment
from bridge.cli.dead_letters import as_json, as_line, as_verdict
from bridge.config.settings import Settings, route_of
from bridge.errors import DocumentError
from bridge.event import MAX_RECEIVED_BYTES, rejected_state, status_message
from bridge.model import InvalidState, Message, Received, State
from bridge.model import Result as KafkaResult
from bridge.parse import parse, received
from bridge.pipeline import prepare
from bridge.replay import (
    AT_ONCE,
    FAILURES_IN_A_ROW,
    Letter,
    Replayer,
    Tally,
    Unreadable,
    Verdict,
    Word,
    letter_of,
)
from tests.support.fakes import RecordingPublisher
from tests.support.gateway import configuration
from tests.support.letters import (
    BODY,
    NOW,
    READ,
    RECEIVED_AT,
    ROUTE,
    SETTINGS,
    SOURCE,
    letter,
    of_body,
    of_state,
    record,
)
from tests.support.reference import event_id
from tests.support.settings import settings

SAMPLES = Path(__file__).parent / "samples"
TOPIC = "t.rejected"


def altered(message: Message, **data: Any) -> Message:
    """The letter with something else in its data, None for nothing."""
    event = orjson.loads(message.value)
    event["data"] = {k: v for k, v in (event["data"] | data).items() if v is not None}
    return message._replace(value=orjson.dumps(event))


async def replayed(
    publisher: RecordingPublisher, *messages: Message, using: Settings = SETTINGS
) -> tuple[list[Verdict], Tally]:
    async def found() -> AsyncIterator[Letter | Unreadable]:
        for offset, message in enumerate(messages):
            yield letter_of(record(message, offset))

    verdicts: list[Verdict] = []
    replayer = Replayer(using, publisher, Word.REPLAYED, lambda: NOW)
    return verdicts, await replayer.run(found(), verdicts.append)


async def verdict(message: Message, using: Settings = SETTINGS) -> Verdict:
    publisher = RecordingPublisher()
    (only,), _ = await replayed(publisher, message, using=using)
    assert publisher.messages == []
    return only


# --- what is in a letter -----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_a_letter_is_one_line(mode: str) -> None:
    """Time, endpoint, reason, id, detail, place: in either content mode."""
    route = route_of(settings(topic="t", events={"content_mode": mode}), SETTINGS.endpoints[0])
    line = as_line(letter(of_state(route=route)))
    assert line.replace("\x1b[31m", "").replace("\x1b[0m", "").split() == [
        *("2026-11-23T09:15:02.123Z", "main", "invalid_status", "3234", "too", "new", "2@17"),
    ]


def test_what_a_terminal_would_obey_is_written_out() -> None:
    shown = as_line(letter(of_body())) + as_line(letter(of_state({"id_sms": "4\x9b2"})))
    shown += as_verdict(Verdict(letter(of_state({"id_sms": "4\x9b2"})), Word.FAILED, "\x9b"))
    assert "\x9b" not in shown
    assert "refused\\x9b by" in shown


def test_json_is_the_place_and_all_the_data() -> None:
    message = of_body(b"\xff")
    event = orjson.loads(message.value)
    assert json.loads(as_json(letter(message))) == {
        "partition": 2,
        "offset": 17,
        "timestamp": "2026-11-23T09:15:02.123Z",
        "id": event["id"],
        "source": SOURCE,
        **event["data"],
    }


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (of_state()._replace(value=b"\xff"), "not a CloudEvent"),
        (of_state()._replace(value=b"", headers=[]), "not a CloudEvent"),
        (
            status_message(ROUTE, State("1", "read", {}, {}, None, {}), RECEIVED_AT),
            "an event of type com.example.messaging.status.read",
        ),
        (altered(of_state(), reason=None), "a dead letter that is not whole: reason"),
        (altered(of_state(), received_at="yesterday"), "that is not whole: received_at"),
        (altered(of_state(), state={"attributes": {"a": 1}}), "that is not whole: state"),
        (altered(of_state(), state=None), "a dead letter of nothing"),
    ],
)
def test_what_is_no_letter_is_said_and_stops_nothing(message: Message, why: str) -> None:
    found = letter_of(record(message))
    assert isinstance(found, Unreadable)
    assert why in found.why
    assert why in as_line(found)
    assert why in json.loads(as_json(found))["error"]


@pytest.mark.parametrize(
    "foreign",
    [
        altered(of_state(), received_at="0001-01-01T00:00:00+14:00"),
        altered(of_state(), received_at="9999-12-31T23:59:59-14:00"),
        altered(of_state(), received_at="9999-12-31T23:59:59Z"),
        altered(of_state(), received_at="2026-01-01T00:00:00"),
        of_state()._replace(value=b'{"specversion":"1.0","data":' + b"[" * 100_000),
        of_state()._replace(timestamp_ms=2**63 - 1),
        of_state()._replace(timestamp_ms=-(2**60)),
        altered(of_body(), body=None, body_base64="\u00e9"),
    ],
)
async def test_no_record_of_somebody_else_keeps_the_letters_behind_it_back(
    foreign: Message,
) -> None:
    for write in (as_json, as_line):
        assert write(letter_of(record(foreign)))
    publisher = RecordingPublisher()
    _, tally = await replayed(publisher, foreign, of_body())
    assert {message.key for message in publisher.messages} >= {b"1", b"2"}
    assert tally.words.total() == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T09:15", datetime(2026, 11, 23, 9, 15, tzinfo=UTC)),
        ("2026-11-23T09:15:02Z", datetime(2026, 11, 23, 9, 15, 2, tzinfo=UTC)),
        ("2026-11-23T11:15:02+02:00", datetime(2026, 11, 23, 9, 15, 2, tzinfo=UTC)),
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        ("12h", NOW - timedelta(hours=12)),
        ("7d", NOW - timedelta(days=7)),
    ],
)
def test_since_is_a_time_or_how_long_ago(text: str, expected: datetime) -> None:
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7w", "-1h", "2026-13-01", "999999999d"])
def test_any_other_since_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time such as"):
        moment(text, NOW)


# --- one letter, replayed ----------------------------------------------------------------


def states_of(name: str) -> list[State | InvalidState]:
    try:
        return list(parse((SAMPLES / name).read_bytes(), max_states=10_000).states)
    except DocumentError:
        return []


def refusal(body: bytes) -> DocumentError | None:
    try:
        parse(body, max_states=10_000)
    except DocumentError as error:
        return error
    return None


NAMES = sorted(path.name for path in SAMPLES.iterdir() if path.suffix in (".xml", ".body"))


@pytest.mark.parametrize("name", [name for name in NAMES if states_of(name)])
async def test_a_state_from_its_letter_is_the_event_that_the_webhook_makes(name: str) -> None:
    """All of it, not only its id: who has both cannot tell which is which."""
    valid = [state for state in states_of(name) if isinstance(state, State)]
    letters = [
        rejected_state(
            ROUTE,
            TOPIC,
            InvalidState(s.id_sms, "invalid_id", "", received(s.element)),
            RECEIVED_AT,
        )
        for s in valid
    ]
    publisher = RecordingPublisher()
    _, tally = await replayed(publisher, *letters)
    assert tally.left == 0
    expected = [status_message(ROUTE, state, RECEIVED_AT) for state in valid]
    assert {m.value for m in publisher.messages} == {m.value for m in expected}
    assert {(m.event_id, m.key, m.topic) for m in publisher.messages} == {
        (m.event_id, m.key, m.topic) for m in expected
    }


@pytest.mark.parametrize("name", [name for name in NAMES if states_of(name)])
async def test_a_state_that_is_still_bad_is_said_and_not_buried_again(name: str) -> None:
    for invalid in states_of(name):
        if isinstance(invalid, InvalidState):
            said = await verdict(rejected_state(ROUTE, TOPIC, invalid, RECEIVED_AT))
            if said.word != "truncated":
                assert (said.word, said.why) == (
                    "still_invalid",
                    f"{invalid.reason}: {invalid.detail}",
                )


@pytest.mark.parametrize("name", NAMES)
async def test_a_body_from_its_letter_is_what_the_webhook_reads(name: str) -> None:
    """Whatever its encoding: byte for byte, or else it is not replayed."""
    body = (SAMPLES / name).read_bytes()
    publisher = RecordingPublisher()
    (said,), _ = await replayed(publisher, of_body(body))
    if (error := refusal(body)) is not None:
        assert (said.word, said.why) == ("still_invalid", f"{error.reason}: {error}")
        assert publisher.messages == []
        return
    prepared = prepare(ROUTE, body, RECEIVED_AT, max_states=10_000)
    messages = [item.message for item in prepared.items]
    expected = {m.value for m in messages if m is not None and m.topic == ROUTE.topic}
    assert {m.value for m in publisher.messages} == expected
    bad = any(isinstance(item.state, InvalidState) for item in prepared.items)
    assert said.word == ("still_invalid" if bad else "replayed")


async def test_the_event_tells_the_first_receipt_and_the_record_the_replay() -> None:
    """The event is what it would have been; the topic must not drop it for its age at once."""
    publisher = RecordingPublisher()
    await replayed(publisher, of_state(READ | {"time": ""}), of_body())
    for message in publisher.messages:
        event = orjson.loads(message.value)
        assert event["data"]["received_at"] == event["time"] == "2026-11-23T09:15:02.123456Z"
        assert message.timestamp_ms == int(NOW.timestamp() * 1000)
    assert publisher.messages[0].event_id == event_id(
        SOURCE, "3234", "read", None, [("sms", "deliver"), ("viber", "read")]
    )


async def test_of_a_body_the_states_that_are_still_bad_are_counted() -> None:
    body = b'<response><state id_sms="1">read</state><state id_sms="b@d">read</state></response>'
    publisher = RecordingPublisher()
    (said,), tally = await replayed(publisher, of_body(body))
    assert (said.word, said.why, said.events) == ("still_invalid", "of 2 states: invalid_id 1", 1)
    assert [m.key for m in publisher.messages] == [b"1"]
    assert str(tally) == "letters 1 (still_invalid 1), events 1"


async def test_more_states_than_one_request_may_hold_are_all_replayed() -> None:
    """Nobody would send the others again."""
    few = settings(topic="t", server={"max_states": 1})
    publisher = RecordingPublisher()
    await replayed(publisher, of_body(), using=few)
    assert [m.key for m in publisher.messages] == [b"1", b"2"]


async def test_an_event_that_is_still_too_large_makes_no_letter_either() -> None:
    publisher = RecordingPublisher(lambda _: "too_large")
    (said,), tally = await replayed(publisher, of_state(reason="too_large"))
    assert said.word == "still_invalid"
    assert said.why == "too_large"
    assert {m.topic for m in publisher.messages} == {"t"}
    assert tally.left == 1


@pytest.mark.parametrize("fate", [KafkaResult.FAILED, KafkaResult.UNKNOWN])
async def test_what_kafka_does_not_take_has_failed(fate: KafkaResult) -> None:
    (said,), tally = await replayed(RecordingPublisher(lambda _: fate), of_state())
    assert (said.word, said.why) == ("failed", f"scripted: {fate.value}")
    assert tally.left == 1
    assert tally.events == 0


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (of_body(b"<response>" + b" " * MAX_RECEIVED_BYTES + b"</response>"), "truncated"),
        (of_state({"id_sms": "1", "x": "y" * MAX_RECEIVED_BYTES}), "truncated"),
        (altered(of_body(), body=BODY.decode() + " "), "damaged"),
        (altered(of_body(b"\xff"), body_base64="/g=="), "damaged"),
        (altered(of_body(b"\xff"), body_base64="?"), "damaged"),
        (altered(of_state(), state={"attributes": READ, "text": "send"}), "damaged"),
        (of_state(route=replace(ROUTE, source="urn:gone")), "unknown_source"),
    ],
)
async def test_what_is_not_all_there_is_not_replayed(message: Message, word: str) -> None:
    assert (await verdict(message)).word == word


async def test_children_that_are_not_what_they_were_are_an_invalid_state_and_no_fault() -> None:
    """Whoever may write to the topic may write anything, with a digest that fits."""
    for children in ("[", "{", "x", "[" * 5000):
        invalid = InvalidState("1", "child_elements", "", Received({"id_sms": "1"}, "", children))
        said = await verdict(rejected_state(ROUTE, TOPIC, invalid, RECEIVED_AT))
        assert said.word == "still_invalid"


async def test_letters_of_the_same_content_are_replayed_once() -> None:
    """A provider posts what is refused five times."""
    publisher = RecordingPublisher()
    verdicts, tally = await replayed(publisher, *[of_body()] * 5, *[of_state()] * 2)
    assert [v.word for v in verdicts] == ["replayed", *["repeated"] * 4, "replayed", "repeated"]
    assert len(publisher.messages) == 3
    assert (tally.left, str(tally)) == (0, "letters 7 (repeated 5, replayed 2), events 3")


@pytest.mark.parametrize(("name", "hour"), [("main", 10), ("old", 12), ("renamed since", 10)])
async def test_the_endpoint_is_the_one_with_the_letter_s_source(name: str, hour: int) -> None:
    """And among those the one of its name: another source would make other events."""
    base = {"timezone": "Europe/Kyiv", "auth": "none", "topic": "t"}
    endpoints = [
        base | {"name": "other", "path": "/a", "source": "urn:other"},
        base | {"name": "main", "path": "/b", "source": SOURCE},
        base | {"name": "old", "path": "/c", "source": SOURCE, "timezone": "UTC"},
    ]
    several = Settings.model_validate(configuration("x:1", "t") | {"endpoints": endpoints})
    publisher = RecordingPublisher()
    await replayed(publisher, of_state(route=replace(ROUTE, endpoint=name)), using=several)
    (message,) = publisher.messages
    assert orjson.loads(message.value)["time"] == f"2011-01-01T{hour}:57:46Z"


async def test_after_some_rounds_in_which_kafka_takes_nothing_it_gives_up() -> None:
    """Each round costs a whole deadline."""
    messages = [of_state(READ | {"id_sms": str(n)}) for n in range(AT_ONCE * 9)]
    publisher = RecordingPublisher(lambda _: KafkaResult.FAILED)
    verdicts, tally = await replayed(publisher, *messages)
    assert tally.given_up
    assert len(verdicts) == AT_ONCE * FAILURES_IN_A_ROW


def test_the_page_explains_every_word() -> None:
    page = (Path(__file__).parents[1] / "docs/dead-letters.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE) == [str(word) for word in Word]
