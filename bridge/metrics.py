"""The counters of one process, in a registry of its own."""

from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0 as CONTENT_TYPE

from bridge.model import Result

__all__ = ["CONTENT_TYPE", "EndpointMetrics", "Metrics"]

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter


class Metrics:
    """What the program counts; every label has a bounded set of values."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter(
            "sms_bridge_requests", "Requests by answer.", "endpoint", "code"
        )
        self.states = self._counter(
            "sms_bridge_states", "States of accepted documents by outcome.", "endpoint", "outcome"
        )
        self.ids = self._counter(
            "sms_bridge_ids",
            "Ids of accepted documents, listed in the answer or not.",
            "endpoint",
            "listed",
        )
        self.repeated = self._counter(
            "sms_bridge_suppressed_duplicates",
            "States that Kafka had from an earlier request, acknowledged without a record.",
            "endpoint",
        )
        self.dead_letters = self._counter(
            "sms_bridge_dead_letters", "States and bodies refused, by reason.", "endpoint", "reason"
        )
        self.lost_bodies = self._counter(
            "sms_bridge_lost_bodies",
            "Refused bodies whose dead letter is not in Kafka: failed, limited, or no topic.",
            "endpoint",
        )
        self.unknown_statuses = self._counter(
            "sms_bridge_unknown_statuses", "States with a word that is not known.", "endpoint"
        )

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(name, what, labels, registry=self.registry)

    def exposition(self) -> bytes:
        """Everything, in the Prometheus text format (CONTENT_TYPE)."""
        return generate_latest(self.registry)


class EndpointMetrics:
    """One endpoint's share of the metrics, its series looked up once and not with each request."""

    def __init__(self, metrics: Metrics, endpoint: str) -> None:
        self._endpoint = endpoint
        self._requests = metrics.requests
        self._by_status: dict[int, Counter] = {}
        self._states = {result: metrics.states.labels(endpoint, result) for result in Result}
        self._listed = metrics.ids.labels(endpoint, "yes")
        self._unlisted = metrics.ids.labels(endpoint, "no")
        self._repeated = metrics.repeated.labels(endpoint)
        self._dead_letters = metrics.dead_letters
        self._unknown_statuses = metrics.unknown_statuses.labels(endpoint)
        self.lost_bodies = metrics.lost_bodies.labels(endpoint)

    def answered(self, status: int) -> None:
        """Count an answer."""
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self._requests.labels(self._endpoint, status)
        counter.inc()

    def refused(self, reason: str, count: int = 1) -> None:
        """Count states or a body that are refused."""
        self._dead_letters.labels(self._endpoint, reason).inc(count)

    def ids(self, *, listed: int, unlisted: int) -> None:
        """Count the ids of a document."""
        self._listed.inc(listed)
        if unlisted:
            self._unlisted.inc(unlisted)

    def states(self, results: Mapping[Result, int], *, repeated: int, unknown_words: int) -> None:
        """Count the states of a document."""
        for result, count in results.items():
            self._states[result].inc(count)
        if repeated:
            self._repeated.inc(repeated)
        if unknown_words:
            self._unknown_statuses.inc(unknown_words)
