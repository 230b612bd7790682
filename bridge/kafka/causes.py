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
    "InvalidTimestampError": "timestamp",
    "InvalidRecordError": "invalid_record",
    "CorruptRecordException": "invalid_record",
    "UnsupportedForMessageFormatError": "invalid_record",
    "PolicyViolationError": "policy",
    "KafkaStorageError": "disk",
    "UnknownError": "broker_fault",
}
# What to do if a new producer is of no help, by the word.
ADVICE: Mapping[str, str] = {
    "denied": "not authorized: allow Write on the topic",
    "too_large": "too large: raise the topic's max.message.bytes",
    "timestamp": (
        "the broker refuses the time of receipt: check the clocks, and the topic's "
        "message.timestamp.before.max.ms, message.timestamp.after.max.ms and message.timestamp.type"
    ),
    "invalid_record": "the broker's validation refuses the record: see the broker's log",
    "policy": "a policy of the broker's refuses the record: see the broker's configuration",
    "disk": "a disk of the broker's has failed or is full: see the broker's log",
    "not_enough_replicas": "too few replicas are in sync: bring the missing brokers back",
    "broker_fault": "the broker has failed on it: see the broker's log",
    "throttled": "a quota of the brokers' is reached: raise producer_byte_rate for this client",
}
_PROBE_FAILED = "probe failed"
CAUSES = frozenset({*_WORDS.values(), "probe_failed", OTHER})
# These say that the brokers are away. The others are answers of theirs, or of the client's own.
AWAY = frozenset({"stalled", "unreachable", "probe_failed"})


def explained(cause: str) -> str:
    """The cause, and what to do about it if that is known."""
    advice = ADVICE.get(word_of(cause))
    return cause if advice is None else f"{advice} ({cause})"


def word_of(cause: str) -> str:
    """One of CAUSES; the name of an error, or a text, that is not known is `other`."""
    if cause.startswith(_PROBE_FAILED):
        return "probe_failed"
    return _WORDS.get(cause, OTHER)
