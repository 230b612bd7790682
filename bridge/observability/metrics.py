"""The metrics of one process, in a registry of its own; docs/metrics.md describes each."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import ClassVar, Protocol

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0 as CONTENT_TYPE

from bridge.event import FAR_FUTURE
from bridge.model import OTHER_STATUS, REASONS, Result
from bridge.observability.counters import Count, Counter, Histogram
from bridge.versions import VERSIONS

__all__ = ["CODES", "CONTENT_TYPE", "NO_ENDPOINT", "EndpointMetrics", "Metrics", "Snapshot"]

Snapshot = list[tuple[str, str, str, list[tuple[str, dict[str, str], float]]]]
"""Metrics at one moment: of each name, kind, help, and its series: name, labels, value."""

# The answers there are. Their series exist from the start: what first appears as 1 is no increase.
CODES = (200, 400, 401, 403, 405, 408, 411, 413, 415, 500, 503)
NO_ENDPOINT = "-"  # the label of requests that reach no endpoint, which none can be named
CODES_ELSEWHERE = (400, 404, 408, 431, 500, 501)
RELOAD_RESULTS = RELOADED, REFUSED = ("success", "refused")
RESTART_CAUSES = EXITED, KILLED, HUNG = ("exited", "killed", "hung")
MAX_NAMED_STATUSES = 10  # of those that are not known, for each endpoint

# Close to 4 and 5 seconds: the default limit of a request, and the patience of many senders.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0)
GAP_SECONDS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
FAR_AHEAD_SECONDS = FAR_FUTURE.total_seconds()
# A time zone that is wrong moves all of them by whole hours: each is in the middle of a bucket.
HOURS = (1800.0, 5400.0, 9000.0, 12600.0, 16200.0, 27000.0, 45000.0, 90000.0)
DELAY_SECONDS = (
    *(-seconds for seconds in reversed(HOURS[:-1])),
    *(-FAR_AHEAD_SECONDS, 0.0, 1.0, 5.0, 15.0, 60.0, 300.0),
    *HOURS,
)
BYTES = (256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0)
STATES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 10000.0)


class Losses(Protocol):
    """What sees that acknowledged records are gone."""

    on_loss: Callable[[int], None]


class Producer(Protocol):
    """What is known of Kafka; `state` is one of `states`, `reachable` as it last answered.

    `on_refusal` is called with the cause of a batch refused, `on_throttle` with seconds to wait,
    `losses.on_loss` with a number of records.
    """

    states: ClassVar[tuple[str, ...]]
    on_refusal: Callable[[str], None]
    on_throttle: Callable[[float], None]

    @property
    def losses(self) -> Losses:
        """What sees that acknowledged records are gone."""
        ...

    @property
    def state(self) -> str:
        """What the producer is at."""
        ...

    @property
    def reachable(self) -> bool:
        """Whether the brokers have answered when they were last asked."""
        ...


class Metrics:
    """What the program measures; every label has a bounded set of values."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._of_endpoints: list[Counter | Histogram] = []
        ProcessCollector(registry=self.registry)
        self._make_traffic()
        self._make_sizes()
        self._make_kafka()
        for code in CODES_ELSEWHERE:
            self.requests.labels(NO_ENDPOINT, code)
        self.answers_elsewhere = self.requests.labels(NO_ENDPOINT, 404)

    def _make_traffic(self) -> None:
        self.requests = self._counter("requests", "Requests by answer.", "endpoint", "code")
        self.overloaded = self._counter(
            "overloaded",
            "POSTs answered 503 unread: too much was in flight, or it took too long to read them.",
            "endpoint",
        )
        self.refused = self._counter(
            "refused",
            "Requests of which nothing became an event, by reason: refused, or all of it rejected.",
            *("endpoint", "reason"),
        )
        self.valid_documents = self._counter(
            "valid_documents", "Documents with at least one valid state.", "endpoint"
        )
        self.states = self._counter(
            "states",
            "States of documents that were read, by status word and by what Kafka made of them.",
            *("endpoint", "status", "outcome"),
        )
        self.ids = self._counter(
            "ids", "Ids of documents that were read, listed in the answer or not.",
            *("endpoint", "listed"),
        )  # fmt: skip
        self.suppressed_duplicates = self._counter(
            "suppressed_duplicates",
            "States that Kafka had from an earlier request, acknowledged without a record.",
            "endpoint",
        )
        self.dead_letters = self._counter(
            "dead_letters", "States and bodies rejected, by reason.", "endpoint", "reason"
        )
        self.lost_bodies = self._counter(
            "lost_bodies",
            "Rejected bodies whose dead letter is not in Kafka: failed, limited, or no topic.",
            "endpoint",
        )
        self.unknown_statuses = self._counter(
            "unknown_statuses",
            "States with a word that is not known, by the first ten such words of the endpoint.",
            *("endpoint", "status"),
        )
        self.unreadable_times = self._counter(
            "unreadable_times", "States whose time cannot be read.", "endpoint"
        )
        self.future_times = self._counter(
            "future_times", "States whose time is over ten minutes after their receipt.", "endpoint"
        )

    def _make_sizes(self) -> None:
        self.request_seconds = self._histogram(
            "request_duration_seconds",
            "From a request's head to its answer, if its body was read.",
            SECONDS,
        )
        self.publish_seconds = self._histogram(
            "publish_duration_seconds",
            "From a document's first record to what Kafka made of the last.",
            SECONDS,
        )
        self.document_bytes = self._histogram(
            "document_bytes", "Bytes of documents that were read.", BYTES
        )
        self.document_states = self._histogram(
            "document_states", "States of documents that were read.", STATES
        )
        self.receipt_delay = self._histogram(
            "receipt_delay_seconds",
            "From a state's time to its receipt; below 0 if the time is ahead.",
            DELAY_SECONDS,
        )
        self.gaps = self._histogram(
            "redelivery_gap_seconds",
            "Between two sightings of the same event by this process.",
            GAP_SECONDS,
        )
        self.oldest_unlisted = self._gauge(
            "oldest_unlisted_seconds",
            "Age of the oldest event that this process has not acknowledged, for an hour.",
            "endpoint",
        )
        self._in_flight = {
            what: self._gauge(f"in_flight_{what}", f"{said} in flight.")
            for what, said in _IN_FLIGHT.items()
        }
        self._limits = {
            what: self._gauge(f"in_flight_{what}_limit", f"{said} that may be in flight.")
            for what, said in _IN_FLIGHT.items()
        }

        self._connections = self._gauge("connections", "Open connections.", "listener")
        self._connections_limit = self._gauge(
            "connections_limit", "Connections that may be open.", "listener"
        )
        self._connections_cut = self._counter(
            "connections_cut",
            "Connections cut because too many were open, those silent longest.",
            "listener",
        )

    def _make_kafka(self) -> None:
        self._ready = self._gauge("ready", "Whether /readyz says 200.")
        self._kafka_up = self._gauge(
            "kafka_up", "Whether the brokers have answered when they were last asked."
        )
        self._producer_state = self._gauge(
            "producer_state", "1 for what the producer is at, 0 for all else.", "state"
        )
        self._rebuilds = self._counter(
            "producer_rebuilds", "Producers replaced, by cause.", "cause"
        )
        self._refused_batches = self._counter(
            "refused_batches",
            "Batches that a broker refused, and has nothing of, by cause; the producer stayed.",
            "cause",
        )
        self._throttled = self._counter(
            "throttled_seconds", "Time for which brokers asked not to be sent to, by their quotas."
        ).labels()
        self._lost_records = self._counter(
            "lost_records", "Records that brokers had acknowledged, and lost with a leader."
        ).labels()
        self.dropped_log_lines = self._counter(
            "dropped_log_lines", "Lines of the log that could not be written in time."
        ).labels()
        self._make_reloads()
        self._make_processes()
        build = Info("sms_bridge_build", "What runs, by version.", registry=self.registry)
        build.info(dict(VERSIONS))

    def _make_processes(self) -> None:
        self._processes = self._gauge("processes", "Processes that serve.")
        self._processes_configured = self._gauge(
            "processes_configured", "Processes that are to serve."
        )
        self.process_restarts = self._counter(
            "process_restarts", "Serving processes that ended and were replaced, by cause.", "cause"
        )
        for cause in RESTART_CAUSES:
            self.process_restarts.labels(cause)
        self.serving(1, configured=1)

    def serving(self, processes: int, *, configured: int) -> None:
        """Show how many processes serve, and how many are to."""
        self._processes.set(processes)
        self._processes_configured.set(configured)

    def _make_reloads(self) -> None:
        self._reloads = self._counter(
            "config_reloads", "Times that the configuration was read again, by result.", "result"
        )
        self._reload_successful = self._gauge(
            "config_last_reload_successful",
            "Whether the configuration is in use that was read last.",
        )
        self._reloaded_at = self._gauge(
            "config_last_reload_success_timestamp_seconds",
            "When the configuration in use was read, in Unix time.",
        )
        for result in RELOAD_RESULTS:
            self._reloads.labels(result)
        self._reload_successful.set(1)
        self._reloaded_at.set_to_current_time()

    def reloaded(self, result: str) -> None:
        """Count a reload, by one of RELOAD_RESULTS."""
        self._reloads.labels(result).inc()
        self._reload_successful.set(result == RELOADED)
        if result == RELOADED:
            self._reloaded_at.set_to_current_time()

    # --- what is looked at when it is asked for ------------------------------------------

    def watch_capacity(self, capacity: object) -> None:
        """Show what is in flight, and its limits: `posts` and `max_posts`, and so on."""
        for what in _IN_FLIGHT:
            self._in_flight[what].set_function(partial(getattr, capacity, what))
            self._limits[what].set(getattr(capacity, f"max_{what}"))

    def watch_connections(
        self, listener: str, limit: int, count: Callable[[], int]
    ) -> Callable[[], None]:
        """Show how many connections a listener has, and its limit; counts one that is cut."""
        self._connections.labels(listener).set_function(count)
        self._connections_limit.labels(listener).set(limit)
        return self._connections_cut.labels(listener).inc

    def watch_readiness(self, is_ready: Callable[[], bool]) -> None:
        """Show what `/readyz` says."""
        self._ready.set_function(is_ready)

    def watch_producer(self, producer: Producer, causes: Iterable[str]) -> None:
        """Show how it stands with Kafka; `causes` are all that `rebuilt` is told."""
        self._kafka_up.set_function(lambda: producer.reachable)
        for state in producer.states:
            is_at = partial(_is_at, producer, state)
            self._producer_state.labels(state).set_function(is_at)
        for cause in causes:
            self._rebuilds.labels(cause)
            self._refused_batches.labels(cause)
        producer.on_refusal = lambda cause: self._refused_batches.labels(cause).inc()
        producer.on_throttle = self._throttled.inc
        producer.losses.on_loss = self._lost_records.inc

    def rebuilt(self, cause: str) -> None:
        """Count a producer that is replaced."""
        self._rebuilds.labels(cause).inc()

    def forget(self, endpoint: str) -> None:
        """Show an endpoint no more that has been removed: what stays at its value looks silent."""
        for family in self._of_endpoints:
            family.remove(endpoint)
        with suppress(KeyError):
            self.oldest_unlisted.remove(endpoint)

    def exposition(self) -> bytes:
        """Everything, in the Prometheus text format (CONTENT_TYPE)."""
        return generate_latest(self.registry)

    def snapshot(self) -> Snapshot:
        """Everything, as `Totals` adds it up."""
        return [
            (
                family.name,
                family.type,
                family.documentation,
                [(sample.name, dict(sample.labels), sample.value) for sample in family.samples],
            )
            for family in self.registry.collect()
        ]

    # --- kinds ---------------------------------------------------------------------------

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        counter = Counter(f"sms_bridge_{name}", what, labels, self.registry)
        if labels[:1] == ("endpoint",):
            self._of_endpoints.append(counter)
        return counter

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"sms_bridge_{name}", what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        """One that every endpoint has a share of."""
        histogram = Histogram(f"sms_bridge_{name}", what, ("endpoint",), buckets, self.registry)
        self._of_endpoints.append(histogram)
        return histogram


_IN_FLIGHT = {"posts": "POSTs", "bytes": "Bytes of bodies", "states": "States"}


def _is_at(producer: Producer, state: str) -> bool:
    return producer.state == state


class EndpointMetrics:
    """One endpoint's share of the metrics, its series looked up once and not with each request.

    `refusals` are all reasons for which it refuses a request, beside those to reject a body;
    `statuses` all words that are known.
    """

    def __init__(
        self,
        metrics: Metrics,
        endpoint: str,
        refusals: Iterable[str],
        statuses: Iterable[str],
    ) -> None:
        self.endpoint = endpoint
        self._all_requests = metrics.requests
        self._requests = {code: metrics.requests.labels(endpoint, code) for code in CODES}
        self._all_states = metrics.states
        self._states: dict[tuple[str, Result], Count] = {}
        self.know((*statuses, OTHER_STATUS))
        self._listed = metrics.ids.labels(endpoint, "yes")
        self._unlisted = metrics.ids.labels(endpoint, "no")
        self._dead_letters = {
            reason: metrics.dead_letters.labels(endpoint, reason) for reason in REASONS
        }
        self._refused = {
            reason: metrics.refused.labels(endpoint, reason) for reason in (*refusals, *REASONS)
        }
        self.valid_documents = metrics.valid_documents.labels(endpoint)
        self._unknown_statuses = metrics.unknown_statuses
        self._unknown: dict[str, Count] = {}
        self._unnamed = metrics.unknown_statuses.labels(endpoint, OTHER_STATUS)
        self._request_seconds = metrics.request_seconds.labels(endpoint)
        self.document_bytes = metrics.document_bytes.labels(endpoint)
        self._document_states = metrics.document_states.labels(endpoint)
        self._gaps = metrics.gaps.labels(endpoint)
        self._oldest_unlisted = metrics.oldest_unlisted.labels(endpoint)
        self.publish_seconds = metrics.publish_seconds.labels(endpoint)
        self.overloaded = metrics.overloaded.labels(endpoint)
        self.suppressed_duplicates = metrics.suppressed_duplicates.labels(endpoint)
        self.unreadable_times = metrics.unreadable_times.labels(endpoint)
        self._future_times = metrics.future_times.labels(endpoint)
        self._receipt_delay = metrics.receipt_delay.labels(endpoint)
        self.lost_bodies = metrics.lost_bodies.labels(endpoint)

    def know(self, statuses: Iterable[str]) -> None:
        """Count these words by themselves from now on."""
        for status in statuses:
            for result in Result:
                labels = self.endpoint, status, result
                self._states[status, result] = self._all_states.labels(*labels)

    def answered(self, status: int, seconds: float | None) -> None:
        """Count an answer; `seconds` it took, if the body was read."""
        requests = self._requests.get(status)
        if requests is None:
            requests = self._requests[status] = self._all_requests.labels(self.endpoint, status)
        requests.value += 1
        if seconds is not None:
            self._request_seconds.observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a request of which nothing became an event."""
        self._refused[reason].inc()

    def rejected(self, reason: str, count: int = 1) -> None:
        """Count states, or a body, that are rejected."""
        self._dead_letters[reason].inc(count)

    def name_unknown(self, statuses: Mapping[str, int]) -> list[str]:
        """Count states with words that are not known; returns those that have a series from now on.

        All that come after the first ten share one: a sender may make up any number.
        """
        named = []
        for status, count in statuses.items():
            if status not in self._unknown and len(self._unknown) < MAX_NAMED_STATUSES:
                self._unknown[status] = self._unknown_statuses.labels(self.endpoint, status)
                named.append(status)
            self._unknown.get(status, self._unnamed).inc(count)
        return named

    def document(self, states: Mapping[tuple[str, Result], int]) -> None:
        """Count a document's states, by status word and outcome."""
        self._document_states.observe(sum(states.values()))
        for key, count in states.items():
            self._states[key].value += count

    def late(self, delays: Mapping[float, int]) -> None:
        """Count states by the seconds from their time to their receipt; below 0 it is ahead."""
        for seconds, count in delays.items():
            self._receipt_delay.observe(seconds, count)
            if seconds < -FAR_AHEAD_SECONDS:
                self._future_times.inc(count)

    def ids(self, *, listed: int, unlisted: int) -> None:
        """Count the ids of a document."""
        self._listed.value += listed
        if unlisted:
            self._unlisted.inc(unlisted)

    def redelivered(self, gaps: Iterable[float]) -> None:
        """Count events that had come before, by the seconds since they came last."""
        for gap in gaps:
            self._gaps.observe(gap)

    def watch_unlisted(self, oldest_seconds: Callable[[], float]) -> None:
        """Show the age of what has waited longest for its acknowledgement."""
        self._oldest_unlisted.set_function(oldest_seconds)
