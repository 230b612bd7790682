"""Which partition a record goes to: the one that Java's default partitioner chooses, by murmur2.

aiokafka's own murmur2 goes byte by byte, and takes twice as long for a key.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from struct import Struct, iter_unpack

_MULTIPLIER, _SEED, _32_BITS, _31_BITS = 0x5BD1E995, 0x9747B28C, 0xFFFFFFFF, 0x7FFFFFFF
_WORD_BYTES = 4
_LEAST_LANE_BYTES = 8  # what the product of two words takes
_FEW = 3  # keys: fewer are quicker hashed one by one
_WORDS = [Struct(f"<{count}I").unpack_from for count in range(17)]  # of ids, none is longer


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among so many."""
    return _hash(key) % partitions


def hashes(keys: Sequence[bytes]) -> Iterable[int]:
    """What each key's partition is the remainder of."""
    if len(keys) < _FEW:
        return map(_hash, keys)
    by_size: defaultdict[int, list[bytes]] = defaultdict(list)
    for key in keys:
        by_size[len(key)].append(key)
    if len(by_size) == 1:
        return _hashes(keys)
    hashed: dict[bytes, int] = {}
    for group in by_size.values():
        hashed |= zip(group, hashes(group), strict=True)
    return [hashed[key] for key in keys]


def _hash(key: bytes) -> int:
    """murmur2 of one key, without its sign."""
    size = len(key)
    hashed = _SEED ^ size
    whole = size >> 2
    words = _WORDS[whole](key) if whole < len(_WORDS) else Struct(f"<{whole}I").unpack_from(key)
    for word in words:
        mixed = word * _MULTIPLIER & _32_BITS
        hashed = (hashed * _MULTIPLIER ^ (mixed ^ mixed >> 24) * _MULTIPLIER) & _32_BITS
    if size & 3:
        hashed = (hashed ^ int.from_bytes(key[whole << 2 :], "little")) * _MULTIPLIER & _32_BITS
    hashed = (hashed ^ hashed >> 13) * _MULTIPLIER & _32_BITS
    return (hashed ^ hashed >> 15) & _31_BITS


def _hashes(keys: Sequence[bytes]) -> list[int]:
    """The same of keys of one size, all at once: each has a lane in whole numbers of many digits.

    A lane's upper half takes up products, and what is shifted out of the lane above.
    """
    size, count = len(keys[0]), len(keys)
    lane_bytes = max((size + 3) // _WORD_BYTES * _WORD_BYTES, _LEAST_LANE_BYTES)
    ones = int.from_bytes((b"\1" + bytes(lane_bytes - 1)) * count, "little")
    mask = ones * _32_BITS
    rest = int.from_bytes(bytes(lane_bytes - size).join(keys), "little")
    hashed = ones * (_SEED ^ size)
    for _ in range(size // _WORD_BYTES):
        mixed = (rest & mask) * _MULTIPLIER & mask
        hashed = (hashed * _MULTIPLIER ^ (mixed ^ mixed >> 24 & mask) * _MULTIPLIER) & mask
        rest >>= 32
    if size % _WORD_BYTES:
        hashed = (hashed ^ rest & mask) * _MULTIPLIER & mask
    hashed = (hashed ^ hashed >> 13 & mask) * _MULTIPLIER & mask
    hashed ^= hashed >> 15
    lanes = hashed.to_bytes(lane_bytes * count, "little")
    words = iter_unpack(f"<I{lane_bytes - _WORD_BYTES}x", lanes)
    return [word & _31_BITS for (word,) in words]
