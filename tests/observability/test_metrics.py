"""What is measured, and docs/metrics.md, which must say the same."""

import asyncio
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from bridge import __version__
from bridge.config.settings import Kafka
from bridge.gateway.app import Health, admin_app
from bridge.kafka import CAUSES
from bridge.kafka.supervisor import Supervisor
from bridge.model import REASONS, Message, Result
from bridge.observability.metrics import CODES, MAX_NAMED_STATUSES, EndpointMetrics, Metrics
from bridge.observability.requests import REFUSALS
from bridge.versions import VERSIONS
from tests.support.application import Gateway
from tests.support.asgi import Hang, Leave, request
from tests.support.fakes import RecordingPublisher, Verdict

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
STATES = "sms_bridge_states_total"
UNKNOWN = "sms_bridge_unknown_statuses_total"
REFUSED = "sms_bridge_refused_total"
VALID = "sms_bridge_valid_documents_total"


def document(*ids: str, time: str = "2026-01-01 12:00:00", word: str = "read") -> bytes:
    states = "".join(f'<state id_sms="{i}" time="{time}">{word}</state>' for i in ids)
    return f"<response>{states}</response>".encode()


def failing(*keys: bytes) -> RecordingPublisher:
    def decide(message: Message) -> Verdict:
        return Result.FAILED if message.key in keys else Result.PUBLISHED

    return RecordingPublisher(decide)


def value(gateway: Gateway, name: str, **labels: str) -> float:
    """A sample of the endpoint's; fails where there is no such series."""
    found = gateway.metrics.registry.get_sample_value(name, {"endpoint": "main"} | labels)
    assert found is not None, (name, labels)
    return found


# --- the table ---------------------------------------------------------------------------


def whole() -> Iterator[Metric]:
    """Every metric of a program that is put together as `serve` does it."""
    gateway = Gateway()
    supervisor = Supervisor(Kafka(), ["status"])
    gateway.metrics.watch_producer(supervisor, CAUSES)
    gateway.metrics.watch_connections("server", 1, lambda: 0)
    admin_app(gateway.metrics, gateway.health)
    return iter(text_string_to_metric_families(gateway.metrics.exposition().decode()))


def described() -> set[tuple[str, str, str, str]]:
    """Name, type, labels and meaning of each metric, as the program shows them."""
    return {
        (
            metric.name + ("_total" if metric.type == "counter" else ""),
            metric.type,
            ", ".join(dict.fromkeys(k for s in metric.samples for k in s.labels if k != "le")),
            metric.documentation,
        )
        for metric in whole()
        if metric.name.startswith("sms_bridge")
    }


def test_the_table_is_what_the_program_shows() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.+?) \|$", TABLE, re.MULTILINE)
    assert {(name, kind, labels.replace("`", ""), what) for name, kind, labels, what in rows} == {
        *described()
    }


def test_the_table_s_words_are_the_labels_values() -> None:
    """Every value of a label that is not a name of the user's own."""
    values: dict[str, set[str]] = {}
    for metric in whole():
        for sample in metric.samples:
            for label, word in sample.labels.items():
                values.setdefault(label, set()).add(word)
    for label in ("outcome", "status", "reason", "cause", "state", "listed", "result"):
        (line,) = re.findall(rf"^- `{label}`: (.+?)(?=^- `|^$)", TABLE, re.MULTILINE | re.DOTALL)
        assert set(re.findall(r"`(\w+)`", line)) == values[label], label


def test_the_names_follow_prometheus_s_rules() -> None:
    """Base units, `_total` for counters alone, one prefix."""
    for name, kind, _, what in described():
        assert re.fullmatch(r"sms_bridge_[a-z_]+", name)
        assert name.endswith("_total") == (kind == "counter")
        assert not re.search(r"_(ms|milliseconds|kb|count|sum|bucket)(_|$)", name)
        assert what.endswith(".")


def test_the_series_are_there_before_anything_happens() -> None:
    """What first appears as 1 is no increase to Prometheus."""
    gateway = Gateway()
    for code in CODES:
        assert value(gateway, "sms_bridge_requests_total", code=str(code)) == 0
    for reason in REASONS:
        assert value(gateway, "sms_bridge_dead_letters_total", reason=reason) == 0
    for reason in {*REASONS, *REFUSALS}:
        assert value(gateway, REFUSED, reason=reason) == 0
    assert value(gateway, VALID) == 0
    assert value(gateway, UNKNOWN, status="other") == 0
    assert value(gateway, STATES, status="read", outcome="unknown") == 0
    assert value(gateway, "sms_bridge_redelivery_gap_seconds_count") == 0


# --- what moves them ---------------------------------------------------------------------


async def test_states_are_counted_by_word_and_outcome() -> None:
    gateway = Gateway(failing(b"2"))
    await gateway.post(document("1", "2", "b@d"))
    await gateway.post(document("3", word="teleported"))
    assert value(gateway, STATES, status="read", outcome="published") == 1
    assert value(gateway, STATES, status="read", outcome="failed") == 1
    assert value(gateway, STATES, status="other", outcome="published") == 2
    assert value(gateway, UNKNOWN, status="teleported") == 1
    assert value(gateway, "sms_bridge_ids_total", listed="yes") == 3
    assert value(gateway, "sms_bridge_ids_total", listed="no") == 1
    assert value(gateway, "sms_bridge_dead_letters_total", reason="invalid_id") == 1


async def test_a_word_of_the_operator_s_is_counted_by_its_name() -> None:
    statuses = {"accepted": {"outcome": "pending", "final": False, "rank": 1}}
    gateway = Gateway(events={"type_prefix": "a.b", "statuses": statuses})
    assert value(gateway, STATES, status="accepted", outcome="published") == 0
    with capture_logs() as logs:
        await gateway.post(document("1", word="accepted"))
    assert value(gateway, STATES, status="accepted", outcome="published") == 1
    assert value(gateway, STATES, status="other", outcome="published") == 0
    assert [line["event"] for line in logs] == ["request"]


async def test_the_first_ten_unknown_words_of_an_endpoint_have_a_name_and_a_line_each() -> None:
    """A sender may make up any number, and `other` may be one of them."""
    gateway = Gateway(endpoints=[{}, {"name": "b", "path": "/b", "source": "urn:b"}])
    words = ["other", *(f"word_{n}" for n in range(20))]
    with capture_logs() as logs:
        for word in [*words, *words]:
            await gateway.post(document("1", "2", word=word))
        await gateway.post(document("1", word="word_15"), path="/b")
        await gateway.post(document("1", word="not a word!"))
    named = [(log["endpoint"], log["status"]) for log in logs if log["event"] == "unknown status"]
    assert named == [*(("main", word) for word in words[:MAX_NAMED_STATUSES]), ("b", "word_15")]
    for word in words[1:MAX_NAMED_STATUSES]:
        assert value(gateway, UNKNOWN, status=word) == 4
    unnamed = len(words) - MAX_NAMED_STATUSES
    assert value(gateway, UNKNOWN, status="other") == 4 * (unnamed + 1)
    (family,) = [m for m in gateway.metrics.registry.collect() if f"{m.name}_total" == UNKNOWN]
    assert len(family.samples) == MAX_NAMED_STATUSES + 2


# One request a reason, beside those of bodies and states, which dead letters count too.
REFUSED_REQUESTS: dict[str, dict[str, Any]] = {
    "method": {"method": "PUT"},
    "address": {"client": ("203.0.113.9", 1)},
    "credentials": {"query": "token=wrong"},
    "no_length": {"http_version": "1.0"},
    "compressed": {"headers": {"content-encoding": "gzip"}},
    "body_too_large": {"chunks": [b" " * 2000]},
    "body_too_slow": {"chunks": [b"<", Hang]},
    "empty": {"chunks": [b""]},
    "left": {"chunks": [b"<", Leave]},
    "not_xml": {"chunks": [b"<"]},
    "foreign": {"chunks": [b"<response><error>no login</error></response>"]},
    "invalid_id": {"chunks": [document("b@d", "b@d", "")]},
    "missing_id": {"chunks": [document("b@d", "", "")]},
}


@pytest.mark.parametrize("reason", REFUSED_REQUESTS)
async def test_a_request_without_an_event_is_refused_for_one_reason(reason: str) -> None:
    gateway = Gateway(
        endpoints=[{"auth": {"tokens": ["right"], "allow": ["127.0.0.1"]}}],
        server={"max_body_bytes": 1000, "body_timeout_seconds": 0.01},
    )
    options = {"query": "token=right"} | REFUSED_REQUESTS[reason]
    await request(gateway.app, *options.pop("chunks", [document("1")]), **options)
    assert _counted(gateway) == {reason: 1}
    assert value(gateway, VALID) == 0


async def test_a_fault_and_what_is_not_read_for_want_of_room_or_time_are_refused() -> None:
    def broken(_: Message) -> Result:
        raise LookupError("a bug")

    for reason, gateway in {
        "fault": Gateway(RecordingPublisher(broken)),
        "late": Gateway(kafka={"publish_timeout_seconds": 0.001}),
    }.items():
        await gateway.post(document(*map(str, range(1000))))
        assert _counted(gateway) == {reason: 1}


@pytest.mark.parametrize("decide", [Result.PUBLISHED, Result.FAILED, Result.UNKNOWN])
async def test_a_document_with_a_valid_state_is_not_refused_whatever_kafka_makes_of_it(
    decide: Result,
) -> None:
    gateway = Gateway(RecordingPublisher(lambda _: decide))
    await gateway.post(document("1", "b@d"))
    await gateway.post(b"<response/>")  # neither: it holds nothing
    assert value(gateway, VALID) == 1
    assert _counted(gateway) == {}


def _counted(gateway: Gateway) -> dict[str, float]:
    """Refused requests by reason."""
    (family,) = [m for m in gateway.metrics.registry.collect() if f"{m.name}_total" == REFUSED]
    return {s.labels["reason"]: s.value for s in family.samples if s.value}


async def test_sizes_and_durations_are_of_documents_that_were_read() -> None:
    gateway = Gateway()
    body = document("1", "2", "3")
    await gateway.post(body)
    await gateway.post(b"<response/>")
    await gateway.post(method="GET")
    assert value(gateway, "sms_bridge_document_states_sum") == 3
    assert value(gateway, "sms_bridge_document_bytes_sum") == len(body) + len(b"<response/>")
    assert value(gateway, "sms_bridge_request_duration_seconds_count") == 2
    assert value(gateway, "sms_bridge_publish_duration_seconds_count") == 1


@pytest.mark.parametrize(
    ("time", "unreadable", "future"),
    [
        ("2026-01-01 12:00:00", 0, 0),
        ("", 0, 0),
        ("yesterday", 1, 0),
        ("2026-02-30 12:00:00", 1, 0),
        ("2199-01-01 00:00:00", 0, 1),
    ],
)
async def test_times_that_are_none_or_far_ahead_are_counted(
    time: str, unreadable: int, future: int
) -> None:
    gateway = Gateway()
    await gateway.post(document("1", time=time))
    assert value(gateway, "sms_bridge_unreadable_times_total") == unreadable
    assert value(gateway, "sms_bridge_future_times_total") == future


@pytest.mark.parametrize("hours", [-4, -3, -2, -1, 1, 2, 3, 4])
@pytest.mark.parametrize("seconds", [0, 1700])
async def test_a_time_zone_that_is_wrong_by_hours_has_its_own_bucket(
    hours: int, seconds: int
) -> None:
    """Above 0 if the endpoint's zone is east of the provider's, even if the provider is slow."""
    gateway = Gateway(endpoints=[{"timezone": f"Etc/GMT{-hours:+}"}])
    local = datetime.now(UTC) - timedelta(seconds=seconds)
    states = document("1", "2", "b@d", time=f"{local:%Y-%m-%d %H:%M:%S}")
    await gateway.post(states)
    await gateway.post(document("3", time=""))
    await gateway.post(document("4", time="yesterday"))
    (bucket,) = [bound for bound, count in buckets(gateway).items() if count]
    assert bucket == hours * 3600 + 1800
    assert buckets(gateway)[bucket] == 2
    assert value(gateway, "sms_bridge_future_times_total") == (2 if hours < 0 else 0)


@pytest.mark.parametrize(
    ("delay", "bound"),
    [(0.5, 1), (30, 60), (1000, 1800), (-5, 0), (-900, -600), (90_001, math.inf)],
)
async def test_delays_of_seconds_and_minutes_are_told_apart(delay: float, bound: float) -> None:
    gateway = Gateway()
    EndpointMetrics(gateway.metrics, "main", (), ()).late({delay: 3})
    assert {bound: 3} == {bound: count for bound, count in buckets(gateway).items() if count}


def buckets(gateway: Gateway) -> dict[float, float]:
    """States by the upper bound of the seconds from their time to their receipt."""
    name = "sms_bridge_receipt_delay_seconds"
    (family,) = [m for m in gateway.metrics.registry.collect() if m.name == name]
    upto = {float(sample.labels["le"]): sample.value for sample in family.samples}
    below = [0.0, *upto.values()]
    return {bound: count - less for (bound, count), less in zip(upto.items(), below, strict=False)}


async def test_an_event_that_comes_again_because_it_was_not_listed_is_a_redelivery() -> None:
    """Counted per event, and for as long as it is not acknowledged and once more."""
    publisher = RecordingPublisher(lambda _: Result.FAILED)
    gateway = Gateway(publisher)
    for expected in (0, 1, 2):
        await gateway.post(document("1", "1"))
        assert value(gateway, "sms_bridge_redelivery_gap_seconds_count") == expected
    assert value(gateway, "sms_bridge_oldest_unlisted_seconds") > 0
    publisher._decide = lambda _: Result.PUBLISHED
    await gateway.post(document("1"))
    await gateway.post(document("1"))
    assert value(gateway, "sms_bridge_redelivery_gap_seconds_count") == 3
    assert value(gateway, "sms_bridge_oldest_unlisted_seconds") == 0


async def test_a_document_that_is_not_read_in_time_counts_as_overload() -> None:
    """None of its ids is known, so none can be counted as not listed."""
    gateway = Gateway(kafka={"publish_timeout_seconds": 0.001})
    refused = await gateway.post(document(*map(str, range(1000))))
    assert refused.status == 503
    assert value(gateway, "sms_bridge_overloaded_total") == 1
    assert value(gateway, "sms_bridge_ids_total", listed="no") == 0


async def test_in_flight_is_shown_beside_its_limits() -> None:
    gateway = Gateway(server={"max_in_flight": 1})
    gateway.publisher.hold.clear()
    held = asyncio.create_task(gateway.post(document("1", "2")))
    while not gateway.publisher.calls:
        await asyncio.sleep(0)
    refused = await gateway.post(document("3"))
    sample = gateway.metrics.registry.get_sample_value
    assert refused.status == 503
    assert value(gateway, "sms_bridge_overloaded_total") == 1
    assert sample("sms_bridge_in_flight_posts") == sample("sms_bridge_in_flight_posts_limit") == 1
    assert sample("sms_bridge_in_flight_states") == 2
    assert sample("sms_bridge_in_flight_bytes") == len(document("1", "2"))
    gateway.publisher.hold.set()
    await held
    assert sample("sms_bridge_in_flight_posts") == sample("sms_bridge_in_flight_states") == 0


async def test_kafka_as_the_supervisor_sees_it() -> None:
    metrics = Metrics()
    supervisor = Supervisor(Kafka(), ["status"], on_rebuild=metrics.rebuilt)
    metrics.watch_producer(supervisor, CAUSES)
    sample = metrics.registry.get_sample_value
    assert sample("sms_bridge_kafka_up") == 0
    assert sample("sms_bridge_producer_state", {"state": "starting"}) == 1
    assert sample("sms_bridge_producer_state", {"state": "connected"}) == 0
    supervisor.reachable, supervisor.generation = True, 1
    metrics.rebuilt("stalled")
    assert sample("sms_bridge_kafka_up") == 1
    assert sample("sms_bridge_producer_state", {"state": "replacing"}) == 1
    assert sample("sms_bridge_producer_rebuilds_total", {"cause": "stalled"}) == 1
    assert sample("sms_bridge_producer_rebuilds_total", {"cause": "sequence"}) == 0


async def test_readiness_and_build_are_shown() -> None:
    metrics, reasons = Metrics(), ["no Kafka"]
    app = admin_app(metrics, Health(lambda: reasons[0] if reasons else None))
    assert metrics.registry.get_sample_value("sms_bridge_ready") == 0
    reasons.clear()
    reply = await request(app, method="GET", path="/metrics")
    assert reply is not None
    families = {f.name: f for f in text_string_to_metric_families(reply.body.decode())}
    assert families["sms_bridge_ready"].samples[0].value == 1
    (build,) = families["sms_bridge_build_info"].samples
    assert build.labels == {**VERSIONS, "version": __version__}


async def test_other_paths_are_counted_without_a_label_of_the_sender_s() -> None:
    gateway = Gateway()
    for path in ("/", "/webhook/x", "/webhook?token=1"):
        assert (await gateway.post(path=path)).status == 404
    sample = gateway.metrics.registry.get_sample_value
    assert sample("sms_bridge_requests_total", {"endpoint": "-", "code": "404"}) == 3
