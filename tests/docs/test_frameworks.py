"""docs/frameworks.md: services with frameworks keep what the bridge writes, and lose nothing."""

import re
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

import pytest
from confluent_kafka import Producer

from bridge.demo.child import HOST, Child, free_ports
from tests.docs.test_examples import EXTREMES, EXTREMES_IN_JSON, SOURCE
from tests.docs.test_subscribers import CREATE, UPSERT
from tests.subscribers.frameworks import FRAMEWORKS, LONG, TABLES, framework
from tests.subscribers.frameworks import HERE as EXAMPLES
from tests.subscribers.kept import Log, committed, kept, log_of
from tests.subscribers.programs import RuntimeUnavailableError, build
from tests.subscribers.proof import record, replicas
from tests.support.brokers import ExternalKafka
from tests.support.maven import JarsUnavailableError, maven_libraries
from tests.support.needs import skipped_without
from tests.support.postgres import PostgresServer, PostgresUnavailableError, postgres_server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/frameworks.md").read_text(encoding="utf-8")
ROWS = [
    row.strip("| ").split(" | ")
    for row in PAGE.partition("| framework | language |")[2].partition("\n\n")[0].splitlines()[2:]
]
TITLES = {
    "faststream": "FastStream",
    "spring": "Spring Kafka",
    "go": "franz-go",
    "nestjs": "NestJS",
    "rust": "rdkafka",
}
CONNECT = Path(__file__).parent / "connect"
WORKER = "org.apache.kafka.connect.cli.ConnectStandalone"
STATES = 1000
SECONDS = 300
PARTITIONS = 3
BINARY = {
    "ce_specversion": b"1.0",
    "ce_id": b"1.0",
    "ce_source": SOURCE.encode(),
    "ce_type": b"com.example.messaging.status.read",
    "ce_time": b"2026-01-01T00:00:00Z",
    "ce_dataschema": b"urn:sms-status-bridge:schema:status:1",
    "content-type": b"application/json",
}
STRUCTURED = {"content-type": b"application/cloudevents+json"}
UNKNOWN = BINARY | {"ce_dataschema": b"urn:sms-status-bridge:schema:status:2"}
# Records of others: a service passes over each of them.
FOREIGN: tuple[tuple[dict[str, bytes | None], bytes | None], ...] = (
    ({}, b"not an event"),
    ({}, None),
    ({"content-type": None}, b"{}"),
    (dict(STRUCTURED), None),
    (dict(STRUCTURED), b'{"specversion": "1.0", "id": "cut'),
    (dict(STRUCTURED), b'{"specversion": "1.0"}'),
    (dict(UNKNOWN), b"{}"),
    (dict(BINARY), b"null"),
    (dict(BINARY), b"[]"),
    (dict(BINARY), b"{cut"),
    (dict(BINARY), b"\xff\xfe"),
    (dict(BINARY), None),
    (UNKNOWN | {"ce_trace": None}, b"{}"),
)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with skipped_without("PostgreSQL", PostgresUnavailableError), postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def log(kafka: ExternalKafka) -> Log:
    """A day in both content modes, what others write, and then the edges of the contract."""
    topic = f"frameworks.{uuid.uuid4().hex[:12]}"
    for each in (topic, f"{topic}.rejected"):
        kafka.create_topic(each, PARTITIONS)
    recording = record(kafka, topic, STATES)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for partition in range(PARTITIONS):
        for headers, value in FOREIGN:
            producer.produce(topic, value, "7", partition=partition, headers=[*headers.items()])
    assert producer.flush(30) == 0
    with replicas(kafka, topic) as gateways:
        for gateway in gateways:
            sent = "".join(source.sent for source in EXTREMES)
            gateway.post(f"<response>{sent}</response>".encode())
            gateway.post(f"[{','.join(source.sent for source in EXTREMES_IN_JSON)}]".encode())
    made = log_of(kafka, topic)
    latest = {message: row["event_id"] for message, row in made.latest.items()}
    assert {
        id_sms: latest[SOURCE, id_sms] for id_sms in recording.day.latest
    } == recording.day.latest
    assert len(made.events) == recording.day.states + len(EXTREMES) + len(EXTREMES_IN_JSON)
    assert sum(made.ends.values()) > len(made.events) * 1.04 + len(FOREIGN)
    return made


@pytest.fixture(params=[name for name in FRAMEWORKS if name not in LONG])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, tuple[str, ...]]:
    """A framework, and the command of its program."""
    with skipped_without(request.param, RuntimeUnavailableError):
        return request.param, framework(request.param, tmp_path_factory.mktemp(request.param))


def test_a_service_keeps_every_field_and_loses_nothing_to_foreign_records_and_faults(
    kafka: ExternalKafka,
    postgres: PostgresServer,
    log: Log,
    service: tuple[str, tuple[str, ...]],
    tmp_path: Path,
) -> None:
    """It passes over what is no state, and comes back to what it could not keep at first."""
    made = kept(kafka, postgres, log, service, tmp_path)

    assert made.attempts >= 3  # or else it did not come back
    assert made.events == Counter(log.modes.values())
    assert made.statuses == len(log.latest)
    assert made.holds, made
    (row,) = [row for row in ROWS if TITLES[service[0]] in row[0]]
    counts = (made.events["structured"], made.events["binary"], 0, 0)
    assert tuple(map(int, row[3:])) == counts
    assert f"{made.statuses} messages" in PAGE


def test_the_tables_are_those_of_the_page_for_subscribers() -> None:
    assert CREATE.strip() in TABLES
    rule = re.sub(r"\s+", " ", UPSERT[UPSERT.index("ON CONFLICT") :].strip().removesuffix(";"))
    assert rule in re.sub(r"\s+", " ", TABLES)


# --- Kafka Connect -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The worker with the test's sink, as a command that lacks its two files."""
    classes = tmp_path_factory.mktemp("connect")
    with skipped_without("Kafka Connect", JarsUnavailableError):
        libraries = maven_libraries("connect", CONNECT / "pom.xml")
    with skipped_without("Kafka Connect", RuntimeUnavailableError):
        compiler = ("javac", "-cp", f"{libraries}/*", "-d", str(classes))
        build([*compiler, str(CONNECT / "TableSink.java")], classes)
    return "java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{classes}:{libraries}/*", WORKER


def test_a_sink_of_kafka_connect_gets_columns_and_its_table_has_the_latest_status(
    kafka: ExternalKafka,
    postgres: PostgresServer,
    log: Log,
    connect: tuple[str, ...],
    tmp_path: Path,
) -> None:
    """Of the structured records: all others go to the sink's dead letters."""
    postgres.run("postgres", "CREATE DATABASE connect")
    values = {"KAFKA_TOPIC": log.topic, "SINK": "TableSink", "REPLICAS": "1"}
    sink = Template((EXAMPLES / "connect/sink.properties").read_text(encoding="utf-8"))
    (tmp_path / "sink.properties").write_text(
        sink.safe_substitute(values | {"DATABASE_URL": postgres.url("connect")})
    )
    (tmp_path / "worker.properties").write_text(
        f"bootstrap.servers={kafka.bootstrap_servers}\n"
        f"listeners=http://{HOST}:{free_ports(1)[0]}\n"
        f"offset.storage.file.filename={tmp_path / 'offsets'}\n"
        "offset.flush.interval.ms=1000\n"
        "key.converter=org.apache.kafka.connect.storage.StringConverter\n"
        "value.converter=org.apache.kafka.connect.json.JsonConverter\n"
    )
    files = (tmp_path / "worker.properties", tmp_path / "sink.properties")
    with Child("Kafka Connect", *connect, *files, log=tmp_path / "log") as worker:
        finished = partial(committed, kafka, "connect-sms-status", log)
        worker.wait_until(finished, "Kafka Connect commits the end of the log", SECONDS)
    postgres.run("connect", (EXAMPLES / "connect/latest.sql").read_text(encoding="utf-8"))

    got = postgres.rows("connect", "SELECT * FROM sms_state")
    assert {(row["source"], row["id"]): columns(row) for row in got} == {
        identity: columns({f"data_{name}": value for name, value in data.items()})
        for identity, data in log.structured.items()
    }
    latest = postgres.rows("connect", "SELECT source, data_id_sms, id FROM sms_latest")
    assert len(latest) > len(log.latest) / 2
    assert {(row["source"], row["data_id_sms"]): row["id"] for row in latest} == standing(log)


def columns(row: dict[str, Any]) -> dict[str, Any]:
    """What the sink keeps of a state."""
    names = ("id_sms", "status", "outcome", "final", "rank", "changed_at", "received_at")
    return {name: row[f"data_{name}"] for name in names}


def standing(log: Log) -> dict[tuple[str, str], str]:
    """The id of each message's latest state among those in structured records, by the rule."""
    ids: dict[tuple[str, str], str] = {}
    ladder = sorted(
        log.structured.items(),
        key=lambda each: (
            -1 if each[1]["rank"] is None else each[1]["rank"],
            each[1]["changed_at"] or "",
            each[0][1],
        ),
    )
    for (source, event_id), data in ladder:
        ids[source, data["id_sms"]] = event_id
    return ids


# --- the page ----------------------------------------------------------------------------


def test_the_code_on_the_page_is_that_of_the_programs() -> None:
    """Word by word, but for white space, docstrings and comments for linters."""
    blocks = re.findall(r"^```(?:python|java|ts)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    suffixes = {".py", ".java", ".ts"}
    files = [path.read_text("utf-8") for path in EXAMPLES.rglob("*") if path.suffix in suffixes]

    assert len(blocks) == 3
    for block in blocks:
        assert any(plain(block) in plain(text) for text in files), block


def plain(text: str) -> str:
    without = re.sub(r'  # noqa[^\n]*|^ *""".*?"""$', "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"\s+", " ", without)
