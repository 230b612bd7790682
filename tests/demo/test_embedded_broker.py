import signal
import subprocess
import sys

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from bridge.config.settings import Kafka
from bridge.demo.embedded_broker import NOT_INSTALLED, EmbeddedBroker, main
from bridge.errors import BridgeError
from bridge.kafka.admin import describe
from tests.support.topics import read_topic

WAIT_SECONDS = 10.0


def answers(bootstrap_servers: str, timeout: float) -> bool:
    """Say whether the broker answers a metadata request within `timeout` seconds."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        admin.list_topics(timeout=timeout)
    except KafkaException:
        return False
    return True


async def produce(bootstrap_servers: str, topic: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, enable_idempotence=True
    ) as producer:
        for value in values:
            await producer.send_and_wait(
                topic, value, key=b"k", headers=[("h", b"v")], timestamp_ms=1_700_000_000_000
            )


async def test_an_idempotent_producer_writes_what_another_client_reads(
    embedded: EmbeddedBroker, topic: str
) -> None:
    """Key, value, header and timestamp of each record come back, in order, once."""
    await produce(embedded.bootstrap_servers, topic, [b"one", b"two"])

    records = read_topic(embedded.bootstrap_servers, topic, expect=2)

    assert [record.value for record in records] == [b"one", b"two"]
    assert {record.key for record in records} == {b"k"}
    assert {record.headers for record in records} == {(("h", b"v"),)}
    assert {record.timestamp_ms for record in records} == {1_700_000_000_000}
    assert [record.offset for record in records] == [0, 1]


async def test_check_says_that_this_broker_tells_no_settings(
    new_embedded: type[EmbeddedBroker],
) -> None:
    """It answers, and says that it does not support the question."""
    with new_embedded("first") as broker:
        settings = Kafka(bootstrap_servers=(broker.bootstrap_servers,), topic="first")
        described = await describe(settings, ["first"])

    assert described["first"].unreadable == "the broker does not support it (DescribeConfigs)"


def test_the_topics_named_exist_when_the_address_is_known(
    new_embedded: type[EmbeddedBroker],
) -> None:
    """A client that only looks finds them, with partitions that have a leader."""
    with new_embedded("first", "second") as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        found = admin.list_topics(timeout=WAIT_SECONDS).topics

    assert {"first", "second"} <= set(found)
    assert all(p.leader == 1 for p in found["first"].partitions.values())


async def test_a_frozen_broker_does_not_answer_and_a_thawed_one_still_has_its_records(
    new_embedded: type[EmbeddedBroker],
) -> None:
    with new_embedded("sms.status") as broker:
        await produce(broker.bootstrap_servers, "sms.status", [b"before"])

        broker.freeze()
        assert not answers(broker.bootstrap_servers, timeout=0.5)

        broker.thaw()
        assert answers(broker.bootstrap_servers, timeout=WAIT_SECONDS)
        (record,) = read_topic(broker.bootstrap_servers, "sms.status", expect=1)
        assert record.value == b"before"


def test_a_frozen_broker_can_be_stopped(new_embedded: type[EmbeddedBroker]) -> None:
    broker = new_embedded()
    broker.start()
    broker.freeze()

    broker.stop()

    with pytest.raises(BridgeError, match="not running"):
        broker.freeze()


def run_by_hand() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bridge.demo.embedded_broker", "--topic", "sms.status"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.embedded
def test_the_process_prints_one_address_and_ends_when_its_parents_pipe_closes() -> None:
    """A parent that dies closes the pipe, whatever it died of."""
    with run_by_hand() as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert answers(address, timeout=WAIT_SECONDS)

        rest, _ = process.communicate(timeout=WAIT_SECONDS)

    assert process.returncode == 0
    assert rest == ""
    assert not answers(address, timeout=0.5)


@pytest.mark.embedded
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_with_status_0(signum: signal.Signals) -> None:
    with run_by_hand() as process:
        assert process.stdout is not None
        process.stdout.readline()

        process.send_signal(signum)

        assert process.wait(WAIT_SECONDS) == 0


def test_without_confluent_kafka_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)

    with pytest.raises(BridgeError) as caught, EmbeddedBroker():
        pass

    assert str(caught.value) == NOT_INSTALLED
    assert "the extra `embedded`" in NOT_INSTALLED
    with pytest.raises(SystemExit, match="embedded"):
        main([])


def test_a_broker_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address comes from a child that fails: its status is told, and nothing is left."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    broker = EmbeddedBroker()

    with pytest.raises(BridgeError, match="status 1 before it was ready"):
        broker.start()
    with pytest.raises(BridgeError, match="not running"):
        broker.thaw()
