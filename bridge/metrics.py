"""The counters of one process, in a registry of its own."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0 as CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "Metrics"]

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
