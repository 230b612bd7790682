"""The peers of the benchmark: each does what is compared, and no more than its row says."""

import json
import shutil
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.bodies import document, prefix, templates
from benchmarks.figures import PEERS as CLOSED
from benchmarks.figures import PEERS_OPEN, Results
from benchmarks.load import NO_WRK
from benchmarks.peers import gateways, report
from benchmarks.peers.programs import PEERS, Peer, PeerUnavailableError, Running
from benchmarks.programs import Program
from tests.support.brokers import ExternalKafka
from tests.support.needs import skipped_without
from tests.support.topics import read_topic

NO, BYTES = "no", "bytes"
MEGABYTE = 2**20
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason=NO_WRK)


@dataclass(frozen=True, slots=True)
class Served:
    """A peer that runs, and the topic that it has to itself."""

    peer: Peer
    program: Program
    servers: str
    topic: str


@pytest.fixture(scope="module", params=PEERS, ids=[peer.name for peer in PEERS])
def peer(request: pytest.FixtureRequest, kafka: ExternalKafka) -> Iterator[Served]:
    """One after the other, on a real Kafka: it holds an idempotent producer to its sequence."""
    peer: Peer = request.param
    with skipped_without(peer.name, PeerUnavailableError):
        command = peer.build()
    topic = f"peer.{uuid.uuid4().hex[:12]}"
    kafka.create_topic(topic, 3)
    with Running(command, kafka.bootstrap_servers, topic) as program:
        yield Served(peer, program, kafka.bootstrap_servers, topic)


def test_all_that_a_peer_acknowledges_is_in_kafka_once(peer: Served) -> None:
    """Under many requests at once, each state by its key, and as an event."""
    gateways.check(peer.program, peer.servers, peer.topic)

    records = read_topic(peer.servers, peer.topic, foreign=True)
    events = [json.loads(record.value or b"") for record in records]
    assert [event["subject"].encode() for event in events] == [record.key for record in records]
    assert len({event["id"] for event in events}) == len(events)
    assert {event["type"].rpartition(".")[2] for event in events} >= {"deliver", "read", "send"}
    assert {event["data"]["status"] for event in events} >= {"deliver", "read", "send"}


def test_a_peer_has_no_more_than_its_row_says(peer: Served) -> None:
    """So that the table is fair to it: one state too large, one document twice, one too long."""
    partial, dead_letters, stable_ids, limits, _ = peer.peer.has
    body = document(templates(2, 2)[0], prefix(1, 1))
    large = body.replace(b"</response>", b'<state id_sms="1" sms="%b">read</state></response>')

    listed = gateways.listed(peer.program, large % (b"x" * (3 * MEGABYTE // 2)))
    assert (listed is None) is (partial == NO)
    before = read_topic(peer.servers, peer.topic, foreign=True)
    assert gateways.listed(peer.program, body) == gateways.listed(peer.program, body)
    ids = [
        json.loads(record.value or b"")["id"]
        for record in read_topic(peer.servers, peer.topic, foreign=True)
        if (record.partition, record.offset) not in {(r.partition, r.offset) for r in before}
    ]
    assert len(ids) == 4
    assert (len(set(ids)) == 4) is (stable_ids == NO)
    long = body.replace(b"</response>", b" " * 16 * MEGABYTE + b"</response>")
    assert (gateways.listed(peer.program, long) is None) is limits.startswith(BYTES)
    assert dead_letters == NO  # it knows of no other topic


SHORT = ("--rounds", "1", "--seconds", "1", "--only", "peers")


@pytest.mark.usefixtures("kafka")  # it starts one of its own, where that one can be had
@pytest.mark.runtimes
@needs_wrk
def test_a_short_run_measures_a_peer_beside_the_bridge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 100 states, whose answer net/http sends in chunks; all records are counted."""
    with skipped_without("go", PeerUnavailableError):
        PEERS[0].build()
    output = tmp_path / "figures.json"
    main([*SHORT, "--states", "100", "--peers", "go", "--output", str(output)])

    results = Results.read(output)
    for name in ("bridge", "go"):
        assert results.median(CLOSED, name, 100, "cpu_us")
        assert results.median(CLOSED, name, 100, "missing") == 0
        assert results.median(PEERS_OPEN, name, 100, "p99_ms")
        assert results.median(PEERS_OPEN, name, 100, "failed") == 0
    assert ET.fromstring(report.draw(results)).tag.endswith("svg")
    printed = capsys.readouterr().out
    assert "| go | net/http, encoding/xml, franz-go | no | no | no |" in printed
    assert "| acknowledged records that are missing | at most 0 | 0 (0 to 0) | met |" in printed
    assert "states per second, of the baseline's" not in printed


@pytest.mark.embedded
@needs_wrk
def test_a_peer_that_cannot_be_built_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All else is measured."""
    wrk = shutil.which("wrk")
    assert wrk is not None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/wrk").symlink_to(wrk)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    output = tmp_path / "figures.json"
    main([*SHORT, "--embedded", "--states", "10", "--peers", "go,spring", "--output", str(output)])

    results = Results.read(output)
    assert {name: why for name, why in results.about.items() if name.startswith("left out")} == {
        "left out: go": "there is no go on this machine",
        "left out: spring": "there is no mvn on this machine",
    }
    assert results.median(CLOSED, "bridge", 10, "missing") == 0
    assert results.median(PEERS_OPEN, "bridge", 10, "p99_ms")
    assert "left out: go" in capsys.readouterr().err
