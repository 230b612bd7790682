"""What subscribers are promised of a topic, on two replicas of the real program.

One replica writes the structured content mode and the other the binary one, as during a change.
"""

import os
import random
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import reduce
from itertools import product
from pathlib import Path

import pytest
from confluent_kafka import Producer

from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.kafka.partitions import partition_of
from bridge.model import MEANINGS
from bridge.subscriber import StatusEvent, latest, read
from tests.support.brokers import kafka_libraries
from tests.support.gateway import Gateway, configuration
from tests.support.maven import JarsUnavailableError
from tests.support.topics import Record, read_topic

PROGRAM = Path(__file__).parent / "kafka/Partition.java"


@pytest.fixture
def replicas(embedded: EmbeddedBroker, topic: str) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways on one topic of four partitions; neither knows what the other wrote."""
    producer = Producer({"bootstrap.servers": embedded.bootstrap_servers})
    for name in (topic, f"{topic}.rejected"):
        producer.list_topics(name, timeout=10)
    structured, binary = (
        configuration(embedded.bootstrap_servers, topic, events={"content_mode": mode})
        for mode in ("structured", "binary")
    )
    with Gateway(structured) as one, Gateway(binary) as other:
        yield one, other


def state(id_sms: str, status: str, *, time: str = "2011-01-01 12:57:46", more: str = "") -> str:
    return f'<state id_sms="{id_sms}" time="{time}" {more}>{status}</state>'


def post(gateway: Gateway, *states: str) -> None:
    assert gateway.post(f"<response>{''.join(states)}</response>".encode()).status == 200


def records(embedded: EmbeddedBroker, topic: str, expect: int) -> list[Record]:
    found = read_topic(embedded.bootstrap_servers, topic, expect=expect)
    assert len(found) == expect
    return found


def event(record: Record) -> StatusEvent:
    found = read(record.value, record.headers)
    assert isinstance(found, StatusEvent)
    return found


def test_a_state_that_two_replicas_take_has_one_identity(
    embedded: EmbeddedBroker, topic: str, replicas: tuple[Gateway, Gateway]
) -> None:
    """It is there twice, in one partition, and a subscriber sees that it is the same."""
    for gateway in replicas:
        post(gateway, state("3234", "read", more='sms="deliver" viber="read"'))

    one, other = records(embedded, topic, 2)

    assert one.partition == other.partition
    assert event(one).identity == event(other).identity
    assert event(one).id == "3234.940d7bb750bed8bb52b9621402425a66"


def test_what_copies_may_differ_in(
    embedded: EmbeddedBroker, topic: str, replicas: tuple[Gateway, Gateway]
) -> None:
    """The time of receipt, and `time` if it is that of receipt."""
    for gateway in replicas:
        post(gateway, state("1", "send", time="", more='price="1"'))

    one, other = map(event, records(embedded, topic, 2))

    assert one.identity == other.identity
    fields = set(StatusEvent.__dataclass_fields__) - {"data"}
    differing = {name for name in fields if getattr(one, name) != getattr(other, name)}
    assert differing == {"received_at", "time"}


def test_the_log_is_in_order_of_arrival(
    embedded: EmbeddedBroker, topic: str, replicas: tuple[Gateway, Gateway]
) -> None:
    """The diagram: a `send` whose answer was lost comes again after the `read`."""
    one, other = replicas
    post(one, state("3234", "send", time=""))
    post(other, state("3234", "read"))
    post(other, state("3234", "send", time=""))

    events = [event(record) for record in records(embedded, topic, 3)]

    assert [e.status for e in events] == ["send", "read", "send"]
    assert events[0].identity == events[2].identity
    assert reduce(latest, events).status == "read"


def test_states_of_one_message_share_a_partition_and_no_identity(
    embedded: EmbeddedBroker, topic: str, replicas: tuple[Gateway, Gateway]
) -> None:
    """Whatever the replica and the order; and each message's latest status is `read`."""
    ids = [f"{number:03}" for number in range(40)]
    times = ("2011-01-01 12:57:46", "2011-01-01 12:57:47")
    states = [state(*each, time=time) for time in times for each in product(ids, MEANINGS)]
    random.Random(7).shuffle(states)
    middle = len(states) // 2
    post(replicas[0], *states[:middle])
    post(replicas[1], *states[middle:])

    found = records(embedded, topic, len(states))

    events = [event(record) for record in found]
    assert len({e.identity for e in events}) == len(states)
    partitions = defaultdict(set)
    for record, each in zip(found, events, strict=True):
        partitions[each.message].add(record.partition)
    assert {len(places) for places in partitions.values()} == {1}
    assert {place for places in partitions.values() for place in places} == {0, 1, 2, 3}
    for message in partitions:
        last = reduce(latest, [e for e in events if e.message == message])
        assert (last.status, last.raw_time) == ("read", times[1])


@pytest.mark.kafka
def test_the_partition_is_the_one_that_java_chooses() -> None:
    """Asked of the class that Java's producer itself asks."""
    try:
        libraries = kafka_libraries()
    except JarsUnavailableError as exc:
        pytest.skip(f"no Java client: {exc}")
    draw = random.Random(7)
    alphabet = "abcXYZ0189._-№ї😀"
    keys = [str(n) for n in range(500)]
    keys += ["".join(draw.choices(alphabet, k=draw.randint(1, 64))) for _ in range(500)]
    asked = [(key, draw.randint(1, 64)) for key in keys]
    java = f"{os.environ['JAVA_HOME']}/bin/java" if "JAVA_HOME" in os.environ else "java"

    done = subprocess.run(
        [java, "-cp", f"{libraries}/*", str(PROGRAM)],
        input="".join(f"{count} {key}\n" for key, count in asked).encode(),
        capture_output=True,
        check=True,
        timeout=60,
    )

    theirs = [int(line) for line in done.stdout.split()]
    assert theirs == [partition_of(key.encode(), count) for key, count in asked]
    assert len(set(theirs)) > 32
