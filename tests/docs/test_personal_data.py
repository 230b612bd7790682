"""The page on personal data is held against a real Kafka, and against the program."""

import json
import re
from pathlib import Path

from confluent_kafka import Producer, TopicPartition

from bridge.config.settings import Kafka
from tests.support.brokers import ExternalKafka
from tests.support.topics import read_topic

PAGE = (Path(__file__).parents[2] / "docs/personal-data.md").read_text(encoding="utf-8")


def configs() -> dict[str, dict[str, str]]:
    """What the page sets, by topic."""
    text = PAGE.replace("\\\n", " ")
    found = re.findall(r"--entity-name (\S+)\s+--add-config (\S+)", text)
    return {topic: dict(pair.split("=") for pair in given.split(",")) for topic, given in found}


def test_it_speaks_of_the_topics_of_the_example() -> None:
    defaults = Kafka()
    assert set(configs()) == {defaults.topic, defaults.dead_letter_topic}
    named = set(re.findall(r"(?:--topic|--entity-name) (\S+)", PAGE))
    assert named == set(configs())


def test_a_topic_takes_the_retention_that_the_page_sets(kafka: ExternalKafka, topic: str) -> None:
    """And a record lives no longer than the two of them together, as the page counts."""
    for number, config in enumerate(configs().values()):
        kafka.create_topic(f"{topic}.{number}", 1, config=config)
        assert config["cleanup.policy"] == "delete"
        assert int(config["segment.ms"]) < int(config["retention.ms"])


def test_what_lies_before_the_offset_of_the_page_is_deleted(
    kafka: ExternalKafka, kafka_topic: str
) -> None:
    (given,) = re.findall(r"^ *(\{\"version\".*)$", PAGE, re.MULTILINE)
    (partition,) = json.loads(given)["partitions"]
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    number, offset = partition["partition"], partition["offset"]
    for count in range(offset + 3):
        producer.produce(kafka_topic, str(count), partition=number)
    assert producer.flush(10) == 0
    admin = kafka.admin()
    for done in admin.delete_records([TopicPartition(kafka_topic, number, offset)]).values():
        done.result(15)
    left = read_topic(kafka.bootstrap_servers, kafka_topic)
    assert [record.offset for record in left] == [offset, offset + 1, offset + 2]
