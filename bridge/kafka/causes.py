"""Why a producer is replaced, as one of a few words: metrics and alerts count by them."""

from collections.abc import Mapping

OTHER = "other"

# By the name of the error, or by what the supervisor itself says.
_WORDS: Mapping[str, str] = {
    "stalled": "stalled",
    "no broker answers": "unreachable",
    "KafkaConnectionError": "unreachable",
    "NodeNotReadyError": "unreachable",
    "NoBrokersAvailable": "unreachable",
    "ConnectionError": "unreachable",
    "TimeoutError": "timeout",
    "KafkaTimeoutError": "timeout",
    "RequestTimedOutError": "timeout",
    "NotLeaderForPartitionError": "not_leader",
    "LeaderNotAvailableError": "not_leader",
    "NotEnoughReplicasError": "not_enough_replicas",
    "NotEnoughReplicasAfterAppendError": "not_enough_replicas",
    "OutOfOrderSequenceNumber": "sequence",
    "DuplicateSequenceNumber": "sequence",
    "UnknownProducerId": "sequence",
    "InvalidProducerIdMapping": "sequence",
    "ProducerFenced": "fenced",
    "InvalidProducerEpoch": "fenced",
    "TopicAuthorizationFailedError": "denied",
    "ClusterAuthorizationFailedError": "denied",
    "SaslAuthenticationFailed": "denied",
    "UnknownTopicOrPartitionError": "topic_missing",
    "InvalidTopicError": "topic_missing",
    "MessageSizeTooLargeError": "too_large",
    "RecordListTooLargeError": "too_large",
}
_PROBE_FAILED = "probe failed"
CAUSES = frozenset({*_WORDS.values(), "probe_failed", OTHER})
# These say that the brokers are away. The others are answers of theirs, or of the client's own.
AWAY = frozenset({"stalled", "unreachable", "probe_failed"})


def word_of(cause: str) -> str:
    """One of CAUSES; the name of an error, or a text, that is not known is `other`."""
    if cause.startswith(_PROBE_FAILED):
        return "probe_failed"
    return _WORDS.get(cause, OTHER)
