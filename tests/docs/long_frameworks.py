"""What `make frameworks` runs besides: it takes long to build, or to fetch."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.test_frameworks import (
    PAGE,
    SECONDS,
    log,
    postgres,
    standing,
    test_a_service_keeps_every_field_and_loses_nothing_to_foreign_records_and_faults,
)
from tests.subscribers.frameworks import LONG, environment, framework
from tests.subscribers.kept import Log
from tests.subscribers.programs import RuntimeUnavailableError
from tests.support.brokers import ExternalKafka
from tests.support.needs import skipped_without
from tests.support.topics import read_topic

__all__ = [
    "log",
    "postgres",
    "test_a_service_keeps_every_field_and_loses_nothing_to_foreign_records_and_faults",
]

HERE = Path(__file__).parent


@pytest.fixture(params=LONG)
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, tuple[str, ...]]:
    """A framework, and the command of its program."""
    with skipped_without(request.param, RuntimeUnavailableError):
        return request.param, framework(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def clickhouse() -> str:
    """A Python that has ClickHouse in it."""
    with skipped_without("ClickHouse", RuntimeUnavailableError):
        return str(environment("example-clickhouse", ["chdb==4.4.0"]) / "bin/python")


def test_clickhouse_has_the_latest_status(kafka: ExternalKafka, log: Log, clickhouse: str) -> None:
    """Of the structured records; the others, and what is no state, it passes over.

    ClickHouse within Python cannot consume: the test brings what the Kafka engine would.
    """
    (block,) = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    engine, *statements = filter(None, map(str.strip, block.split(";")))
    records = read_topic(kafka.bootstrap_servers, log.topic, foreign=True)
    queue = re.sub(r"ENGINE = Kafka.*", "ENGINE = Null", engine, flags=re.DOTALL)
    given = {
        "statements": [queue, *statements],
        "values": [(record.value or b"").decode(errors="replace") for record in records],
        "query": "SELECT * FROM sms_latest",
    }
    done = subprocess.run(
        [clickhouse, str(HERE / "clickhouse.py")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr

    rows = [json.loads(line) for line in done.stdout.splitlines()]

    assert {(row["source"], row["id_sms"]): row["status"] for row in rows} == {
        message: log.structured[message[0], event_id]["status"]
        for message, event_id in standing(log).items()
    }
