"""Which partition a record goes to; test_guarantees.py asks Java's own client."""

from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from bridge.kafka.partitions import hashes, partition_of

KEYS = st.binary(max_size=80)  # an id has 64 at most, a dead letter's key more
EXTREME = (b"", b"\0", b"\xff" * 3, b"\xff" * 4, b"\0" * 8, b"\xff" * 64, b"\x80" * 65)


def of_aiokafka(key: bytes) -> int:
    hashed: int = murmur2(key) & 0x7FFFFFFF
    return hashed


@given(KEYS, st.integers(1, 2**31))
def test_the_partition_is_the_one_that_aiokafka_would_choose(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == of_aiokafka(key) % partitions


@given(st.lists(KEYS, max_size=40))
def test_keys_of_a_document_are_hashed_as_each_alone(keys: list[bytes]) -> None:
    assert list(hashes(keys)) == [of_aiokafka(key) for key in keys]


@given(st.integers(0, 80).flatmap(lambda n: st.lists(st.binary(min_size=n, max_size=n))))
def test_keys_of_one_size_are_hashed_as_each_alone(keys: list[bytes]) -> None:
    """Nearly all ids of a document are as long as each other: all are hashed at once then."""
    assert list(hashes(keys)) == [of_aiokafka(key) for key in keys]


def test_no_key_reaches_into_that_of_its_neighbour() -> None:
    """All bits set, and none, side by side, at every size and number."""
    for key in EXTREME:
        for neighbour in (bytes(len(key)), b"\xff" * len(key)):
            for times in (1, 2, 3, 500):
                keys = [key, neighbour] * times
                assert list(hashes(keys)) == [of_aiokafka(each) for each in keys]
