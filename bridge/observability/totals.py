"""The metrics of several processes, added up by the one that speaks for all of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import add
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from bridge.observability.metrics import Metrics, Snapshot

_CUMULATIVE: Final = frozenset({"counter", "histogram"})

# Sums of multiples of it are exact, up to 2**53 of them: else they would depend on the order, and a
# counter go back by its last digit when a worker ends. Prometheus would take that for a restart.
_GRAIN: Final = 2.0**-20

_Merge = Callable[[float, float], float]

# What a sum would say nothing of. All else is added up.
_MERGES: Final[dict[str, _Merge]] = {
    "sms_bridge_build": max,
    "sms_bridge_kafka_up": max,  # as for the pods of a deployment: whether any of them reaches it
    "sms_bridge_oldest_unlisted_seconds": max,
    "sms_bridge_processes_configured": max,
    "sms_bridge_config_last_reload_successful": min,
    "sms_bridge_config_last_reload_success_timestamp_seconds": max,
    "process_max_fds": min,  # of the process that may have fewest,
    "process_open_fds": max,  # and of the one that has most
    "process_start_time_seconds": min,
}


class Totals(Metrics):
    """This process's own metrics, with those of its workers.

    What a worker has counted counts on when it has ended: no counter goes backwards. Only what it
    has counted since its last snapshot is missing.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self.serving(0, configured=workers)  # it does not serve itself
        self._latest: dict[int, Snapshot] = {}
        self._ended: Snapshot = []

    def update(self, worker: int, snapshot: Snapshot) -> None:
        """Take a worker's latest snapshot."""
        self._latest[worker] = snapshot

    def ended(self, worker: int) -> None:
        """Keep what a worker has counted that has ended."""
        last = self._latest.pop(worker, [])
        counted = [family for family in last if family[1] in _CUMULATIVE]
        self._ended = added_up([self._ended, counted])

    def exposition(self) -> bytes:
        """Everything, in the Prometheus text format (CONTENT_TYPE)."""
        latest = list(self._latest.values())
        endpoints = set[str]().union(*map(_endpoints, latest))
        ended = _of(endpoints, self._ended) if latest else self._ended
        registry = CollectorRegistry()
        registry.register(_Shown([self.snapshot(), *latest, ended]))
        return generate_latest(registry)


def _endpoints(snapshot: Snapshot) -> set[str]:
    """The endpoints that a process serves."""
    return {
        labels["endpoint"]
        for _, _, _, samples in snapshot
        for _, labels, _ in samples
        if "endpoint" in labels
    }


def _of(endpoints: set[str], snapshot: Snapshot) -> Snapshot:
    """A snapshot without endpoints that nobody serves any more: they would look silent."""
    return [
        (name, kind, what, [s for s in samples if s[1].get("endpoint") in {None, *endpoints}])
        for name, kind, what, samples in snapshot
    ]


class _Shown(Collector):
    """What several processes have measured, for the library to write."""

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        """Every metric, added up."""
        for name, kind, what, samples in added_up(self._snapshots):
            metric = Metric(name, what, kind)
            for sample, labels, value in samples:
                metric.add_sample(sample, labels, value)
            yield metric


def added_up(snapshots: Iterable[Snapshot]) -> Snapshot:
    """One snapshot of several."""
    families: dict[str, tuple[str, str]] = {}
    series: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for name, kind, what, samples in chain.from_iterable(snapshots):
        families.setdefault(name, (kind, what))
        merge: _Merge = _MERGES.get(name, add)
        values = series.setdefault(name, {})
        for sample, labels, measured in samples:
            cumulative = kind in _CUMULATIVE
            value = round(measured / _GRAIN) * _GRAIN if cumulative else measured
            key = sample, tuple(labels.items())
            values[key] = merge(values[key], value) if key in values else value
    return [
        (name, kind, what, [(s, dict(labels), v) for (s, labels), v in series[name].items()])
        for name, (kind, what) in families.items()
    ]
