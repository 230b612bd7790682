"""The page on `find` shows what the program writes."""

import re
from datetime import UTC, datetime
from pathlib import Path

from click import unstyle

from bridge.cli.find import MISSING, as_text
from bridge.config.settings import route_of
from bridge.event import status_message
from bridge.find import Finder, Missing
from bridge.kafka.consumer import Record
from bridge.model import State
from bridge.parse import parse
from bridge.pipeline import message_for
from tests.support.settings import settings

PAGE = (Path(__file__).parents[2] / "docs/find.md").read_text("utf-8")
SETTINGS = settings()
# Channel, status, clock, when it was received, offset.
STORY = [
    ("viber", "send", "09:00:00", "09:00:03.120", 17),
    ("viber", "not_deliver", "09:05:00", "09:05:02.481", 31),
    ("sms", "deliver", "09:09:00", "09:09:02.007", 40),
    ("sms", "deliver", "09:09:00", "09:14:02.512", 47),
]


def record(channel: str, status: str, clock: str, received: str, offset: int) -> Record:
    day, route = "2026-11-23", route_of(SETTINGS, SETTINGS.endpoints[0])
    values = {channel: status}
    received_at = datetime.fromisoformat(f"{day}T{received}").replace(tzinfo=UTC)
    state = State("3234", status, values, values, f"{day} {clock}", {})
    message = status_message(route, state, received_at)
    headers = tuple(message.headers)
    return Record(message.topic, 2, offset, message.timestamp_ms, b"3234", message.value, headers)


def shown(id_sms: str) -> str:
    """What the page shows for an id."""
    command = rf"```console\n\$ sms-bridge find {id_sms}\b.*?\n(.*?)```"
    (found,) = re.findall(command, PAGE, re.DOTALL)
    return str(found)


def test_the_example_is_what_the_program_writes() -> None:
    finder = Finder(["3234"])
    for each in STORY:
        finder.take(record(*each), may_be_body=False)
    findings = finder.findings["3234"]
    letters = {("sms.status.rejected", partition): range(partition, 2) for partition in range(2)}
    findings.searched = letters | {
        ("sms.status", 2): range(1204),
        ("sms.status.rejected", 2): range(7, 9),
    }

    assert shown("3234") == unstyle(as_text(findings, SETTINGS)) + "\n"


def test_the_example_of_a_dead_letter_is_what_the_program_writes() -> None:
    body = b'<response><state id_sms="3235" time="2026-11-23 09:00:00"></state></response>'
    (state,) = parse(body, max_states=1).states
    received_at = datetime(2026, 11, 23, 9, 0, 3, 120_000, tzinfo=UTC)
    message = message_for(route_of(SETTINGS, SETTINGS.endpoints[0]), state, received_at)
    assert message is not None
    finder = Finder(["3235"])
    finder.take(
        Record(
            message.topic,
            1,
            7,
            message.timestamp_ms,
            message.key,
            message.value,
            tuple(message.headers),
        ),
        may_be_body=True,
    )
    findings = finder.findings["3235"]
    letters = {("sms.status.rejected", partition): range(2, 8) for partition in range(3)}
    findings.searched = letters | {("sms.status", 1): range(988)}

    assert shown("3235") == unstyle(as_text(findings, SETTINGS)) + "\n"


def test_the_table_of_what_is_missing_is_the_program_s() -> None:
    rows = re.findall(r"^\| (an? [^|]+) \| `(\w+)` \|", PAGE, re.MULTILINE)

    assert rows == [(MISSING[each].partition(":")[0], str(each)) for each in Missing]
