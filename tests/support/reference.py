"""The frozen identity and the partition, a second time, from the contract's words.

It must not import the package: what it checks is that the package still says the same.
"""

import hashlib
from collections.abc import Sequence

from aiokafka.partitioner import murmur2

MAX_RECORD_BYTES = 1024 * 1024  # the producer's limit on one record


def fed(values: Sequence[str | bytes]) -> bytes:
    """What is hashed: of each value its length in UTF-8 bytes in decimal, `:`, the bytes."""
    out = bytearray()
    for value in values:
        raw = value if isinstance(value, bytes) else value.encode("utf-8")
        out += str(len(raw)).encode("ascii")
        out += b":"
        out += raw
    return bytes(out)


def digest(*values: str | bytes) -> str:
    """32 hexadecimal digits."""
    return hashlib.blake2b(fed(values), digest_size=16).hexdigest()


def event_id(
    source: str,
    id_sms: str,
    status: str,
    raw_time: str | None = None,
    values: Sequence[Sequence[str]] = (),
) -> str:
    """The id of a status event; `values` are its attributes' names and values, in any order."""
    parts = [text for pair in sorted(tuple(v) for v in values) for text in pair]
    return f"{id_sms}.{digest(source, id_sms, status, raw_time or '', *parts)}"


def java_partition(key: bytes, partitions: int) -> int:
    """The partition that Java's default partitioner chooses, by aiokafka's murmur2."""
    hashed: int = murmur2(key) & 0x7FFFFFFF
    return hashed % partitions
