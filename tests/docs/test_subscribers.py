"""docs/subscribers.md against the program: its pointers, its SQL, and its Python."""

import json
import os
import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from confluent_kafka import Producer

from bridge import subscriber
from bridge.event import parse_time, status_message
from bridge.model import MEANINGS, Message, Route, State
from bridge.subscriber import StatusEvent, latest, read
from tests.support.brokers import ExternalKafka
from tests.support.maven import JarsUnavailableError, maven_libraries
from tests.support.needs import skipped_without
from tests.support.postgres import Postgres, PostgresUnavailableError, bound, new_postgres

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/subscribers.md").read_text(encoding="utf-8")
FLINK = Path(__file__).parent / "flink"
AT = datetime(2026, 11, 23, 9, 15, 2, tzinfo=UTC)
FIELDS = ("status", "outcome", "final", "changed_at", "rank", "received_at")
TIMES = (None, *(f"2011-01-01 12:57:4{second}" for second in range(4)))

Rows = dict[tuple[str, str], str]


def blocks(language: str, heading: str) -> list[str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


# --- the page itself ---------------------------------------------------------------------


def test_every_guarantee_points_to_tests_that_exist() -> None:
    table = PAGE.partition("| what | held by |")[2].partition("\n\n")[0].splitlines()[2:]
    pointers = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)

    assert len(table) >= 8
    assert all("tests/" in row for row in table)
    for file, name in pointers:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not name or re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), name


def test_every_name_of_the_helper_is_in_the_table() -> None:
    table = PAGE.partition("| name | what it is |")[2].partition("\n\n")[0]
    for name in ("read", "latest"):
        assert f"`{name}(" in table
        assert callable(getattr(subscriber, name))
    named = {*re.findall(r"`event\.(\w+)", table)}
    public = {name for name in vars(StatusEvent) if isinstance(vars(StatusEvent)[name], property)}
    assert named == {*public, "identity", "settled"}
    assert all(hasattr(StatusEvent, name) for name in named)


def test_the_hour_that_comes_twice_is_read_as_the_page_says() -> None:
    rows = re.findall(r"^\| .* \| ([\d:]+) \| `([^`]+)` \| `([^`]+)`", PAGE, re.MULTILINE)

    assert len(rows) == 2
    for clock, raw_time, changed_at in rows:
        written = parse_time(raw_time, ZoneInfo("Europe/Kyiv"))
        happened = datetime.fromisoformat(f"2026-10-25T{clock}Z")
        assert written == datetime.fromisoformat(changed_at)
        assert written in {happened, happened - timedelta(hours=1)}


# --- a stream ----------------------------------------------------------------------------


def messages(count: int) -> list[Message]:
    """Some states of each message, a tenth of them twice, in no order at all."""
    draw = random.Random(7)
    route = Route("main", "urn:example:sms:main", UTC, "s", "r", "com.example", "structured")
    made = [
        status_message(
            route, State(f"{number:04}", word, {}, {}, draw.choice(TIMES), {}), later(draw)
        )
        for number in range(count)
        for word in draw.sample([*MEANINGS, "blocked"], 4)
    ]
    mixed = [*made, *draw.sample(made, len(made) // 10)]
    draw.shuffle(mixed)
    return mixed


def later(draw: random.Random) -> datetime:
    return AT + timedelta(seconds=draw.randint(0, 60))


def events(made: Sequence[Message]) -> list[StatusEvent]:
    found = [read(message.value, message.headers) for message in made]
    return [event for event in found if isinstance(event, StatusEvent)]


def expected(found: Sequence[StatusEvent]) -> Rows:
    """The id of each message's latest state, by the helper."""
    table: dict[tuple[str, str], StatusEvent] = {}
    for event in found:
        table[event.message] = latest(table.get(event.message), event)
    return {message: event.id for message, event in table.items()}


# --- Python ------------------------------------------------------------------------------


def test_the_python_keeps_the_latest_status(capsys: pytest.CaptureFixture[str]) -> None:
    made = messages(50)
    (code,) = blocks("python", "In Python")
    namespace: dict[str, Any] = {}
    exec(compile(code, "subscribers.md", "exec"), namespace)

    for message in made:
        namespace["take"](message.value, message.headers)
    namespace["take"](b"something else", [])

    kept = {message: event.id for message, event in namespace["table"].items()}
    assert kept == expected(events(made))
    assert "passed over: the value is not JSON" in capsys.readouterr().out


# --- SQL ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with skipped_without("PostgreSQL", PostgresUnavailableError), new_postgres() as made:
        yield made


CREATE, UPSERT, JOIN = blocks("sql", "In SQL")


def upserts(found: Sequence[StatusEvent]) -> Iterator[str]:
    for event in found:
        values = {name: event.data[name] for name in FIELDS}
        keys = {"source": event.source, "id_sms": event.id_sms, "event_id": event.id}
        yield bound(UPSERT, keys | values)


@pytest.mark.parametrize("seed", range(3))
def test_the_upsert_is_the_rule(postgres: Postgres, seed: int) -> None:
    found = events(messages(150))
    random.Random(seed).shuffle(found)

    rows = postgres.rows(CREATE, *upserts(found), "SELECT source, id_sms, event_id FROM sms_status")

    assert {(source, id_sms): event_id for source, id_sms, event_id in rows} == expected(found)


def test_the_ladder_of_states_is_climbed_in_sql(postgres: Postgres) -> None:
    """Every two rungs, in either order: the higher one stands."""
    ladder = json.loads((ROOT / "docs/examples/latest_status.json").read_text("utf-8"))
    statements, higher = [CREATE], {}
    for low, high in combinations(ladder, 2):
        for order in ((low, high), (high, low)):
            source = f"{order[0]['id']} {order[1]['id']}"
            higher[source] = high["id"]
            statements += [bound(UPSERT, of_rung(row) | {"source": source}) for row in order]

    rows = postgres.rows(*statements, "SELECT source, event_id FROM sms_status")

    assert dict(rows) == higher


def of_rung(row: dict[str, Any]) -> dict[str, Any]:
    names = ("status", "final", "rank", "changed_at")
    other = {"id_sms": "7", "outcome": None, "received_at": "2026-11-23T09:15:02Z"}
    return other | {name: row[name] for name in names} | {"event_id": row["id"]}


def test_the_join_takes_either_order_and_tells_what_stands(postgres: Postgres) -> None:
    """A status without its message waits for it; a message without a status is pending."""
    route = Route("main", "urn:example:sms:main", UTC, "s", "r", "com.example", "structured")
    made = [
        status_message(route, State(id_sms, word, {}, {}, None, {}), at)
        for id_sms, word, at in (
            ("1", "read", AT),
            ("2", "deliver", AT),
            ("3", "deliver", AT + timedelta(days=1)),
        )
    ]
    message = "CREATE TABLE message (id_sms text PRIMARY KEY)"
    insert = "INSERT INTO message VALUES ('1'), ('2'), ('3'), ('4')"
    states = [*upserts(events(made))]
    join = bound(JOIN, {"source": "urn:example:sms:main", "patience": "2026-11-24T00:00:00Z"})

    assert postgres.rows(CREATE, message, *states, join) == []
    for order in ([insert, *states], [*states, insert]):
        assert sorted(postgres.rows(CREATE, message, *order, join)) == [
            ["1", "delivered", "t"],
            ["2", "delivered", "t"],
            ["3", "delivered", "f"],
            ["4", "pending", "f"],
        ]


# --- Flink -------------------------------------------------------------------------------


def flink(statements: str) -> list[list[str]]:
    """The rows of the last statement, as Flink ends with them."""
    try:
        libraries = maven_libraries("flink", FLINK / "pom.xml")
    except JarsUnavailableError as exc:
        pytest.skip(f"no Flink: {exc}")
    java = f"{os.environ['JAVA_HOME']}/bin/java" if "JAVA_HOME" in os.environ else "java"
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    done = subprocess.run(
        [java, quiet, "-Xmx512m", "-cp", f"{libraries}/*", str(FLINK / "Sql.java")],
        input=statements,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("view", "columns"),
    [
        ("sms_status_latest", "`source`, `id_sms`, `id`"),
        ("sms_status_once", "`source`, `data`.`id_sms`, `id`"),
    ],
)
def test_flink_drops_copies_and_finds_the_latest_status(
    kafka: ExternalKafka, kafka_topic: str, view: str, columns: str
) -> None:
    """The page's own statements, on a real Kafka, reading up to what the topic holds."""
    made = messages(200)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for message in made:
        producer.produce(kafka_topic, message.value, message.key, headers=list(message.headers))
    assert producer.flush(30) == 0
    statements = (
        blocks("sql", "In stream processors")[0]
        .replace("'sms.status'", f"'{kafka_topic}'")
        .replace("kafka:9092", kafka.bootstrap_servers)
        .replace("'format'", "'scan.bounded.mode' = 'latest-offset', 'format'")
    )

    rows = flink(f"{statements}SELECT {columns} FROM {view}")

    found = events(made)
    if view == "sms_status_latest":
        assert {(source, id_sms): event_id for source, id_sms, event_id in rows} == expected(found)
        assert len(rows) == 200
    else:
        assert sorted(map(tuple, rows)) == sorted({(e.source, e.id_sms, e.id) for e in found})
