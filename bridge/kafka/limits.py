"""How large a batch each topic takes: as its settings say, and as its brokers have refused.

It counts as a broker does: the whole batch, with its header, compressed as it is sent.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from bridge.kafka.producer import MAX_BATCH_BYTES, MAX_RECORD_BYTES
from bridge.model import Message

FORGET_SECONDS = 30.0  # a topic's limit may have grown since a batch was refused
FRAME_BYTES = 16 * 1024  # more than a record's key and headers and a batch's own header ever take

_CODECS = {
    "none": 0,
    "gzip": DefaultRecordBatch.CODEC_GZIP,
    "snappy": DefaultRecordBatch.CODEC_SNAPPY,
    "lz4": DefaultRecordBatch.CODEC_LZ4,
    "zstd": DefaultRecordBatch.CODEC_ZSTD,
}


@dataclass(frozen=True, slots=True)
class _Size:
    """Of one record alone in a batch: as it is sent, and before its compression."""

    sent: int
    plain: int


@dataclass(slots=True)
class _Refused:
    """What a topic's brokers have refused lately. Nothing larger than `record` is tried."""

    until: float
    fill: int = MAX_BATCH_BYTES  # a guess: half of the smallest batch that was refused
    record: _Size | None = None


class Limits:
    """`told` gives a topic's `max.message.bytes`, if that is known."""

    def __init__(
        self,
        compression: str,
        told: Callable[[str], int | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._codec = _CODECS[compression]
        self._told = told
        self._clock = clock
        self._refused: dict[str, _Refused] = {}

    def batch_bytes(self, topic: str) -> int:
        """How large a batch to fill."""
        told, refused = self._told(topic), self._lately(topic)
        fill = MAX_BATCH_BYTES if refused is None else refused.fill
        return fill if told is None else min(told, fill)

    def small_bytes(self, topic: str) -> int:
        """A value of this size is not too large, whatever its key and headers."""
        told, refused = self._told(topic), self._lately(topic)
        least = MAX_RECORD_BYTES if told is None else min(told, MAX_RECORD_BYTES)
        if refused is not None and refused.record is not None:
            least = min(least, refused.record.plain)
        return least - FRAME_BYTES

    def too_large(self, message: Message) -> bool:
        """Whether the topic surely refuses the record, even alone in a batch."""
        topic, key, value, headers, _, _ = message
        if len(value) <= self.small_bytes(topic):
            return False
        if record_bytes(key, value, headers) > MAX_RECORD_BYTES:
            return True
        told, refused, size = self._told(topic), self._lately(topic), self._size(message)
        if told is not None and size.sent > told:
            return True
        # A topic may have its batches compressed anew: what is larger either way is refused, too.
        record = None if refused is None else refused.record
        return record is not None and size.sent >= record.sent and size.plain >= record.plain

    def refused(self, topic: str, batch_bytes: int, alone: Message | None) -> None:
        """A broker has refused a batch of this size as too large; `alone` is its only record.

        Where the topic's settings say otherwise, they are no longer what they were: it is for
        them to say what is, and no record's size is held against others.
        """
        refused = self._lately(topic) or _Refused(0.0)
        self._refused[topic] = refused
        refused.until = self._clock() + FORGET_SECONDS
        if alone is None:
            refused.fill = min(refused.fill, batch_bytes // 2)
        elif self._told(topic) is None:
            size = self._size(alone)
            if refused.record is None or size.plain < refused.record.plain:
                refused.record = size

    def _lately(self, topic: str) -> _Refused | None:
        refused = self._refused.get(topic)
        return refused if refused is not None and self._clock() < refused.until else None

    def _size(self, message: Message) -> _Size:
        return _Size(_batch_bytes(message, self._codec), _batch_bytes(message, 0))


def record_bytes(key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> int:
    """The most that a record takes before compression."""
    return int(DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers))


def _batch_bytes(message: Message, codec: int) -> int:
    """The size of the batch of this record alone."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=0,
        batch_size=MAX_BATCH_BYTES,
    )
    _, key, value, headers, timestamp_ms, _ = message
    builder.append(0, timestamp_ms, key, value, headers)
    return len(builder.build())
