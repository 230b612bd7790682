"""docs/examples: four languages read what the bridge writes, and end with the same table.

The long run is `make subscribers`: 100,000 states.
"""

import json
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.subscribers.programs import Event, Output, Program
from tests.subscribers.proof import MODES, Recording, judge, record
from tests.support.brokers import ExternalKafka
from tests.support.gateway import Gateway, configuration
from tests.support.reference import event_id
from tests.support.topics import Record, read_topic

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests/samples"
LADDER = json.loads((ROOT / "docs/examples/latest_status.json").read_text("utf-8"))
SOURCE = "urn:example:sms:main"
PREFIX = "com.example.messaging"
STATUS_SCHEMA = "urn:sms-status-bridge:schema:status:1"
STATES = 4000
REFUSED_BODIES = 20  # as many dead letters of bodies as the gateway writes at once
# What a language's SDK makes of `time`, seen here; docs/examples/README.md tells of both.
MILLISECONDS = {"javascript"}
NO_YEAR_1 = {("go", "binary")}

Identity = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """A state as it is sent, and what it must become, written by hand."""

    sent: str
    id_sms: str
    status: str
    outcome: str | None
    final: bool | None
    rank: int | None
    changed_at: str | None
    raw_time: str | None
    channels: dict[str, str]
    attributes: dict[str, str]

    @property
    def event(self) -> Event:
        data = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "sent"}
        return {
            "specversion": "1.0",
            "id": event_id(SOURCE, self.id_sms, self.status, self.raw_time, self.values),
            "source": SOURCE,
            "type": f"{PREFIX}.status.{self.status}",
            "time": self.changed_at,
            "datacontenttype": "application/json",
            "dataschema": STATUS_SCHEMA,
            "partitionkey": self.id_sms,
            "subject": self.id_sms,
            "data": data,
        }

    @property
    def values(self) -> list[tuple[str, str]]:
        """What the identity is made of besides: channels and attributes as they were sent."""
        sent = ET.fromstring(self.sent).attrib
        return [(name, sent[name].strip()) for name in sent if name not in {"id_sms", "time"}]


EXTREMES = (
    Source(
        '<state id_sms="000000000000000000000" time="0001-01-01 00:00:00">read</state>',
        *("000000000000000000000", "read", "delivered", True, 3),
        *("0001-01-01T00:00:00Z", "0001-01-01 00:00:00", {}, {}),
    ),
    Source(
        '<state id_sms="18446744073709551617" time="9999-12-31 23:59:59">expired</state>',
        *("18446744073709551617", "expired", "undelivered", True, 2),
        *("9999-12-31T23:59:59Z", "9999-12-31 23:59:59", {}, {}),
    ),
    Source(
        f'<state id_sms="{"-" * 64}" time="1969-12-31 23:59:59">{"z" * 64}</state>',
        *("-" * 64, "z" * 64, None, None, None),
        *("1969-12-31T23:59:59Z", "1969-12-31 23:59:59", {}, {}),
    ),
    Source(
        '<state id_sms="1e400" time="2100-02-29 00:00:00" viber="READ" '
        'note="Київстар &#x1F600; &quot;&lt;&amp;&#x2028;&#233; &#x65;&#x301;">deliver</state>',
        *("1e400", "deliver", "delivered", False, 2, None, "2100-02-29 00:00:00"),
        {"viber": "read"},
        {"note": 'Київстар \U0001f600 "<&\u2028\u00e9 e\u0301'},
    ),
    Source(
        '<state id_sms="null" time="" мова="українська">partly_deliver</state>',
        *("null", "partly_deliver", "pending", False, 1, None, None, {}),
        {"мова": "українська"},
    ),
    Source(
        '<state id_sms="9101" time="" rcs=" seen " vk="Not_Deliver" err="000" price="0.55" '
        'num_parts="2">DELIVRD</state>',
        *("9101", "delivrd", "delivered", False, 2, None, None),
        {"vk": "not_deliver"},
        {"rcs": "seen", "err": "000", "price": "0.55", "num_parts": "2"},
    ),
)


# --- field by field ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Samples:
    """Topics with what the samples and the extremes became, and what that has to be."""

    topics: str
    expected: dict[Identity, Event]
    recorded: dict[Identity, Event]


def sample_files() -> Iterator[Path]:
    """Those that become events, of whole bodies no more than are buried at once."""
    refused = 0
    for file in sorted(path for path in SAMPLES.iterdir() if path.suffix in (".xml", ".body")):
        sample = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        refused += sample["answer"]["status"] == 400
        simulated = "too_large" in sample.get("outcomes", {}).values()
        buried = sample["answer"]["status"] != 400 or refused <= REFUSED_BODIES
        if sample["events"] and buried and not simulated:
            yield file


@pytest.fixture(scope="module")
def samples(kafka: ExternalKafka) -> dict[str, Samples]:
    """All of them, in each content mode."""
    return {mode: posted(kafka, new_topics(kafka), mode) for mode in MODES}


def new_topics(kafka: ExternalKafka) -> tuple[str, str]:
    """A status topic that no other test uses, and its dead letters."""
    topic = f"examples.{uuid.uuid4().hex[:12]}"
    for each in (topic, f"{topic}.rejected"):
        kafka.create_topic(each, 3)
    return topic, f"{topic}.rejected"


def posted(kafka: ExternalKafka, topics: tuple[str, str], mode: str) -> Samples:
    """What a gateway of this content mode writes of them."""
    expected: dict[Identity, Event] = {}
    events = {"content_mode": mode}
    with Gateway(configuration(kafka.bootstrap_servers, topics[0], events=events)) as gateway:
        for file in sample_files():
            gateway.post(file.read_bytes())
            sample = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
            for event in (each["event"] for each in sample["events"]):
                expected.setdefault((event["source"], event["id"]), event)
        gateway.post(f"<response>{''.join(source.sent for source in EXTREMES)}</response>".encode())
    for source in EXTREMES:
        expected[SOURCE, source.event["id"]] = source.event
    recorded = {
        (event["source"], event["id"]): event
        for topic in topics
        for event in map(as_event, read_topic(kafka.bootstrap_servers, topic))
    }
    return Samples(",".join(topics), expected, recorded)


def as_event(record: Record) -> Event:
    """A record in the form of a structured event, without any SDK."""
    headers = {name: (value or b"").decode() for name, value in record.headers}
    content: Event = json.loads(record.value or b"")
    if "ce_id" not in headers:
        return content
    attributes = {name[3:]: value for name, value in headers.items() if name.startswith("ce_")}
    return {**attributes, "datacontenttype": headers["content-type"], "data": content}


@pytest.mark.parametrize("mode", MODES)
def test_each_field_is_what_the_source_says(
    kafka: ExternalKafka,
    samples: dict[str, Samples],
    mode: str,
    subscriber: Program,
    tmp_path: Path,
) -> None:
    """Attributes and data of every event, against the recorded samples and the log itself."""
    source = samples[mode]

    got = run(subscriber, kafka, source.topics, tmp_path / "store")

    printed = {(event["source"], event["id"]): event for event in got.events}
    assert printed.keys() == source.expected.keys() == source.recorded.keys()
    assert len(printed) > 80
    assert len(got.events) == len(printed)
    assert len({event["dataschema"] for event in got.events}) == 2
    for identity, event in printed.items():
        kept = source.recorded[identity]
        assert event["data"] == kept["data"]
        expected = source.expected[identity]
        assert without_receipt(event["data"]) == without_receipt(expected["data"])
        assert event.keys() | {"time"} == expected.keys()
        for name in expected.keys() - {"data", "time"}:
            assert event[name] == expected[name] == kept[name], name
        received_at = kept["data"]["received_at"]
        changed_at = expected["data"].get("changed_at")
        assert kept["time"] == (received_at if changed_at is None else changed_at)
        assert_time(event, kept["time"], subscriber.language, mode)


def without_receipt(data: dict[str, Any]) -> dict[str, Any]:
    """All but what no two runs share, and what is for people."""
    return {name: data[name] for name in data.keys() - {"received_at", "detail"}}


def assert_time(event: Event, time: str, language: str, mode: str) -> None:
    """The same instant; but for what the SDKs are known to do."""
    if (language, mode) in NO_YEAR_1 and time == "0001-01-01T00:00:00Z":
        assert "time" not in event
        return
    step = timedelta(milliseconds=1) if language in MILLISECONDS else timedelta(0)
    assert (
        timedelta(0)
        <= datetime.fromisoformat(time) - datetime.fromisoformat(event["time"])
        <= max(timedelta(0), step - timedelta(microseconds=1))
    )


# --- the latest status -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def recording(kafka: ExternalKafka) -> Recording:
    """A day with late and repeated states, in both content modes."""
    made = record(kafka, new_topics(kafka)[0], STATES)
    # Otherwise the day would prove nothing.
    assert made.records > STATES * 1.04
    assert all(wrong > STATES * 0.02 for wrong in made.misled.values()), made.misled
    return made


def test_no_status_is_wrong_after_a_day_of_late_and_repeated_states(
    kafka: ExternalKafka, recording: Recording, subscriber: Program, tmp_path: Path
) -> None:
    """Against what happened, and against the Python helper; each event is printed once."""
    got = run(subscriber, kafka, recording.topic, tmp_path / "store")

    assert judge(recording, got).holds
    assert all(row["settled"] is (row["final"] is True) for row in got.table.values())


def test_a_killed_subscriber_goes_on_where_it_was(
    kafka: ExternalKafka, recording: Recording, subscriber: Program, tmp_path: Path
) -> None:
    """Killed at half time, with half a line written: nothing is lost, and it reads the rest."""
    store = tmp_path / "store"
    with subscriber.running(*arguments(kafka, recording.topic, store)) as process:
        assert process.stdout is not None
        first = [json.loads(line) for line in islice(process.stdout, STATES // 2)]
        process.kill()
    assert process.returncode == -9
    kept = store.read_bytes().count(b"\n")
    with store.open("ab") as file:
        file.write(b'{"offsets": {"examples')

    second = run(subscriber, kafka, recording.topic, store)

    assert kept > 0
    assert len(second.events) < STATES
    again = Output([*first, *second.events], second.table)
    verdict = judge(recording, again)
    assert (verdict.wrong, verdict.missing, verdict.otherwise, verdict.not_printed) == (0, 0, 0, 0)
    third = run(subscriber, kafka, recording.topic, store)
    assert third.events == []
    assert third.table == second.table


def test_the_ladder_of_states_is_climbed_in_each_language(
    kafka: ExternalKafka, kafka_topic: str, subscriber: Program, tmp_path: Path
) -> None:
    """Every two rungs, in either order: the higher one stands, and in the end it is settled."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    expected = {}
    for (low, lower), (high, higher) in combinations(enumerate(LADDER), 2):
        for order in ((lower, higher), (higher, lower)):
            source = f"urn:example:{low}:{high}:{order[0] is lower}"
            expected[source, "7"] = higher["id"]
            for row in order:
                event = json.dumps(rung(source, row))
                headers: list[tuple[str, str | bytes | None]] = [
                    ("content-type", b"application/cloudevents+json")
                ]
                producer.produce(kafka_topic, event, "7", headers=headers)
    producer.produce(kafka_topic, b"not an event", "7")
    assert producer.flush(30) == 0

    got = run(subscriber, kafka, kafka_topic, tmp_path / "store", "--patience", "0")

    assert {message: row["id"] for message, row in got.table.items()} == expected
    assert len(expected) == len(LADDER) * (len(LADDER) - 1)
    assert all(row["settled"] is True for row in got.table.values())


def rung(source: str, row: dict[str, Any]) -> Event:
    """A state with what the rule looks at."""
    data = EXTREMES[0].event["data"] | {"id_sms": "7", "received_at": "2026-01-01T00:00:00Z"}
    looked_at = {name: row[name] for name in ("final", "changed_at", "rank")}
    return EXTREMES[0].event | {
        "source": source,
        "id": row["id"],
        "time": "2026-01-01T00:00:00Z",
        "data": data | looked_at,
    }


# --- running ---------------------------------------------------------------------------------


def arguments(kafka: ExternalKafka, topics: str, store: Path) -> tuple[str, ...]:
    return "--brokers", kafka.bootstrap_servers, "--topics", topics, "--store", str(store)


def run(program: Program, kafka: ExternalKafka, topics: str, store: Path, *more: str) -> Output:
    return program.run(*arguments(kafka, topics, store), *more)
