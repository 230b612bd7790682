"""What is counted without locks, held against the library's own."""

import random

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest

from bridge.observability.counters import Counter, Histogram

BOUNDS = (0.001, 0.5, 1.0, 10.0)


def test_the_exposition_is_the_library_s() -> None:
    """Same text for the same values, those on a bucket's bound included."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counters = (
        Counter("sms_things", "Things.", ("a", "b"), ours),
        prometheus_client.Counter("sms_things", "Things.", ("a", "b"), registry=theirs),
    )
    histograms = (
        Histogram("sms_seconds", "Seconds.", ("a",), BOUNDS, ours),
        prometheus_client.Histogram(
            "sms_seconds", "Seconds.", ("a",), registry=theirs, buckets=BOUNDS
        ),
    )
    values = [*BOUNDS, 0.0, 11.0, *(random.Random(1).uniform(0, 12) for _ in range(50))]
    for counter in counters:
        counter.labels("x", "y").inc()
        counter.labels("x", 200).inc(3)
    for histogram in histograms:
        for value in values:
            histogram.labels("x").observe(value)
        histogram.labels("never")
    assert generate_latest(ours) == without_created(generate_latest(theirs))


def without_created(exposition: bytes) -> bytes:
    """Without the library's second series for each counter."""
    lines = exposition.splitlines(keepends=True)
    return b"".join(line for line in lines if b"_created" not in line)


def test_a_series_is_looked_up_once_and_for_all() -> None:
    counter = Counter("sms_things", "Things.", ("a",), CollectorRegistry())
    assert counter.labels("x") is counter.labels("x")
    assert counter.labels(200) is counter.labels("200")
