"""The whole path, as its users run it: HTTP in, a real Kafka, an independent client out."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from bridge.demo.child import free_ports, wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.errors import BridgeError
from bridge.gateway.listeners import ACCEPTS
from tests.support.brokers import ExternalKafka, KafkaCluster
from tests.support.gateway import Gateway, configuration
from tests.support.topics import Record, read_topic

KEYS = [str(n) for n in range(3200, 3260)]


def document(*ids: str, status: str = "read") -> bytes:
    states = "".join(
        f'<state id_sms="{id_sms}" time="2011-01-01 12:57:46" sms="deliver" viber="{status}">'
        f"{status}</state>"
        for id_sms in ids
    )
    return f'<?xml version="1.0" encoding="utf-8" ?><response>{states}</response>'.encode()


@pytest.fixture
def rejected(kafka: ExternalKafka, kafka_topic: str) -> str:
    """The dead-letter topic that belongs to `kafka_topic`."""
    kafka.create_topic(f"{kafka_topic}.rejected", 1)
    return f"{kafka_topic}.rejected"


@pytest.fixture
def gateway(kafka: ExternalKafka, kafka_topic: str, rejected: str) -> Iterator[Gateway]:
    """The program on the real Kafka."""
    config = configuration(kafka.bootstrap_servers, kafka_topic, rejected)
    config["kafka"]["publish_timeout_seconds"] = 60  # of no test here: a busy machine has its time
    with Gateway(config) as running:
        yield running


def read(kafka: ExternalKafka, topic: str, expect: int) -> list[Record]:
    return read_topic(kafka.bootstrap_servers, topic, expect=expect)


def event(record: Record) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(record.value or b"")
    return decoded


def test_what_is_acknowledged_is_in_kafka(
    kafka: ExternalKafka, gateway: Gateway, kafka_topic: str
) -> None:
    before = time.time()
    assert gateway.post(document(*KEYS)).ids == KEYS
    records = read(kafka, kafka_topic, len(KEYS))
    assert sorted(event(r)["id"].split(".")[0] for r in records) == KEYS
    for record in records:
        one = event(record)
        assert record.key == one["partitionkey"].encode() == one["data"]["id_sms"].encode()
        assert dict(record.headers) == {"content-type": b"application/cloudevents+json"}
        assert one["time"] == "2011-01-01T12:57:46Z"
        assert before * 1000 - 1 <= record.timestamp_ms <= time.time() * 1000


def test_the_partition_is_javas(kafka: ExternalKafka, gateway: Gateway, kafka_topic: str) -> None:
    """The same keys, sent by another client with Java's partitioner, land in the same places."""
    gateway.post(document(*KEYS))
    ours = {r.key: r.partition for r in read(kafka, kafka_topic, len(KEYS))}
    theirs: dict[bytes | None, int | None] = {}
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2"})
    for key in KEYS:
        producer.produce(
            kafka_topic,
            key=key,
            on_delivery=lambda _, m: theirs.update({m.key(): m.partition()}),
        )
    assert producer.flush(30) == 0
    assert ours == theirs
    assert len(set(ours.values())) == 3


def test_a_retry_of_the_same_state_has_the_same_event_id(
    kafka: ExternalKafka, kafka_topic: str, rejected: str
) -> None:
    """As after a restart, where nothing is remembered."""
    config = configuration(kafka.bootstrap_servers, kafka_topic, rejected)
    for _ in range(2):
        with Gateway(config) as gateway:
            assert gateway.post(document("3234")).ids == ["3234"]
    first, second = (event(r) for r in read(kafka, kafka_topic, 2))
    assert first["id"] == second["id"] == "3234.940d7bb750bed8bb52b9621402425a66"
    differing = {k for k in first["data"] if first["data"][k] != second["data"][k]}
    assert differing == {"received_at"}
    assert first | {"data": None} == second | {"data": None}


def test_a_retry_of_what_kafka_has_is_acknowledged_without_a_second_record(
    kafka: ExternalKafka, gateway: Gateway, kafka_topic: str
) -> None:
    for ids in (["1", "2"], ["2", "3"], ["1", "2", "3"]):
        assert gateway.post(document(*ids)).ids == ids
    assert {r.key for r in read(kafka, kafka_topic, 3)} == {b"1", b"2", b"3"}
    assert len(read(kafka, kafka_topic, 3)) == 3
    metrics = gateway.admin("/metrics").body.decode()
    assert 'sms_bridge_suppressed_duplicates_total{endpoint="main"} 4.0' in metrics


def test_a_state_in_json_is_a_retry_of_the_same_state_in_xml(
    kafka: ExternalKafka, gateway: Gateway, kafka_topic: str
) -> None:
    """It is acknowledged, in JSON, without a second record."""
    state = {"id_sms": 3234, "time": "2011-01-01 12:57:46", "state": "read"}
    twin = state | {"sms": "deliver", "viber": "read"}
    assert gateway.post(document("3234")).ids == ["3234"]

    answer = gateway.post(json.dumps([twin, twin | {"price": 0.5}]).encode())

    assert (answer.status, answer.body) == (200, b'[{"id_sms":3234}]')
    ids = {event(record)["id"] for record in read(kafka, kafka_topic, 2)}
    assert "3234.940d7bb750bed8bb52b9621402425a66" in ids
    assert len(ids) == 2


def test_a_topic_that_is_made_again_gets_its_records_again(
    kafka: ExternalKafka, gateway: Gateway, kafka_topic: str
) -> None:
    """What was in the topic that is gone is not acknowledged from memory."""
    assert gateway.post(document("1")).ids == ["1"]
    kafka.delete_topic(kafka_topic)
    kafka.create_topic(kafka_topic, 3)
    wait_until(lambda: gateway.post(document("1")).ids == ["1"], "it is acknowledged again", 15)
    assert {r.key for r in read(kafka, kafka_topic, 1)} == {b"1"}


def test_dead_letters(
    kafka: ExternalKafka, gateway: Gateway, kafka_topic: str, rejected: str
) -> None:
    """An invalid state is acknowledged by its dead letter, a rejected body never."""
    assert gateway.post(document("1", "b@d", "2")).ids == ["1", "b@d", "2"]
    assert gateway.post(b"<response><state").status == 400
    assert len(read(kafka, kafka_topic, 2)) == 2
    state, body = (event(r) for r in read(kafka, rejected, 2))
    assert (state["type"], body["type"]) == ("com.example.messaging.rejected",) * 2
    assert state["data"]["reason"] == "invalid_id"
    assert state["data"]["state"]["attributes"]["id_sms"] == "b@d"
    assert body["data"]["reason"] == "not_xml"
    assert body["data"]["body"] == "<response><state"


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_content_modes_and_compressions(
    kafka: ExternalKafka, kafka_topic: str, rejected: str, compression: str, mode: str
) -> None:
    config = configuration(kafka.bootstrap_servers, kafka_topic, rejected)
    config["kafka"]["compression"] = compression
    config["events"]["content_mode"] = mode
    with Gateway(config) as gateway:
        assert gateway.post(document(*KEYS)).ids == KEYS
    records = read(kafka, kafka_topic, len(KEYS))
    assert sorted((r.key or b"").decode() for r in records) == KEYS
    headers = dict(records[0].headers)
    if mode == "structured":
        assert headers == {"content-type": b"application/cloudevents+json"}
        assert event(records[0])["data"]["status"] == "read"
    else:
        assert headers["ce_type"] == b"com.example.messaging.status.read"
        assert headers["content-type"] == b"application/json"
        assert event(records[0])["status"] == "read"


def test_ten_thousand_states_in_one_document(
    kafka: ExternalKafka, gateway: Gateway, kafka_topic: str
) -> None:
    ids = [str(n) for n in range(10_000)]
    assert gateway.post(document(*ids)).ids == ids
    assert len({event(r)["id"] for r in read(kafka, kafka_topic, len(ids))}) == len(ids)


def test_a_record_that_the_topic_refuses_becomes_a_dead_letter(
    kafka: ExternalKafka, topic: str
) -> None:
    """The others of its document and batch are published all the same."""
    kafka.create_topic(topic, 1, config={"max.message.bytes": "4000"})
    kafka.create_topic(f"{topic}.rejected", 1)
    large = b'<state id_sms="2" note="%b">read</state>' % (b"x" * 4000)
    body = b'<response><state id_sms="1">read</state>%b<state id_sms="3">send</state></response>'
    with Gateway(configuration(kafka.bootstrap_servers, topic)) as gateway:
        assert gateway.post(body % large).ids == ["1", "2", "3"]
    assert {r.key for r in read(kafka, topic, 2)} == {b"1", b"3"}
    (letter,) = read(kafka, f"{topic}.rejected", 1)
    assert event(letter)["data"]["reason"] == "too_large"


# --- topics ------------------------------------------------------------------------------


def test_missing_topics_are_named_and_taken_up_once_they_are_there(
    kafka: ExternalKafka, topic: str
) -> None:
    with Gateway(configuration(kafka.bootstrap_servers, topic), wait_ready=False) as gateway:
        wait_until(lambda: any(log.get("topic") == topic for log in gateway.logs()), "it is said")
        assert gateway.admin("/livez").status == 200
        assert gateway.admin("/readyz").status == 503
        answer = gateway.post(document("1"))
        assert (answer.status, answer.ids) == (503, [])
        said = [log for log in gateway.logs() if log["event"] == "topic is missing"]
        assert {log["topic"] for log in said} == {topic, f"{topic}.rejected"}
        assert all("kafka-topics.sh --create" in log["create_it_with"] for log in said)
        kafka.create_topic(topic, 1)
        wait_until(lambda: gateway.admin("/readyz").status == 200, "it is ready", 10)
        assert gateway.post(document("1")).ids == ["1"]


def test_missing_topics_are_made_where_that_is_enabled(kafka: ExternalKafka, topic: str) -> None:
    create = {
        "enabled": True,
        "partitions": 5,
        "replication_factor": 1,
        "config": {"min.insync.replicas": "1", "retention.ms": "3600000"},
    }
    config = configuration(kafka.bootstrap_servers, topic)
    config["kafka"]["create_topics"] = create
    with Gateway(config) as gateway:
        assert gateway.post(document(*KEYS)).ids == KEYS
    topics = kafka.admin().list_topics(timeout=10).topics
    assert len(topics[topic].partitions) == len(topics[f"{topic}.rejected"].partitions) == 5


# --- Kafka away --------------------------------------------------------------------------


def test_it_starts_without_kafka_and_is_ready_within_seconds_of_it(topic: str) -> None:
    (port,) = free_ports(1)
    config = configuration(f"127.0.0.1:{port}", topic)
    config["kafka"]["publish_timeout_seconds"] = 1
    with Gateway(config, wait_ready=False) as gateway:
        assert gateway.admin("/livez").status == 200
        assert gateway.admin("/readyz").status == 503
        answer = gateway.post(document("1"))
        assert (answer.status, answer.ids) == (503, [])
        assert gateway.terminate() == 0


def test_an_outage_is_a_true_503_and_ends_by_itself(
    kafka_cluster: KafkaCluster, topic: str
) -> None:
    """Ready all the while: an empty Service would turn true answers into broken connections."""
    kafka_cluster.create_topic(topic, 3)
    kafka_cluster.create_topic(f"{topic}.rejected", 1)
    config = configuration(kafka_cluster.bootstrap_servers, topic)
    config["kafka"]["publish_timeout_seconds"] = 1
    with Gateway(config) as gateway:
        assert gateway.post(document("1")).ids == ["1"]
        kafka_cluster.kill()
        answer = gateway.post(document("2"))  # which the client of Kafka would hold for ever
        assert (answer.status, answer.ids) == (503, [])
        assert gateway.admin("/readyz").status == 200
        kafka_cluster.restart()
        wait_until(lambda: gateway.post(document("3")).ids == ["3"], "it publishes again")
    keys = {r.key for r in read(kafka_cluster, topic, 2)}
    assert {b"1", b"3"} <= keys


def test_kafka_that_comes_late_is_found(kafka_cluster: KafkaCluster, topic: str) -> None:
    kafka_cluster.create_topic(topic, 3)
    kafka_cluster.create_topic(f"{topic}.rejected", 1)
    kafka_cluster.kill()
    config = configuration(kafka_cluster.bootstrap_servers, topic)
    with Gateway(config, wait_ready=False) as gateway:
        assert gateway.admin("/readyz").status == 503
        kafka_cluster.restart()
        wait_until(lambda: gateway.admin("/readyz").status == 200, "it is ready", 10)
        assert gateway.post(document("1")).ids == ["1"]


# --- the end -----------------------------------------------------------------------------


@pytest.fixture
def on_embedded(embedded: EmbeddedBroker, topic: str) -> Iterator[Gateway]:
    """The program on the in-memory broker."""
    producer = Producer({"bootstrap.servers": embedded.bootstrap_servers})
    for name in (topic, f"{topic}.rejected"):
        producer.list_topics(name, timeout=10)
    with Gateway(configuration(embedded.bootstrap_servers, topic)) as running:
        yield running


def test_sigterm_ends_it_with_status_0(on_embedded: Gateway) -> None:
    assert on_embedded.post(document("1")).ids == ["1"]
    assert on_embedded.terminate() == 0
    assert on_embedded.logs()[-1]["event"] == "stopped"


def test_a_post_that_is_half_sent_at_sigterm_gets_its_true_answer(on_embedded: Gateway) -> None:
    body = document("1")
    with socket.create_connection(on_embedded.server_address, timeout=10) as client:
        head = f"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body[:20])
        wait_until(lambda: on_embedded.admin("/livez").status == 200, "it is alive")
        on_embedded.process.terminate()
        wait_until(
            lambda: any(log["event"] == "draining" for log in on_embedded.logs()), "it drains"
        )
        client.sendall(body[20:])
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"<id_sms>1</id_sms>" in answer
    assert b"connection: close" in answer.lower()
    assert on_embedded.process.wait(30) == 0


def test_a_busy_port_is_one_clear_message(on_embedded: Gateway, topic: str) -> None:
    config = configuration("127.0.0.1:1", topic)
    config["server"]["port"] = on_embedded.server_address[1]
    with pytest.raises(BridgeError, match="cannot listen on"):
        Gateway(config).__enter__()


def test_new_connections_are_taken_several_at_a_time(on_embedded: Gateway) -> None:
    """Else whoever connects waits a turn of the loop for each who came before."""
    listening = Path(f"/proc/{on_embedded.process.pid}/net/tcp").read_text(encoding="ascii")
    port = f":{on_embedded.server_address[1]:04X}"
    inodes = {line.split()[9] for line in listening.splitlines() if f"{port} 00000000:0000" in line}
    links = [str(fd.readlink()) for fd in Path(f"/proc/{on_embedded.process.pid}/fd").iterdir()]
    assert sum(link == f"socket:[{inode}]" for link in links for inode in inodes) == ACCEPTS
