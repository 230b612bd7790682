import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import KafkaException

from bridge.demo.child import wait_until
from tests.support.brokers import ExternalKafka, KafkaCluster
from tests.support.topics import read_topic

StartKafka = Callable[[KafkaCluster], KafkaCluster]


async def produce(bootstrap_servers: str, topic: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, enable_idempotence=True
    ) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, key=value, headers=[("h", b"v")])


async def test_what_is_produced_is_read_back(kafka: ExternalKafka, kafka_topic: str) -> None:
    """Every record of every partition, with its place, key, headers and time."""
    values = [b"%d" % n for n in range(30)]
    await produce(kafka.bootstrap_servers, kafka_topic, values)

    records = read_topic(kafka.bootstrap_servers, kafka_topic)

    assert sorted(record.value or b"" for record in records) == sorted(values)
    assert all(record.key == record.value for record in records)
    assert {record.headers for record in records} == {(("h", b"v"),)}
    assert {record.partition for record in records} == {0, 1, 2}
    for partition in range(3):
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == list(range(len(offsets)))
    assert min(record.timestamp_ms for record in records) > 1_600_000_000_000


def test_reading_waits_for_what_is_expected(kafka: ExternalKafka, kafka_topic: str) -> None:
    """An empty topic is read as such; records that do not come are an error, not fewer."""
    assert read_topic(kafka.bootstrap_servers, kafka_topic) == []
    with pytest.raises(TimeoutError, match="0 records of 1"):
        read_topic(kafka.bootstrap_servers, kafka_topic, expect=1, timeout=1)


def test_topics_come_and_go(kafka: ExternalKafka, topic: str) -> None:
    """A topic is there with its settings once made, gone once deleted, and never by itself."""
    with pytest.raises(KafkaException):
        read_topic(kafka.bootstrap_servers, topic, timeout=5)

    kafka.create_topic(topic, 2, config={"max.message.bytes": "2000"})
    assert len(kafka.admin().list_topics(timeout=5).topics[topic].partitions) == 2

    kafka.delete_topic(topic)
    assert topic not in kafka.admin().list_topics(timeout=5).topics


async def test_a_killed_node_comes_back_on_its_port_with_its_records(
    kafka_cluster: KafkaCluster, kafka_topic: str
) -> None:
    before = kafka_cluster.bootstrap_servers
    await produce(before, kafka_topic, [b"one", b"two"])

    kafka_cluster.kill()
    with pytest.raises(KafkaException):
        kafka_cluster.admin().list_topics(timeout=0.5)
    kafka_cluster.restart()
    await produce(before, kafka_topic, [b"three"])

    assert kafka_cluster.bootstrap_servers == before
    records = read_topic(before, kafka_topic, expect=3)
    assert sorted(record.value or b"" for record in records) == [b"one", b"three", b"two"]


async def test_a_frozen_node_does_not_answer_until_it_is_thawed(
    kafka_cluster: KafkaCluster, kafka_topic: str
) -> None:
    kafka_cluster.freeze()
    with pytest.raises(KafkaException):
        kafka_cluster.admin().list_topics(timeout=0.5)
    kafka_cluster.thaw()

    await produce(kafka_cluster.bootstrap_servers, kafka_topic, [b"after"])
    assert len(read_topic(kafka_cluster.bootstrap_servers, kafka_topic, expect=1)) == 1


def test_a_cluster_of_three_replicates_and_survives_one_node(new_kafka: StartKafka) -> None:
    """With two of three nodes left a topic of three replicas is read from its beginning."""
    cluster = new_kafka(KafkaCluster(nodes=3))
    cluster.create_topic("t", 1, replication_factor=3, config={"min.insync.replicas": "2"})
    replicas = cluster.admin().list_topics(timeout=5).topics["t"].partitions[0].replicas
    assert set(replicas) == {1, 2, 3}
    cluster.kill(2)

    wait_until(
        lambda: set(cluster.admin().list_topics(timeout=5).brokers) == {1, 3},
        "the end of the killed node's session",
    )
    assert read_topic(cluster.bootstrap_servers, "t") == []


def test_a_listener_can_be_added(new_kafka: StartKafka, topic: str) -> None:
    """It has a port of its own, and clients come in through it."""
    cluster = new_kafka(KafkaCluster(listeners={"OTHER": "PLAINTEXT"}))
    cluster.create_topic(topic, 1)
    other = cluster.addresses("OTHER")

    assert other != cluster.bootstrap_servers
    assert read_topic(other, topic) == []


def test_a_node_that_cannot_start_tells_the_end_of_its_log(new_kafka: StartKafka) -> None:
    with pytest.raises(RuntimeError, match=r"log\.cleaner\.threads"):
        new_kafka(KafkaCluster(properties={"log.cleaner.threads": "many"}))


@pytest.mark.parametrize(("ci", "status", "word"), [("", 0, "1 skipped"), ("true", 1, "may not")])
def test_in_ci_a_test_on_a_real_kafka_may_not_be_skipped(
    ci: str, status: int, word: str, tmp_path: Path
) -> None:
    """Elsewhere a machine that cannot run Kafka skips it and says why."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__]
    environment = {"PATH": str(tmp_path), "CI": ci, "HOME": str(tmp_path)}

    done = subprocess.run(
        [*command, "-k", "topics_come_and_go"],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == status, done.stdout
    assert word in done.stdout
    assert "java is not installed" in done.stdout
