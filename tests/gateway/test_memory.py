"""What documents cost in memory: never more than admission counts, nor than the chart allows."""

import json
import re
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pytest
import yaml

from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.errors import DocumentError
from bridge.gateway.admission import SMALL_BYTES
from bridge.pipeline import prepare
from tests.gateway.test_endurance import ROUTE
from tests.support.gateway import Gateway, configuration

MIB = 2**20
LARGE_BYTES = 4 * MIB  # the shipped `max_body_bytes`
SENDERS = 12
PUBLISH_SECONDS = 2.0  # each shape waits so long for Kafka
SAMPLE_SECONDS = 0.02
TIME = 'time="2011-01-01 12:57:46"'


def document(states: Iterator[str], size: int = LARGE_BYTES) -> bytes:
    """As many of the states as fit."""
    left = size - len("<response></response>")
    taken = []
    for state in states:
        left -= len(state.encode())
        if left < 0:
            break
        taken.append(state)
    return f"<response>{''.join(taken)}</response>".encode()


def in_json(states: Iterable[Mapping[str, object]]) -> bytes:
    body = json.dumps(list(states), separators=(",", ":")).encode()
    assert len(body) <= LARGE_BYTES, len(body)
    return body


def with_attributes(count: int, value: str, states: int) -> Iterator[str]:
    """States of so many attributes beside the id; the value is followed by its number."""
    for number in range(states):
        attributes = " ".join(f'a{n:02}="{value}{n:02}"' for n in range(count))
        yield f'<state id_sms="{number:08}" {attributes}>read</state>'


# The worst that the limits of parse/ let pass: each document is a valid one.
WORST: Mapping[str, Callable[[], bytes]] = {
    "63 attributes": lambda: document(with_attributes(63, "12345", 3900)),
    "22 attributes": lambda: document(with_attributes(22, "1234567", 10_000)),
    "long ids": lambda: document(
        f'<state id_sms="{n:064}" {TIME} sms="read" viber="{n:064}">read</state>'
        for n in range(10_000)
    ),
    "long values": lambda: document(with_attributes(60, "\U0001f600" + "v" * 4000, 99)),
    "most states": lambda: document(f'<state id_sms="{n:x}">read</state>' for n in range(99_999)),
    "invalid states": lambda: document(
        f'<state id_sms="{n}" a="1" b="2" c="3">%</state>' for n in range(10_000)
    ),
    "states with children": lambda: document(
        f'<state id_sms="{n}" a="1">%<a>{n:020}</a></state>' for n in range(10_000)
    ),
    "63 fields": lambda: in_json(
        {"id_sms": f"{n:08}", "state": "read"} | {f"a{a:02}": f"12345{a:02}" for a in range(62)}
        for n in range(3900)
    ),
    "most objects": lambda: in_json({"id_sms": f"{n:x}", "state": "read"} for n in range(99_998)),
    "objects within": lambda: in_json(
        {"id_sms": str(n), "state": "read", "a": [], "b": "2", "c": "3"} for n in range(10_000)
    ),
    "numbers within": lambda: in_json(
        [{"id_sms": "1", "state": "read", "a": list(range(100_000, 349_990))}]
    ),
}


def small() -> bytes:
    """A document that is read at once, and heavy all the same."""
    return document(with_attributes(63, "", 100), SMALL_BYTES)


class Peak:
    """The most memory that a process has held, also where the kernel keeps no account of it."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            found = re.findall(r"Vm(?:RSS|HWM):\s+(\d+) kB", self._status.read_text())
            self.bytes = max(self.bytes, *(int(kib) * 1024 for kib in found))


def chart_limit() -> int:
    """The memory that the chart allows a pod by default."""
    values = yaml.safe_load((Path(__file__).parents[2] / "helm" / "values.yaml").read_text())
    found = re.fullmatch(r"(\d+)Mi", values["resources"]["limits"]["memory"])
    assert found is not None
    return int(found[1]) * MIB


def post_all(gateway: Gateway, bodies: Sequence[bytes]) -> list[int]:
    with ThreadPoolExecutor(len(bodies)) as senders:
        return [answer.status for answer in senders.map(gateway.post, bodies)]


@pytest.mark.parametrize("content_mode", ["structured", "binary"])
def test_the_worst_documents_stay_under_the_chart_s_limit_with_kafka_away(
    new_embedded: type[EmbeddedBroker], content_mode: str, topic: str
) -> None:
    """Twelve senders at once, a shape after the other, and nothing can be given to Kafka."""
    with new_embedded(topic, f"{topic}.rejected") as broker:
        config = configuration(broker.bootstrap_servers, topic)
        config["events"]["content_mode"] = content_mode
        config["kafka"]["publish_timeout_seconds"] = PUBLISH_SECONDS
        with Gateway(config) as gateway:
            broker.freeze()
            with Peak(gateway.process.pid) as peak:
                for make in WORST.values():
                    assert set(post_all(gateway, [make()] * SENDERS)) == {503}
                assert set(post_all(gateway, [small()] * 300)) == {503}
            broker.thaw()
    sys.stderr.write(f"{content_mode}: peak {peak.bytes // MIB} MiB\n")
    assert 40 * MIB < peak.bytes < chart_limit()


@pytest.mark.parametrize("body", [b"<response><state", b"<response><a></response>"])
def test_a_refusal_holds_nothing_of_what_was_read(body: bytes) -> None:
    """It outlives its request's reading: dead letters wait for Kafka, the inspector keeps them."""
    with pytest.raises(DocumentError) as raised:
        prepare(ROUTE, body, datetime.now(UTC), max_states=10)

    error = raised.value
    assert error.__context__ is None
    assert error.__cause__ is None
    assert {Path(entry.path).name for entry in raised.traceback[1:]} == {"pipeline.py"}


def test_a_record_holds_its_own_bytes_and_no_more() -> None:
    """The buffer that JSON is written to is many times as large."""
    body = document(with_attributes(3, "1234", 1000))
    prepare(ROUTE, body, datetime.now(UTC), max_states=1000)
    tracemalloc.start()
    try:
        prepared = prepare(ROUTE, body, datetime.now(UTC), max_states=1000)
        written = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(inclusive=True, filename_pattern="*/bridge/event.py")]
        )
    finally:
        tracemalloc.stop()
    values = sum(len(item.message.value) for item in prepared.items if item.message is not None)
    held = sum(trace.size for trace in written.traces)
    assert values < held < 2 * values
