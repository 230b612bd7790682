"""The metrics of several processes, added up."""

import time

import orjson
from prometheus_client.parser import text_string_to_metric_families

from bridge.model import Result
from bridge.observability.metrics import EndpointMetrics, Metrics, Snapshot
from bridge.observability.totals import Totals


def value(totals: Totals, name: str, **labels: str) -> float | None:
    families = text_string_to_metric_families(totals.exposition().decode())
    found = [s.value for f in families for s in f.samples if s.name == name and s.labels == labels]
    assert len(found) <= 1
    return found[0] if found else None


def snapshot(metrics: Metrics) -> Snapshot:
    """As it comes from another process."""
    read: Snapshot = orjson.loads(orjson.dumps(metrics.snapshot()))
    return read


def counted(documents: int, *, seconds: float) -> Metrics:
    metrics = Metrics()
    endpoint = EndpointMetrics(metrics, "main", (), ("read",))
    for _ in range(documents):
        endpoint.document({("read", Result.PUBLISHED): 2})
        endpoint.answered(200, seconds)
    endpoint.watch_unlisted(lambda: seconds)
    return metrics


def test_counters_histograms_and_gauges_are_sums() -> None:
    totals = Totals(2)
    for index, (documents, seconds) in enumerate([(3, 0.002), (4, 0.2)]):
        totals.update(index, snapshot(counted(documents, seconds=seconds)))
    assert value(totals, "sms_bridge_requests_total", endpoint="main", code="200") == 7
    assert value(totals, "sms_bridge_document_states_sum", endpoint="main") == 14
    duration = "sms_bridge_request_duration_seconds"
    assert value(totals, f"{duration}_bucket", endpoint="main", le="0.0025") == 3
    assert value(totals, f"{duration}_bucket", endpoint="main", le="+Inf") == 7
    assert value(totals, f"{duration}_count", endpoint="main") == 7
    assert value(totals, "sms_bridge_processes") == 2
    assert value(totals, "sms_bridge_processes_configured") == 2


def test_what_no_sum_makes_sense_of_is_the_worst_or_the_same() -> None:
    totals = Totals(2)
    for index, seconds in enumerate((5.0, 9.0)):
        totals.update(index, snapshot(counted(1, seconds=seconds)))
    assert value(totals, "sms_bridge_oldest_unlisted_seconds", endpoint="main") == 9
    text = totals.exposition().decode()
    (build,) = [line for line in text.splitlines() if line.startswith("sms_bridge_build_info")]
    assert build.endswith(" 1.0")
    started = value(Totals(0), "process_start_time_seconds")
    assert value(totals, "process_start_time_seconds") == started


def test_the_configuration_was_read_when_the_latest_process_read_it() -> None:
    """The one that adds up has read it, too, at its start: before the others."""
    totals = Totals(2)
    name = "sms_bridge_config_last_reload_success_timestamp_seconds"
    at_start = value(totals, name)
    assert at_start is not None
    assert 0 < at_start <= time.time()
    for index in range(2):
        metrics = Metrics()
        metrics.reloaded("success")
        totals.update(index, snapshot(metrics))
    latest = value(totals, name)
    assert latest is not None
    assert at_start < latest <= time.time()


def test_of_one_that_has_ended_the_counters_stay_and_the_gauges_go() -> None:
    totals = Totals(1)
    for turn in range(3):
        totals.update(0, snapshot(counted(10, seconds=1.0)))
        requests = value(totals, "sms_bridge_requests_total", endpoint="main", code="200")
        assert requests == (turn + 1) * 10
        totals.ended(0)
        assert value(totals, "sms_bridge_requests_total", endpoint="main", code="200") == requests
        assert value(totals, "sms_bridge_oldest_unlisted_seconds", endpoint="main") is None
        assert value(totals, "sms_bridge_processes") == 0
    assert value(totals, "sms_bridge_document_states_count", endpoint="main") == 30


def test_an_endpoint_that_no_process_serves_any_more_is_not_shown() -> None:
    """One that has counted for it may have ended before."""
    totals = Totals(2)
    totals.update(0, snapshot(counted(10, seconds=1.0)))
    totals.ended(0)
    assert value(totals, "sms_bridge_document_states_count", endpoint="main") == 10
    totals.update(1, snapshot(Metrics()))
    assert value(totals, "sms_bridge_document_states_count", endpoint="main") is None
    totals.update(0, snapshot(counted(1, seconds=1.0)))
    assert value(totals, "sms_bridge_document_states_count", endpoint="main") == 11


def test_every_metric_of_one_process_is_there_with_its_kind_and_help() -> None:
    one, totals = Metrics(), Totals(1)
    totals.update(0, snapshot(one))
    about = [
        {(f.name, f.type, f.documentation) for f in text_string_to_metric_families(text.decode())}
        for text in (one.exposition(), totals.exposition())
    ]
    assert about[0] == about[1]


def test_no_counter_goes_back_by_its_last_digit() -> None:
    """What floating-point numbers add up to depends on their order."""
    totals = Totals(3)
    for worker, seconds in enumerate((0.1, 0.2, 0.3), start=1):
        metrics = Metrics()
        EndpointMetrics(metrics, "main", (), ()).publish_seconds.observe(seconds)
        totals.update(worker, metrics.snapshot())
    name = "sms_bridge_publish_duration_seconds_sum"
    before = value(totals, name, endpoint="main")
    for worker in (1, 2, 3):
        totals.ended(worker)
        assert value(totals, name, endpoint="main") == before
