"""The benchmark in short, on the in-memory broker: it runs, and what it compares with is right."""

import json
import shutil
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bodies, plot, programs, report, watched
from benchmarks.__main__ import main
from benchmarks.figures import (
    CLOSED,
    FAIR,
    FORMER,
    HOSTILE,
    OPEN_80,
    OPEN_HALF,
    PART,
    START,
    WATCHED,
    Results,
    Spread,
)
from benchmarks.load import NO_WRK, Generators
from benchmarks.programs import TOPICS, Bridge, Broker, Program
from bridge.demo.child import HOST, wait_until
from tests.support.reference import event_id
from tests.support.topics import Record, read_topic

STATES = 20
REQUEST_LINE = '"event":"request"'
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason=NO_WRK)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with programs.broker(embedded=True) as embedded:
        yield embedded


def document(states: int, number: int = 1) -> bytes:
    return bodies.document(bodies.templates(states, states)[0], bodies.prefix(1, number))


def post(program: Program, body: bytes) -> list[str]:
    """The ids that the program lists."""
    with urllib.request.urlopen(f"http://{HOST}:{program.port}/webhook", body) as answer:
        return [element.text or "" for element in ET.fromstring(answer.read()).iter("id_sms")]


def events(records: list[Record]) -> dict[str, dict[str, Any]]:
    """The events of a topic by id, less the time of receipt, which no two gateways share."""
    found = [json.loads(record.value or b"") for record in records]
    for event in found:
        received_at = event["data"].pop("received_at")
        if event["data"]["changed_at"] is None:
            assert event.pop("time") == received_at
    return {event["id"]: event for event in found}


@pytest.mark.embedded
def test_the_baseline_answers_and_publishes_as_the_bridge_does(broker: Broker) -> None:
    """From one document an independent client reads the same ids, keys, headers and fields."""
    body = document(STATES)
    sent = [(s.attrib, s.text) for s in ET.fromstring(body)]
    with (
        Bridge(broker.bootstrap_servers) as bridge,
        programs.baseline(broker.bootstrap_servers) as baseline,
    ):
        answers = [post(program, body) for program in (bridge, baseline)]
    by_bridge, by_baseline = (
        read_topic(broker.bootstrap_servers, topic, expect=STATES) for topic in TOPICS[:2]
    )

    assert answers == [[attributes["id_sms"] for attributes, _ in sent]] * 2
    assert len(by_baseline) == STATES
    assert {(r.key, r.headers, r.partition) for r in by_baseline} == {
        (r.key, r.headers, r.partition) for r in by_bridge
    }
    assert events(by_baseline) == events(by_bridge)
    assert set(events(by_baseline)) == {
        event_id(
            "urn:example:sms:main",
            a["id_sms"],
            str(text),
            a["time"],
            [(name, a[name]) for name in ("sms", "viber") if name in a],
        )
        for a, text in sent
    }


@pytest.mark.embedded
@needs_wrk
def test_every_state_that_a_generator_counts_has_an_id_of_its_own(broker: Broker) -> None:
    """Both generators: as many different events as states, and none of them suppressed."""
    states = 5  # more than the in-memory broker keeps would be posted in a second with 10
    generators = Generators(broker)
    try:
        with Bridge(broker.bootstrap_servers) as bridge:
            before = read_ids(broker)
            closed = generators.closed([bridge], states, 1)
            opened = generators.open(bridge, states, 20, 1, listed=states)
            posted = [ids for ids in read_ids(broker) if ids not in set(before)]
    finally:
        generators.close()

    assert closed.requests > 0
    assert (closed.refused, closed.broken, opened.failed) == (0, 0, 0)
    assert len(opened.latencies_ms) == 20
    assert len(posted) == len(set(posted))
    # What wrk has begun when its time is over is published and not counted.
    assert 0 <= len(posted) - states * (closed.requests + 20) <= states * 64


def read_ids(broker: Broker) -> list[bytes]:
    return [record.key or b"" for record in read_topic(broker.bootstrap_servers, TOPICS[0])]


def test_documents_of_a_template_differ_in_their_ids_alone() -> None:
    """So that their length is known before them, and every request is as hard as the others."""
    first, second = document(STATES, 1), document(STATES, 2)
    (template,) = bodies.templates(STATES, STATES)[:1]

    ids = [[s.attrib["id_sms"] for s in ET.fromstring(body)] for body in (first, second)]
    assert len({*ids[0], *ids[1]}) == 2 * STATES
    assert all(int(id_sms) < 2**53 for id_sms in ids[0])
    assert len(first) == len(second) == bodies.document_bytes(template)


@pytest.mark.embedded
@needs_wrk
def test_a_short_run_measures_prints_and_draws_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    arguments = ["--embedded", "--rounds", "1", "--seconds", "0.5", "--states", "10"]
    main([*arguments, "--only", "load,start", "--output", str(output), "--against", "HEAD"])

    results = Results.read(output)
    for name in ("bridge", FORMER, "baseline", "tuned", "constant"):
        assert results.median(CLOSED, name, 10, "states_per_second")
        assert results.median(CLOSED, name, 10, "failed") == 0
        assert results.median(OPEN_80, name, 10, "p99_ms")
    assert results.median(OPEN_HALF, "bridge", 10, "p99_ms")
    assert results.median(PART, "parse", 10, "cpu_us")
    assert results.median(PART, "publish", 10, "cpu_us")
    assert results.median(START, "bridge", 0, "livez_ms")
    assert ET.fromstring(plot.draw(results)).tag.endswith("svg")
    printed = capsys.readouterr().out
    assert "in-memory broker" in printed
    assert "states/s, bridge to its former commit" in printed
    assert "exec to `/livez`, of the imports alone" in printed


def requests_counted(bridge: Bridge) -> float:
    with urllib.request.urlopen(bridge.livez.replace("/livez", "/metrics")) as answer:
        samples = [line.split() for line in answer.read().decode().splitlines()]
    return sum(float(s[-1]) for s in samples if s[0].startswith("sms_bridge_requests_total"))


@pytest.mark.embedded
def test_what_is_watched_less_and_more_is_the_same_gateway(broker: Broker) -> None:
    """Each answers and publishes; what is off is off, and what is on is on."""
    body = document(STATES, number=77)
    with watched.bridges(broker.bootstrap_servers, None) as bridges:
        answers = {name: post(bridge, body) for name, bridge in bridges.items()}
        counted = {name: requests_counted(bridge) for name, bridge in bridges.items()}
        lines = {
            name: wait_for_lines(bridge) if name in watched.LOGGED else bridge.output
            for name, bridge in bridges.items()
        }

    assert set(answers) == {watched.OFF, watched.METRICS, *watched.LOGGED}
    assert {tuple(ids) for ids in answers.values()} == {
        tuple(state.attrib["id_sms"] for state in ET.fromstring(body))
    }
    assert counted == {name: float(name != watched.OFF) for name in bridges}
    assert [name for name in bridges if REQUEST_LINE in lines[name]] == [*watched.LOGGED]
    assert "trace_id" not in lines[watched.USUAL]
    assert "trace_id" in lines[watched.TRACED]
    assert "inspector" in lines[watched.ALL]


def wait_for_lines(bridge: Bridge) -> str:
    wait_until(lambda: REQUEST_LINE in bridge.output, "the request's line")
    return bridge.output


def test_the_cost_of_being_watched_is_a_bar_and_a_table() -> None:
    results = Results()
    for number, (off, usual) in enumerate([(100, 95), (10, 8), (50, 44)]):
        for name, rate in ((watched.OFF, off), (watched.USUAL, usual)):
            results.add(WATCHED, name, 1, number, {"states_per_second": rate, "cpu_us": 1e6 / rate})
    (bar,) = [bar for bar in report.bars(results) if bar.what.startswith("metrics and logs")]

    assert (bar.found, bar.met) == (Spread(0.8, 0.88, 0.95), False)
    (row,) = [line for line in report.lines(results) if f"| {watched.USUAL} |" in line]
    assert row.startswith(f"| 1 | {watched.USUAL} | 44 (8 to 95) | 0.88 (0.8 to 0.95) |")


def test_a_hostile_body_is_held_against_an_honest_one_of_its_size() -> None:
    results = Results()
    for name, ratios in {
        "nested": (0.1, 0.2, 3.0),
        "cut": (1.6, 1.7, 1.8),
        "bad_ids": (1.9,),
    }.items():
        for number, ratio in enumerate(ratios):
            figures = {"of_honest": ratio, "cpu_ms": 400 * ratio}
            results.add(HOSTILE, name, 0, number, figures)
    refused, full = [bar for bar in report.bars(results) if bar.found]

    assert (refused.found, refused.met) == (Spread(1.6, 1.7, 1.8), False)
    assert (full.found, full.met) == (Spread(1.9, 1.9, 1.9), True)
    rows = [line for line in report.lines(results) if line.startswith(("| bad", "| cut", "| nes"))]
    assert [row.split(" | ")[0] for row in rows] == ["| bad ids", "| cut", "| nested"]


def test_a_bar_is_held_against_the_median_of_the_ratios_within_rounds() -> None:
    """Rounds are paired: what slows a whole round down changes no ratio."""
    results = Results()
    for number, (ours, theirs) in enumerate([(360, 100), (36, 10), (1000, 1000)]):
        for name, rate in (("bridge", ours), ("baseline", theirs)):
            results.add(CLOSED, name, 100, number, {"states_per_second": rate, "cpu_us": 1})
    bar = report.bars(results)[0]

    assert bar.found == Spread(1.0, 3.6, 3.6)
    assert bar.met
    assert not report.bars(Results())[0].met


def test_the_report_takes_the_place_of_the_one_before_on_its_page(tmp_path: Path) -> None:
    page = tmp_path / "figures.md"
    shutil.copy(report.PAGE, page)
    results = Results(about={"broker": "none at all"})
    results.add(FAIR, "alone", 1, 0, {"p50_ms": 1.0, "p99_ms": 2.0, "p999_ms": 3.0})
    report.write_figures(results, page)
    once = page.read_text()
    report.write_figures(results, page)

    assert page.read_text() == once
    assert once.count("broker: none at all") == 1
    before, after = "<!-- figures: written by the benchmark -->", "<!-- end of figures -->"
    assert once.partition(before)[0] == report.PAGE.read_text().partition(before)[0]
    assert once.partition(after)[2] == report.PAGE.read_text().partition(after)[2]
