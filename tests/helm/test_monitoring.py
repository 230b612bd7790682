"""Alerts, runbook and dashboard: checked by promtool, and seen by a real Prometheus."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.observability.log_writer import MAX_WAITING_BYTES
from bridge.observability.metrics import DELAY_SECONDS
from tests.helm.alerts import answers, series
from tests.support.prometheus import (
    JOB,
    NAMESPACE,
    group,
    panels,
    rules,
)

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
NAMES = [rule["alert"] for rule in rules()]

# --- each alert, on made-up series -------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Series on which the alert keeps quiet, series on which it fires, and the labels it has."""

    quiet: list[dict[str, str]]
    firing: list[dict[str, str]]
    labels: Mapping[str, str]
    also: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # other alerts, by name


def counter(
    metric: str, *, severity: str, quiet: str = "0+0x30", firing: str = "0+1x30", **labels: str
) -> Case:
    """An alert on one counter: it stands still, it grows."""
    name = f"sms_bridge_{metric}_total"
    return Case(
        [series(name, quiet, **labels)],
        [series(name, firing, **labels)],
        {"namespace": NAMESPACE, "severity": severity} | labels,
    )


def both(metric: str, first: str, second: str, **labels: str) -> list[dict[str, str]]:
    """A gauge of two pods."""
    return [
        series(f"sms_bridge_{metric}", values, instance=pod, **labels)
        for pod, values in (("one", first), ("two", second))
    ]


def ids(*, listed: str, unlisted: str, pod: str = "one") -> list[dict[str, str]]:
    return [
        series("sms_bridge_ids_total", values, endpoint="main", listed=word, instance=pod)
        for word, values in (("yes", listed), ("no", unlisted))
    ]


def rebuilds(values: str, *, pod: str) -> dict[str, str]:
    name = "sms_bridge_producer_rebuilds_total"
    return series(name, values, cause="not_leader", instance=pod)


def restarts(values: str) -> dict[str, str]:
    return series("sms_bridge_process_restarts_total", values, cause="killed")


def posts(*, taken: str, overloaded: str) -> list[dict[str, str]]:
    """Answers of one endpoint: 200, and 503 for too much in flight."""
    requests = "sms_bridge_requests_total"
    return [
        series(requests, taken, endpoint="main", code="200"),
        series(requests, overloaded, endpoint="main", code="503"),
        series("sms_bridge_overloaded_total", overloaded, endpoint="main"),
    ]


def answered(codes: Mapping[str, str], endpoint: str = "main") -> list[dict[str, str]]:
    return [series(REQUESTS, values, endpoint=endpoint, code=c) for c, values in codes.items()]


def refused(values: str, **labels: str) -> list[dict[str, str]]:
    return [series("sms_bridge_refused_total", values, **labels)]


def valid(values: str, **labels: str) -> list[dict[str, str]]:
    return [series("sms_bridge_valid_documents_total", values, **labels)]


def delays(states: Mapping[str, str], endpoint: str = "main") -> list[dict[str, str]]:
    """States by the upper bound of their bucket, of which each series holds those below it too."""
    found = []
    for bound in [*map(str, DELAY_SECONDS), "+Inf"]:
        within = [values for upper, values in states.items() if float(upper) <= float(bound)]
        for number, values in enumerate(within or ["0x60"]):
            pod = f"pod-{number}"
            name = "sms_bridge_receipt_delay_seconds_bucket"
            found.append(series(name, values, endpoint=endpoint, le=bound, instance=pod))
    return found


REQUESTS = "sms_bridge_requests_total"
WARNING = {"namespace": NAMESPACE, "severity": "warning"}
CRITICAL = {"namespace": NAMESPACE, "severity": "critical"}
MAIN = {"endpoint": "main"}
CASES: dict[str, Case] = {
    "SmsBridgeDown": Case(
        [series("up", "1x30"), series("up", "0x30", instance="two")],
        [series("up", "0x30"), series("up", "0x30", instance="two")],
        CRITICAL,
    ),
    "SmsBridgeNotReady": Case(
        both("ready", "1x30", "0x30"), both("ready", "0x30", "0x30"), CRITICAL
    ),
    # One pod of two is well in either case: the share is of both.
    "SmsBridgeNotAcknowledging": Case(
        [
            *ids(listed="0+100x30", unlisted="0+1x30"),
            *ids(listed="0+100x30", unlisted="0+0x30", pod="two"),
        ],
        [
            *ids(listed="0+100x30", unlisted="0+5x30"),
            *ids(listed="0+100x30", unlisted="0+0x30", pod="two"),
        ],
        CRITICAL | MAIN,
    ),
    # A valid document at another pod; strays; what carries no status, for ever.
    "SmsBridgeAllRefused": Case(
        [
            *refused("0+9x30", endpoint="main", reason="credentials"),
            *valid("0+1x30", endpoint="main", instance="two"),
            *refused("0x15 1x4 2x15", endpoint="quiet", reason="not_xml"),
            *refused("0+9x30", endpoint="tried", reason="method"),
            *refused("0+9x30", endpoint="tried", reason="empty"),
        ],
        [
            *refused("0x9 0+1x20", endpoint="main", reason="credentials"),
            *refused("0+9x30", endpoint="main", reason="method"),
            *valid("0+7x9 63x30", endpoint="main"),
            *valid("0+7x30", endpoint="other"),
        ],
        CRITICAL | MAIN | {"reason": "credentials"},
    ),
    "SmsBridgeSilent": Case(
        [
            *valid("0+1x30", endpoint="main"),
            *valid("0x30", endpoint="never"),
            *valid("0+1x3 3x30", endpoint="two pods"),
            *valid("0x20 0+1x10", endpoint="two pods", instance="two"),
        ],
        # Its pods have been replaced since, and it is not all that there is.
        [
            *valid("0+1x3 3x3", endpoint="main"),
            *valid("_x6 0x24", endpoint="main", instance="two"),
            *valid("0+1x30", endpoint="other"),
        ],
        {"namespace": NAMESPACE, "severity": "warning"} | MAIN,
    ),
    "SmsBridgeKafkaDown": Case(
        both("kafka_up", "1x30", "0x30"), both("kafka_up", "0x30", "0x30"), CRITICAL
    ),
    "SmsBridgeLostRecords": counter("lost_records", severity="critical"),
    "SmsBridgeProducerNotConnected": Case(
        both("producer_state", "0x30", "0x30", state="replacing"),
        both("producer_state", "0x30", "1x30", state="replacing"),
        {"job": JOB, "namespace": NAMESPACE, "instance": "two", "severity": "warning"},
    ),
    # Once in each of many pods, as with a broker's restart, is not again and again.
    "SmsBridgeProcessRestarts": Case(
        [restarts("0x15 1x15")],
        [restarts("0x15 1 2 3 4 5x11")],
        {"namespace": NAMESPACE, "severity": "warning", "cause": "killed"},
    ),
    "SmsBridgeProducerRebuilds": Case(
        [rebuilds("0x15 1x15", pod=f"pod-{n}") for n in range(8)],
        [rebuilds("0x15 1 2 3 4 5x11", pod="pod-1"), rebuilds("0x15 1x15", pod="pod-2")],
        {"namespace": NAMESPACE, "severity": "warning", "cause": "not_leader"},
    ),
    "SmsBridgeSlow": Case(
        answers(fast="0+1000x30", slow="0+1001x30"),
        answers(fast="0+1000x30", slow="0+1100x30"),
        {"namespace": NAMESPACE, "severity": "warning"} | MAIN,
    ),
    "SmsBridgeSaturated": Case(
        posts(taken="0+1000x30", overloaded="0+1x30"),
        posts(taken="0+1000x30", overloaded="0+20x30"),
        CRITICAL | MAIN,
    ),
    # An hour's one document with its five attempts, seconds apart; one in two hundred.
    "SmsBridgeUnauthorised": Case(
        [
            series(REQUESTS, "0x10 3x20", code="401", endpoint="quiet"),
            *answered({"200": "0+199x30", "401": "0+1x30"}),
        ],
        answered({"200": "0+9x30", "401": "0x5 5x25"}),
        WARNING | MAIN | {"code": "401"},
    ),
    "SmsBridgeRefusing": Case(
        [
            series(REQUESTS, "0x10 3x20", code="400", endpoint="quiet"),
            *answered({"200": "0+199x30", "413": "0+1x30"}),
            series(REQUESTS, "0+1x30", endpoint="-", code="404"),
        ],
        answered({"200": "0+9x30", "413": "0x5 5x25"}),
        WARNING | MAIN | {"code": "413"},
    ),
    # A burst to paths that are no endpoints; three alone.
    "SmsBridgeMostRefused": Case(
        [
            *answered({"404": "0x16 500x20"}, "-"),
            series(REQUESTS, "0x22 3x8", endpoint="few", code="413"),
        ],
        [
            *answered({"200": "0+1x30", "401": "0+19x30"}),
            *answered({"200": "0+100x30"}, "other"),
        ],
        CRITICAL | MAIN,
        also={"SmsBridgeUnauthorised": WARNING | MAIN | {"code": "401"}},
    ),
    "SmsBridgeFaults": Case(
        [series("sms_bridge_requests_total", "0x30", code="500", **MAIN)],
        [series("sms_bridge_requests_total", "0+1x30", code="500", **MAIN)],
        CRITICAL | MAIN,
    ),
    "SmsBridgeDeadLetters": counter(
        "dead_letters", severity="warning", endpoint="main", reason="not_xml"
    ),
    "SmsBridgeLostBodies": counter("lost_bodies", severity="warning", endpoint="main"),
    "SmsBridgeLogLinesDropped": counter("dropped_log_lines", severity="warning"),
    "SmsBridgeReloadRefused": Case(
        both("config_last_reload_successful", "1x30", "1x10 0x2 1x18"),
        both("config_last_reload_successful", "1x30", "1x10 0x20"),
        {"namespace": NAMESPACE, "severity": "warning"},
    ),
    "SmsBridgeWrongTimes": Case(
        [
            series("sms_bridge_unreadable_times_total", "0x30", **MAIN),
            series("sms_bridge_future_times_total", "7x30", **MAIN),
        ],
        [
            series("sms_bridge_unreadable_times_total", "0x30", **MAIN),
            series("sms_bridge_future_times_total", "0+1x30", **MAIN),
        ],
        {"namespace": NAMESPACE, "severity": "warning"} | MAIN,
    ),
    # Some are late, and an endpoint with a few; a time zone that is an hour too far east.
    "SmsBridgeLate": Case(
        [
            *delays({"5.0": "0+6x30", "3600.0": "0+5x30"}),
            *delays({"9000.0": "0x15 1x5 2x5 3x20"}, endpoint="few"),
        ],
        delays({"-600.0": "0+1x30", "5400.0": "0+8x30"}),
        {"namespace": NAMESPACE, "severity": "warning"} | MAIN,
    ),
    # A word's series begins with its first state, of which no increase can tell.
    "SmsBridgeUnknownStatuses": Case(
        [
            series("sms_bridge_unknown_statuses_total", "0x30", **MAIN, status="other"),
            series("sms_bridge_unknown_statuses_total", "1x30", **MAIN, status="teleported"),
        ],
        [series("sms_bridge_unknown_statuses_total", "_x19 1x10", **MAIN, status="teleported")],
        {"namespace": NAMESPACE, "severity": "info", "status": "teleported"} | MAIN,
    ),
}
# Of each kind of code, the alert it is for.
CODES = {
    "400": "SmsBridgeRefusing",
    "401": "SmsBridgeUnauthorised",
    "403": "SmsBridgeUnauthorised",
    "404": "SmsBridgeRefusing",
    "405": "SmsBridgeRefusing",
    "413": "SmsBridgeRefusing",
}


def alerts_at(
    inputs: list[dict[str, str]], expected: Sequence[tuple[str, Mapping[str, str]]]
) -> Any:
    """One of promtool's tests: after 25 minutes just these alerts fire."""
    samples = []
    for name, labels in expected:
        every = {"alertname": name, "alertstate": "firing", **labels}
        text = ", ".join(f'{key}="{value}"' for key, value in sorted(every.items()))
        samples.append({"labels": f"ALERTS{{{text}}}", "value": 1})
    query = 'ALERTS{alertstate="firing"}'
    return {
        "interval": "1m",
        "input_series": inputs,
        "promql_expr_test": [{"expr": query, "eval_time": "25m", "exp_samples": samples}],
    }


def run_promtool(promtool: str, *arguments: str, directory: Path) -> str:
    done = subprocess.run(
        [promtool, *arguments], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_cases(promtool: str, directory: Path, *tests: Any) -> None:
    (directory / "rules.yaml").write_text(group(rules()))
    whole = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": list(tests)}
    (directory / "tests.yaml").write_text(yaml.safe_dump(whole))
    run_promtool(promtool, "test", "rules", "tests.yaml", directory=directory)


def test_promtool_finds_nothing_wrong(promtool: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(group(rules()))
    said = run_promtool(promtool, "check", "rules", "rules.yaml", directory=tmp_path)
    assert f"SUCCESS: {len(NAMES)} rules found" in said


def test_every_alert_has_a_case() -> None:
    assert [*CASES] == NAMES


# Whatever is asked about one alert, a pod that is up keeps the first one quiet.
UP = series("up", "1x30")


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_must_and_no_other_does(
    name: str, promtool: str, tmp_path: Path
) -> None:
    case = CASES[name]
    up = [] if name == "SmsBridgeDown" else [UP]
    check_cases(
        promtool,
        tmp_path,
        alerts_at([*up, *case.quiet], []),
        alerts_at([*up, *case.firing], [(name, case.labels), *case.also.items()]),
    )


@pytest.mark.parametrize("share", [0.02, 0.8, 1])
@pytest.mark.parametrize("code", CODES)
def test_codes_have_their_alert(code: str, share: float, promtool: str, tmp_path: Path) -> None:
    """A warning from one post in a hundred on, critical where it is nearly all; GETs are none."""
    endpoint = "-" if code == "404" else "main"
    labels = {"endpoint": endpoint, "code": code}
    inputs = [
        *answered({code: f"0+{100 * share:g}x30"}, endpoint),
        *answered({"200": f"0+{100 - 100 * share:g}x30"}),
    ]
    expected = [(CODES[code], WARNING | labels)]
    if share == 1 and code != "405":
        expected.append(("SmsBridgeMostRefused", CRITICAL | {"endpoint": endpoint}))
    check_cases(promtool, tmp_path, alerts_at([UP, *inputs], expected))


def test_all_is_refused_though_the_reason_changes(promtool: str, tmp_path: Path) -> None:
    """No reason alone lasts for ten minutes; and the words that come too are counted on."""
    reasons = {"credentials": "0x9 0+1x3 3x20", "not_xml": "0x13 0+1x3 3x20", "left": "0x17 0+1x20"}
    inputs = [UP, *valid("7x30", **MAIN)]
    for reason, values in reasons.items():
        inputs += refused(values, **MAIN, reason=reason)
    expected = [("SmsBridgeAllRefused", CRITICAL | MAIN | {"reason": r}) for r in reasons]
    check_cases(promtool, tmp_path, alerts_at(inputs, expected[:2]))


def test_more_of_an_unknown_word_is_an_alert_too(promtool: str, tmp_path: Path) -> None:
    labels = MAIN | {"status": "other"}
    growing = series("sms_bridge_unknown_statuses_total", "0+1x30", **labels)
    expected = {"namespace": NAMESPACE, "severity": "info", **labels}
    name = "SmsBridgeUnknownStatuses"
    check_cases(promtool, tmp_path, alerts_at([UP, growing], [(name, expected)]))


def test_a_burst_to_paths_that_are_no_endpoints_is_no_alert(promtool: str, tmp_path: Path) -> None:
    """Scanners come and go; what lasts for ten minutes is somebody's wrong URL or check."""
    tests = []
    for code in ("404", "405"):
        burst = series(REQUESTS, "0x16 500x20", endpoint="-", code=code)
        tests.append(alerts_at([UP, burst], []))
    check_cases(promtool, tmp_path, *tests)


def test_no_traffic_is_no_alert(promtool: str, tmp_path: Path) -> None:
    """Every series at rest, of one pod that has run for long and of one that has just begun."""
    inputs = [UP]
    for case in CASES.values():
        for at_rest in case.firing:
            name = at_rest["series"]
            if "_total{" in name or "_bucket{" in name:
                other = name.replace('instance="one"', 'instance="two"')
                inputs.append({"series": name, "values": "7x30"})
                inputs.append({"series": other, "values": "_x15 0x15"})
    unique = {each["series"]: each for each in inputs}
    check_cases(promtool, tmp_path, alerts_at([*unique.values()], []))


@pytest.mark.parametrize(("labels", "name"), [({"pod": "bridge-1"}, "bridge-1"), ({}, "one")])
def test_the_pod_is_named_where_prometheus_knows_it(
    labels: dict[str, str], name: str, promtool: str, tmp_path: Path
) -> None:
    """Its log is the next step, and an address leads to none."""
    alert = "SmsBridgeProducerNotConnected"
    (rule,) = [rule for rule in rules() if rule["alert"] == alert]
    state = labels | {"state": "replacing"}
    expected = {
        "exp_labels": {**CASES[alert].labels, "instance": "one", **labels},
        "exp_annotations": rule["annotations"] | {"summary": f"{name} has no producer."},
    }
    test = {
        "interval": "1m",
        "input_series": [UP, series("sms_bridge_producer_state", "1x30", **state)],
        "alert_rule_test": [{"eval_time": "25m", "alertname": alert, "exp_alerts": [expected]}],
    }
    check_cases(promtool, tmp_path, test)


def test_no_pod_at_all_is_an_alert_too(promtool: str, tmp_path: Path) -> None:
    check_cases(
        promtool, tmp_path, alerts_at([], [("SmsBridgeDown", CASES["SmsBridgeDown"].labels)])
    )


def test_the_share_of_ids_is_0_without_traffic_and_nothing_without_pods(
    promtool: str, tmp_path: Path
) -> None:
    """A dead gateway must not look as if all were taken."""
    (query,) = next(p.queries for p in panels() if p.title == "Ids not acknowledged")
    tests = [
        {
            "interval": "1m",
            "input_series": inputs,
            "promql_expr_test": [{"expr": query, "eval_time": "25m", "exp_samples": samples}],
        }
        for inputs, samples in (
            (ids(listed="7x30", unlisted="0x30"), [{"labels": "{}", "value": 0}]),
            ([], []),
        )
    ]
    check_cases(promtool, tmp_path, *tests)


# --- the runbook -------------------------------------------------------------------------


def sections() -> dict[str, str]:
    _, *parts = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)
    return {part.split("\n", 1)[0]: part for part in parts}


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    assert [*sections()] == NAMES


@pytest.mark.parametrize("rule", rules(), ids=NAMES)
def test_an_alert_leads_to_its_section(rule: dict[str, Any]) -> None:
    """Its anchor is the heading in lower case; the section says all three things."""
    section = sections()[rule["alert"]]
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
    assert re.findall(r"^\*\*(.+?)\*\*", section, re.MULTILINE) == ["Means", "Look at", "Do"]


def test_the_runbook_calls_panels_by_their_titles() -> None:
    """Text in italics is a panel of the dashboard."""
    titles = {panel.title.lower() for panel in panels()}
    named = re.findall(r"(?<![*\w])\*(?!\*)([^*]+)\*(?!\*)", RUNBOOK)
    assert named
    assert {" ".join(name.lower().split()) for name in named} <= titles


def test_the_numbers_of_the_runbook_are_the_program_s() -> None:
    assert f"({MAX_WAITING_BYTES // 1024**2} MiB\nof lines wait)" in RUNBOOK
