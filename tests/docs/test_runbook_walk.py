"""Each fault of the runbook, provoked on the running gateway.

What the page says to look at is there, and what it says to do works. Whether its words are the
program's is in test_runbook.py; which alerts fire, in tests/helm.
"""

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from bridge.demo.child import HOST, Child, wait_until
from bridge.demo.processes import bridge
from bridge.simulate.api import Api
from tests.docs.runbook import PREAMBLE, ROOT, commands, sections, words
from tests.support.brokers import ExternalKafka, KafkaCluster
from tests.support.gateway import Gateway, configuration
from tests.support.kafka_tools import run_tool
from tests.support.provider import TOKEN, known
from tests.support.quotas import limit_rate
from tests.support.scripted_broker import ScriptedBroker
from tests.support.senders import document
from tests.support.topics import read_topic

PATIENCE_SECONDS = 120.0  # of a busy machine
INVALID = b'<response><state id_sms="b@d">read</state></response>'
Config = dict[str, Any]
F = TypeVar("F", bound=Callable[..., object])


WALKED: set[str] = set()
# Provoked by the tests of that module, in each of its ways.
ELSEWHERE = {"SmsBridgeLogLinesDropped": "tests/observability/test_log_writer.py"}


def walks(*alerts: str) -> Callable[[F], F]:
    """Say which sections of the page a test is for."""
    WALKED.update(alerts)
    return lambda test: test


def test_every_section_is_walked() -> None:
    assert WALKED | {PREAMBLE, *ELSEWHERE} == {*sections()}
    assert all((ROOT / each).exists() for each in ELSEWHERE.values())


def shows(section: str, line: Mapping[str, Any], *fields: str) -> None:
    """The line of the log has these fields; the page's section names them, and the line."""
    event = str(line.get("event", "request")).partition(";")[0]
    assert {event, *fields} <= {*words(section), "request"}
    assert {*fields} <= line.keys()


def run(command: str, config: Path, status: int = 0) -> str:
    """Run a command of the page with a configuration, in its directory; what it writes."""
    done = call(command, config)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def call(command: str, config: Path) -> "subprocess.CompletedProcess[str]":
    """Run it, whatever comes of it."""
    assert command in commands()
    return subprocess.run(
        [*bridge(*shlex.split(command.replace("FILE", str(config)))[1:])],
        env=environment(config),
        cwd=config.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def environment(config: Path) -> dict[str, str]:
    return {**os.environ, "SMS_BRIDGE_CONFIG": str(config), "NO_COLOR": "1"}


class Followed(Child):
    """A command of the page that does not end by itself; it follows topics by now."""

    def __init__(self, command: str, config: Path) -> None:
        assert command in commands()
        self._config = config
        call = bridge(*shlex.split(command)[1:])
        log = config.with_suffix(".followed")
        super().__init__(command, *call, log=log, environ=environment(config))

    def start(self) -> None:
        super().start()
        self.wait_until(lambda: "following" in self.output, "it follows", PATIENCE_SECONDS)

    def event(self, **data: Any) -> dict[str, Any]:
        """The first event with these data, as soon as it is shown."""

        def found() -> list[dict[str, Any]]:
            shown = [x for x in self.output.splitlines(keepends=True) if x.endswith("}\n")]
            events = [json.loads(line)["event"] for line in shown]
            return [each for each in events if data.items() <= each["data"].items()]

        self.wait_until(lambda: bool(found()), f"an event with {data}", PATIENCE_SECONDS)
        return found()[0]


def write(gateway: Gateway, config: Config) -> None:
    """Change the configuration in one step; the gateway finds it."""
    new = gateway.config_file.with_suffix(".new")
    new.write_text(yaml.safe_dump(config))
    new.rename(gateway.config_file)


def until(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, what, PATIENCE_SECONDS)


def ready(gateway: Gateway) -> tuple[int, str]:
    answer = gateway.admin("/readyz")
    return answer.status, answer.body.decode().strip()


def acknowledged(gateway: Gateway, *ids: str) -> bool:
    return gateway.post(document(*ids)).ids == [*ids]


def of_endpoint(config: Config, **changes: Any) -> Config:
    """The configuration with some settings of its endpoint changed."""
    return config | {"endpoints": [config["endpoints"][0] | changes]}


@pytest.fixture
def config(kafka: ExternalKafka, topic: str) -> Config:
    """That of a gateway on topics that are there."""
    for name in (topic, f"{topic}.rejected"):
        kafka.create_topic(name, 1)
    return configuration(kafka.bootstrap_servers, topic)


@pytest.fixture
def gateway(config: Config) -> Iterator[Gateway]:
    with Gateway(config) as running:
        yield running


# --- one message, and after an outage ----------------------------------------------------


def test_what_became_of_one_message(gateway: Gateway) -> None:
    """The topic tells of what was acknowledged, and the log names no id of it."""
    asked = b'<response><state id_sms="3234" time="" sms="read">read</state></response>'
    answer = gateway.post(asked, headers={"X-Request-Id": "the-proxy-s"})
    assert answer.ids == ["3234"]
    assert gateway.line("request", level="info")["request_id"] == "the-proxy-s"
    assert "3234" not in gateway.output

    gateway.post(b'<response><state id_sms="3234">no word!</state></response>')
    found = run("sms-bridge find 3234", gateway.config_file)
    assert re.search(r"^3234  read: delivered, settled$", found, re.MULTILINE)
    assert re.search(r"^3234  rejected states$", found, re.MULTILINE)
    assert "received at" in found
    command = "sms-bridge tail --from-beginning --key 3234 --json"
    with Followed(command, gateway.config_file) as tail:
        assert tail.event(status="read")["subject"] == "3234"


@pytest.fixture
def away(kafka_cluster: KafkaCluster, topic: str) -> Iterator[tuple[Gateway, KafkaCluster, Config]]:
    """A gateway whose Kafka is about to go away, and its configuration."""
    for name in (topic, f"{topic}.rejected"):
        kafka_cluster.create_topic(name, 1)
    config = configuration(kafka_cluster.bootstrap_servers, topic)
    config["kafka"]["publish_timeout_seconds"] = 3
    with Gateway(config) as running:
        yield running, kafka_cluster, config


def test_after_an_outage(away: tuple[Gateway, KafkaCluster, Config]) -> None:
    """What the log names, and what the topic holds, is asked for with the page's two commands."""
    gateway, kafka, config = away
    assert gateway.post(document("1", status="send")).ids == ["1"]
    kafka.kill()
    assert gateway.post(document("2", "3")).status == 503
    gateway.line("request", unlisted_ids=["2", "3"])
    kafka.restart()
    until(lambda: gateway.value("kafka_up") == 1, "it is over")

    (gateway.config_file.parent / "bridge.log").write_text(gateway.output)
    reconcile = [each for each in commands() if each.startswith("sms-bridge reconcile")]
    with Api(known(["1", "2", "3"], status="expired"), token=TOKEN) as api:
        account = {"url": f"{api.url}/xml", "token": TOKEN}
        write(gateway, of_endpoint(config, provider=account))
        said = [run(each, gateway.config_file) for each in reconcile]
    assert len(said) == 2
    assert re.search(r"^published  2$", said[0], re.MULTILINE)
    assert re.search(r"^published +1$", said[1], re.MULTILINE)


# --- down, not ready ---------------------------------------------------------------------


@walks("SmsBridgeDown")
def test_down_by_its_configuration(config: Config, tmp_path: Path) -> None:
    """Status 78: the log has every problem with its line, and `check` finds them before."""
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(config))
    run("sms-bridge check --config FILE --no-env", file)
    file.write_text(yaml.safe_dump(of_endpoint(config, timezone="Mars") | {"log": {"level": 1}}))
    said = run("sms-bridge check --config FILE --no-env", file, status=78)
    place = rf"^{re.escape(str(file))}:\d+:\d+: "
    assert re.findall(rf"{place}(\S+): .", said, re.MULTILINE) == [
        *("endpoints[0].timezone", "log.level")
    ]
    done = subprocess.run(
        bridge("serve", "--config", str(file)), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (78, said)


@walks("SmsBridgeNotReady")
def test_not_ready_without_a_topic(kafka: ExternalKafka, topic: str) -> None:
    """The command that the log has is run as it stands."""
    config = configuration(kafka.bootstrap_servers, topic, kafka={"durability": "require"})
    config["kafka"]["create_topics"] = {
        "partitions": 2,
        "replication_factor": 1,
        "config": {"min.insync.replicas": "1", "max.message.bytes": "4000"},
    }
    with Gateway(config, wait_ready=False) as gateway:
        until(lambda: ready(gateway) == (503, f"topic {topic} is missing"), "it says so")
        for name in (topic, f"{topic}.rejected"):
            line = gateway.line("topic is missing", topic=name)
            shows("SmsBridgeNotReady", line, "create_it_with")
            assert f"Created topic {name}." in run_tool(line["create_it_with"])

        not_durable = f"topic {topic} is not durable, and durability is require"
        until(lambda: ready(gateway) == (503, not_durable), "it says what else")
        assert gateway.value("ready") == 0
        line = gateway.line("the topic is not durable", topic=topic)
        shows("SmsBridgeNotReady", line, "because")
        risks = ["replication factor 1: use 3", "min.insync.replicas 1: use 2"]
        assert line["because"] == risks
        warned = gateway.line("topic configuration warning", topic=topic)["what"]
        said = run("sms-bridge check --connect", gateway.config_file, status=1)
        for each in (*risks, warned):
            assert each in said

        config["kafka"]["durability"] = "warn"
        write(gateway, config)
        run("sms-bridge check --connect", gateway.config_file)
        assert gateway.terminate() == 0
    with Gateway(config) as gateway:
        assert ready(gateway) == (200, "ok")


# --- not acknowledging -------------------------------------------------------------------


@walks("SmsBridgeNotAcknowledging", "SmsBridgeKafkaDown", "SmsBridgeLostBodies")
def test_not_acknowledging_while_kafka_is_away_and_kafka_down(
    away: tuple[Gateway, KafkaCluster, Config],
) -> None:
    """The pods stay ready, and connect by themselves; one that starts does not become ready."""
    gateway, kafka, config = away
    assert acknowledged(gateway, "1")
    kafka.freeze()
    assert gateway.post(document("2")).status == 503
    line = gateway.line("request", unlisted_ids=["2"])
    shows("SmsBridgeNotAcknowledging", line, "unknown", "failed", "errors", "unlisted_ids")
    assert (line["unknown"], line["level"]) == (1, "warning")
    assert gateway.value("states_total", outcome="unknown") == 1
    kafka.thaw()
    until(lambda: acknowledged(gateway, "2"), "it goes on")

    kafka.kill()
    until(lambda: gateway.value("kafka_up") == 0, "it is noticed")
    assert gateway.post(document("3")).status == 503
    assert gateway.line("request", unlisted_ids=["3"])["failed"] == 1
    assert gateway.post(b"<response").status == 400
    assert gateway.line("request", status=400)["dead_letter"] == "failed"
    assert gateway.value("lost_bodies_total", endpoint="main") == 1
    assert gateway.value("states_total", outcome="failed") == 1
    line = gateway.line("cannot reach Kafka", servers=kafka.bootstrap_servers)
    assert "error" in line
    assert ready(gateway) == (200, "ok")
    with Gateway(config, wait_ready=False) as restarted:
        until(lambda: "cannot reach Kafka" in ready(restarted)[1], "it does not become ready")
        assert ready(restarted)[0] == 503

    kafka.restart()
    until(lambda: acknowledged(gateway, "3"), "it connects by itself")
    assert gateway.value("kafka_up") == 1


@walks("SmsBridgeNotAcknowledging")
def test_not_acknowledging_for_other_reasons(
    config: Config, kafka: ExternalKafka, topic: str
) -> None:
    """An invalid state without dead letters, too many states, a topic that was deleted."""
    config["kafka"] |= {"dead_letter_topic": None, "create_topics": {"replication_factor": 1}}
    config["kafka"]["create_topics"]["config"] = {"min.insync.replicas": "1"}
    config["server"]["max_states"] = 2
    section = "SmsBridgeNotAcknowledging"
    with Gateway(config) as gateway:
        assert gateway.post(INVALID).ids == []
        line = gateway.line("request", unlisted_ids=["b@d"])
        shows(section, line, "dropped")
        assert line["dropped"] == 1
        assert gateway.value("states_total", outcome="dropped") == 1

        assert gateway.post(document("1", "2", "3", "4", "5")).ids == ["1", "2"]
        line = gateway.line("request", past_max_states=3)
        shows(section, line, "past_max_states", "published")
        config["server"]["max_states"] = 5
        write(gateway, config)
        until(lambda: acknowledged(gateway, "1", "2", "3", "4", "5"), "the limit is raised")

        kafka.delete_topic(topic)
        line = gateway.line("topic is missing", topic=topic)
        shows(section, line, "create_it_with")
        assert gateway.post(document("6")).status == 503
        assert gateway.line("request", unlisted_ids=["6"])["errors"]
        run_tool(line["create_it_with"])
        until(lambda: acknowledged(gateway, "6"), "no restart is needed")


# --- what comes in is refused ------------------------------------------------------------


@walks("SmsBridgeAllRefused")
def test_all_refused(config: Config) -> None:
    """Each reason of the page that a request alone can have, with who sent it."""
    config["server"] |= {"max_body_bytes": 200, "body_timeout_seconds": 1}
    token = "the-token-of-the-walk"
    config = of_endpoint(config, auth={"tokens": [token]})
    head = f"POST /webhook?token={token} HTTP/1.1\r\nHost: x\r\n".encode()
    chunked = b"Transfer-Encoding: chunked\r\n\r\n"
    begun = b"Content-Length: 9\r\n\r\n<"
    sent = {
        "credentials": b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "compressed": head + b"Content-Length: 9\r\nContent-Encoding: gzip\r\n\r\n",
        "body_too_large": head + b"Content-Length: 201\r\n\r\n",
        "body_too_slow": head + begun,
        "no_length": head.replace(b"1.1", b"1.0") + b"\r\n",
        "malformed": head + chunked + b"nonsense\r\n",
        "foreign": head + b"Content-Length: 38\r\n\r\n<response><error>no</error></response>",
        "empty": head + b"Content-Length: 0\r\n\r\n",
    }
    fields = {"compressed": "coding", "body_too_large": "declared_bytes", "foreign": "beginning"}
    with Gateway(config) as gateway:
        for reason, content in sent.items():
            with socket.create_connection(gateway.server_address) as connection:
                connection.sendall(content)
                assert connection.recv(100)
            line = refusal(gateway, reason)
            assert {reason} - {"empty"} <= {*words("SmsBridgeAllRefused")}
            assert (line["peer"], line["client"]) == (HOST, HOST)
            assert reason not in fields or fields[reason] in line
        with socket.create_connection(gateway.server_address) as connection:
            connection.sendall(head + begun)
        assert refusal(gateway, "left")["event"] == "client left before the end of its body"
        write(gateway, of_endpoint(config, auth={"tokens": [token], "allow": ["203.0.113.9"]}))
        until(lambda: gateway.post(b"", path="/webhook").status == 403, "the address may not")
        refusal(gateway, "address")


def refusal(gateway: Gateway, reason: str) -> dict[str, Any]:
    """The line on a request that was refused for that reason, which is counted, too."""
    until(lambda: any(x.get("reason") == reason for x in gateway.logs()), f"it is {reason}")
    assert gateway.value("refused_total", endpoint="main", reason=reason) >= 1
    return next(line for line in gateway.logs() if line.get("reason") == reason)


@walks("SmsBridgeSilent", "SmsBridgeRefusing")
def test_silent_refusing(gateway: Gateway) -> None:
    """Wrong paths, wrong methods and what is no HTTP leave their traces at the endpoint `-`."""
    section = "SmsBridgeRefusing"
    assert gateway.post(document("1"), path="/web-hook?token=secret").status == 404
    line = gateway.line("request", status=404)
    shows(section, line, "path", "client", "peer")
    assert (line["path"], line["endpoint"]) == ("/web-hook", "-")
    assert gateway.value("requests_total", endpoint="-", code="404") == 1
    for greeting, status in ((b"\x16\x03\x01\x02\x00", 400), (b"PRI * HTTP/2.0\r\n\r\n", 400)):
        before = gateway.value("requests_total", endpoint="-", code=str(status))
        with socket.create_connection(gateway.server_address) as connection:
            connection.sendall(greeting + b"\r\n\r\n")
            until(
                lambda: gateway.value("requests_total", endpoint="-", code=str(status)) > before,  # noqa: B023 -- at once
                "it is counted",
            )
    assert gateway.line("request refused", endpoint="-")["peer"] == HOST
    assert gateway.post(b"<response").status == 400
    line = gateway.line("request", status=400)
    assert (line["reason"], line["dead_letter"]) == ("not_xml", "published")

    (curl,) = [each for each in commands() if each.startswith("curl")]
    done = subprocess.run(
        [*shlex.split(curl), gateway.url], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("HTTP/1.1 405 ")
    assert "only POST is accepted" in done.stdout


@walks("SmsBridgeUnauthorised")
def test_unauthorised(config: Config) -> None:
    """Lines that repeat are counted; during a rotation both tokens are configured."""
    old, new = "the-old-token-of-the-walk", "the-new-token-of-the-walk"
    with Gateway(of_endpoint(config, auth={"tokens": [old]})) as running:

        def post(token: str) -> int:
            return running.post(document("1"), path=f"/webhook?token={token}").status

        assert running.post(document("1")).status == 401
        line = running.line("request", status=401)
        shows("SmsBridgeUnauthorised", line, "client", "peer", "credentials", "suppressed")
        assert line["credentials"] == "missing"
        assert post(new) == 401
        running.line("request", credentials="wrong")

        def suppressed() -> int:
            post(new)
            return max(int(line.get("suppressed", 0)) for line in running.logs())

        until(lambda: suppressed() > 0, "repeated lines are suppressed, and counted")
        write(running, of_endpoint(config, auth={"tokens": [old, new]}))
        until(lambda: post(new) == 200, "both are accepted")
        assert post(old) == 200


@walks("SmsBridgeMostRefused")
def test_most_refused(config: Config) -> None:
    """A path that is not configured, and bodies that are too large: each ends with a reload."""
    section = "SmsBridgeMostRefused"
    body = document("1", "2", "3")
    config["server"]["max_body_bytes"] = len(body) - 1
    with Gateway(config) as gateway:
        assert gateway.post(body, path="/other").status == 404
        shows(section, gateway.line("request", status=404), "path", "client", "peer")
        assert gateway.post(body).status == 413
        shows(section, gateway.line("request", status=413), "reason", "client", "peer")
        assert gateway.value("requests_total", endpoint="main", code="413") == 1
        config["server"]["max_body_bytes"] = len(body)
        other = config["endpoints"][0] | {"name": "other", "path": "/other"}
        write(gateway, config | {"endpoints": [*config["endpoints"], other]})
        until(lambda: gateway.post(body, path="/other").status == 200, "it has the path")
        assert gateway.post(body).ids == ["1", "2", "3"]


@walks("SmsBridgeSaturated")
def test_saturated(away: tuple[Gateway, KafkaCluster, Config]) -> None:
    """Publishing is slow, and work piles up to the limit, which is seen among those in flight."""
    gateway, kafka, config = away
    config["server"]["max_in_flight"] = 1
    write(gateway, config)
    until(lambda: gateway.value("in_flight_posts_limit") == 1, "the limit is in use")
    kafka.freeze()
    with ThreadPoolExecutor(4) as senders:
        posts = [senders.submit(gateway.post, document(str(n))) for n in range(4)]
        assert {each.result().status for each in posts} == {503}
    shows("SmsBridgeSaturated", refusal(gateway, "overloaded"), "reason")
    assert gateway.value("overloaded_total", endpoint="main") >= 1
    kafka.thaw()
    until(lambda: acknowledged(gateway, "1"), "there is room again")


@walks("SmsBridgeSaturated")
def test_saturated_by_large_documents(config: Config) -> None:
    config["kafka"]["publish_timeout_seconds"] = 0.2
    large = document(*map(str, range(37_500)))
    with Gateway(config) as gateway, ThreadPoolExecutor(4) as senders:

        def is_late() -> bool:
            list(senders.map(gateway.post, [large] * 4))
            return gateway.value("refused_total", reason="late") >= 1

        until(is_late, "they take too long to read")
        assert "late" in words("SmsBridgeSaturated")
        refusal(gateway, "late")
        assert gateway.value("overloaded_total", endpoint="main") >= 1


# --- the producer ------------------------------------------------------------------------


@walks("SmsBridgeProducerNotConnected")
async def test_no_producer_though_the_brokers_answer(topic: str) -> None:
    """As while no controller hands out producer ids: a command that needs none reaches Kafka."""
    assert "sms-bridge check --connect" in words("SmsBridgeProducerNotConnected")
    async with ScriptedBroker(topic, f"{topic}.rejected") as broker:
        broker.producer_ids.extend([None] * 1000)
        config = configuration(",".join(broker.bootstrap_servers), topic)
        config["kafka"]["publish_timeout_seconds"] = 1
        gateway = Gateway(config, wait_ready=False)
        try:
            await asyncio.to_thread(gateway.start)
            line = await asyncio.to_thread(gateway.line, "cannot reach Kafka")
            assert line["error"] == "no answer in time"
            assert await asyncio.to_thread(gateway.value, "kafka_up") == 0
            said = await asyncio.to_thread(run, "sms-bridge check --connect", gateway.config_file)
            assert f"topic {topic}: exists" in said
            broker.producer_ids.clear()
            await asyncio.to_thread(until, lambda: ready(gateway)[0] == 200, "it is ready")
        finally:
            await asyncio.to_thread(gateway.stop)


@walks("SmsBridgeLostRecords")
def test_lost_records(new_kafka: Callable[[KafkaCluster], KafkaCluster], topic: str) -> None:
    """The last replica in sync dies, and one that lags takes over without its records."""
    section = "SmsBridgeLostRecords"
    cluster = new_kafka(KafkaCluster(nodes=3))
    unclean = {"min.insync.replicas": "1", "unclean.leader.election.enable": "true"}
    cluster.create_topic(topic, 1, 2, unclean)
    config = configuration(cluster.bootstrap_servers, topic)
    config["kafka"]["dead_letter_topic"] = None

    def partition() -> Any:
        return cluster.admin().list_topics(topic, timeout=5).topics[topic].partitions[0]

    leader = partition().leader
    (follower,) = {*partition().replicas} - {leader}
    with Gateway(config) as gateway:
        assert unclean.keys() <= {*words(section)}
        because = gateway.line("the topic is not durable", topic=topic)["because"]
        assert "unclean.leader.election.enable true: use false" in because
        until(lambda: acknowledged(gateway, "kept"), "it is published")
        cluster.kill(follower)
        for n in range(3):
            until(lambda: acknowledged(gateway, f"lost-{n}"), "it is acknowledged")  # noqa: B023 -- at once
        until(lambda: set(partition().isrs) == {leader}, "no other replica is in sync")
        cluster.kill(leader)
        cluster.restart(follower)
        until(lambda: acknowledged(gateway, "next"), "the other replica leads")
        line = gateway.line("the brokers have lost acknowledged records")
        shows(section, line, "topic", "partition", "first_offset", "records")
        assert (line["topic"], line["partition"], line["first_offset"]) == (topic, 0, 1)
        assert gateway.value("lost_records_total") == line["records"] >= 3
        cluster.restart(leader)
        (configs,) = [each for each in commands() if each.startswith("kafka-configs.sh")]
        run_tool(
            configs.replace("kafka:9092", cluster.bootstrap_servers).replace("sms.status", topic)
        )
    changed = cluster.topic_configuration(topic)
    assert {name: changed[name] for name in unclean} == {
        "min.insync.replicas": "2",
        "unclean.leader.election.enable": "false",
    }
    keys = {record.key for record in read_topic(cluster.bootstrap_servers, topic, expect=1)}
    assert b"lost-0" not in keys


@walks("SmsBridgeProducerRebuilds")
def test_the_producer_is_replaced(away: tuple[Gateway, KafkaCluster, Config]) -> None:
    gateway, kafka, _ = away
    kafka.freeze()
    assert gateway.post(document("1")).status == 503
    line = gateway.line("replacing the producer")
    shows("SmsBridgeProducerRebuilds", line, "cause", "error")
    cause = line["cause"]
    assert cause in words("SmsBridgeProducerRebuilds")
    assert gateway.value("producer_rebuilds_total", cause=cause) >= 1
    kafka.thaw()
    until(lambda: acknowledged(gateway, "1"), "a new one does")


@walks("SmsBridgeProducerRebuilds", "SmsBridgeDeadLetters")
def test_batches_that_a_broker_refuses(kafka: ExternalKafka, config: Config, topic: str) -> None:
    """Once the topic is changed, what became a dead letter is replayed. The producer stays."""
    large = b'<response><state id_sms="NUMBER" note="' + b"x" * 2000 + b'">read</state></response>'
    numbers = count()
    with Gateway(config) as gateway:

        def refused(cause: str, body: bytes) -> bool:
            """Whether a broker has refused one; what a topic is told, it does a little later."""
            posted.append(str(next(numbers)))
            answer = gateway.post(body.replace(b"NUMBER", posted[-1].encode()))
            assert answer.status == 503 or answer.ids == posted[-1:]
            return gateway.value("refused_batches_total", cause=cause) >= 1

        posted: list[str] = []
        kafka.configure_topic(topic, {"max.message.bytes": "1500"})
        until(lambda: refused("too_large", large), "it is too large")
        line = gateway.line("batch failed", topic=topic)
        assert line["error"].startswith("too large: raise the topic's max.message.bytes")
        listed = run("sms-bridge dead-letters list --since 1h --json", gateway.config_file)
        letter = json.loads(listed.splitlines()[0])
        shows("SmsBridgeDeadLetters", letter, "reason", "detail")
        assert letter["reason"] == "too_large"
        assert gateway.value("dead_letters_total", reason="too_large") >= 1
        kafka.configure_topic(topic, {"max.message.bytes": "1000000"})
        replay = "sms-bridge dead-letters replay"
        until(lambda: call(replay, gateway.config_file).returncode == 0, "it is replayed")
        records = read_topic(kafka.bootstrap_servers, topic, expect=len(posted))
        assert {(record.key or b"").decode() for record in records} == {*posted}

        kafka.configure_topic(topic, {"message.timestamp.before.max.ms": "0"})
        until(lambda: refused("timestamp", document("NUMBER")), "its time is refused")
        (late,) = posted[-1:]
        line = gateway.line("request", unlisted_ids=[late])
        assert "check the clocks" in line["errors"][0]
        kafka.configure_topic(topic, {"message.timestamp.before.max.ms": "86400000"})
        until(lambda: acknowledged(gateway, late), "it takes the times again")
        assert gateway.value("producer_rebuilds_total") == 0


@walks("SmsBridgeSlow")
def test_slow_by_a_quota(kafka: ExternalKafka, config: Config, topic: str) -> None:
    config["kafka"]["client_id"] = topic
    asyncio.run(limit_rate(kafka.bootstrap_servers, topic, 1000.0))
    with Gateway(config) as gateway:
        gateway.post(document(*map(str, range(50))))
        assert "throttled by a broker" in words("SmsBridgeSlow")
        line = gateway.line("throttled by a broker")
        assert "producer_byte_rate" in line["fix"]
        assert gateway.value("throttled_seconds_total") > 0
        asyncio.run(limit_rate(kafka.bootstrap_servers, topic, 1e9))
        until(lambda: acknowledged(gateway, "1"), "it goes on")


# --- the program, its processes and its log ----------------------------------------------

# What Python runs first in each process of the program.
FAULTY = """
import bridge.pipeline
def fail(*_, **__):
    raise LookupError("a fault of the walk")
bridge.pipeline.Pipeline.accept = fail
"""


@walks("SmsBridgeFaults")
def test_faults(config: Config, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(FAULTY)
    with Gateway(config, environment={"PYTHONPATH": str(tmp_path)}) as gateway:
        assert gateway.post(document("1")).status == 500
        line = gateway.line("request", status=500, level="error")
    assert "LookupError: a fault of the walk" in line["exception"]
    assert line["reason"] == "fault"


@walks("SmsBridgeProcessRestarts")
def test_processes_that_restart(config: Config) -> None:
    """A wrong file on the disk ends none of them: what starts goes on as the others do."""
    config["server"]["processes"] = 2
    with Gateway(config) as gateway:
        children = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children")
        gateway.config_file.write_text("nonsense")
        gateway.line("configuration not reloaded; the former one stays in use")
        pid = children.read_text().split()[0]
        os.kill(int(pid), signal.SIGKILL)
        line = gateway.line("process ended", pid=pid)
        shows("SmsBridgeProcessRestarts", line, "process", "pid", "cause", "status")
        assert (line["cause"], line["status"]) == ("killed", "-9")
        until(lambda: gateway.value("processes") == 2, "another one serves")
        assert gateway.value("process_restarts_total", cause="killed") == 1
        assert gateway.value("process_restarts_total", cause="exited") == 0


@walks("SmsBridgeReloadRefused")
def test_reload_refused(gateway: Gateway, config: Config, topic: str) -> None:
    """The line names place and key, and no value; `check` says the same of the file."""
    section = "SmsBridgeReloadRefused"
    began = gateway.value("config_last_reload_success_timestamp_seconds")
    assert began > 0
    write(gateway, config | {"log": {"level": "a-secret"}})
    line = gateway.line("configuration not reloaded; the former one stays in use")
    shows(section, line, "problems")
    assert "a-secret" not in gateway.output
    assert gateway.value("config_last_reload_successful") == 0
    assert gateway.value("config_last_reload_success_timestamp_seconds") == began
    said = run("sms-bridge check", gateway.config_file, status=78)
    assert said.splitlines() == line["problems"]

    write(gateway, config | {"kafka": config["kafka"] | {"topic": f"{topic}.other"}})
    key = f"{gateway.config_file}: kafka.topic: cannot change while the gateway runs: restart it"
    gateway.line("configuration not reloaded; the former one stays in use", problems=[key])
    write(gateway, config)
    gateway.line("configuration reloaded: nothing has changed")
    assert gateway.value("config_last_reload_successful") == 1


# --- what the provider sends -------------------------------------------------------------


@walks("SmsBridgeWrongTimes", "SmsBridgeLate", "SmsBridgeUnknownStatuses")
def test_times_and_words_that_are_not_as_they_should_be(gateway: Gateway, config: Config) -> None:
    numbers = count()

    def post(n: int, time: str, status: str = "read") -> dict[str, Any]:
        state = f'<state id_sms="{n}" time="{time}">{status}</state>'
        request_id = f"{n}-{next(numbers)}"
        body, headers = f"<response>{state}</response>".encode(), {"X-Request-Id": request_id}
        assert gateway.post(body, headers=headers).ids == [str(n)]
        return gateway.line("request", request_id=request_id)

    words_of = {each: words(each) for each in ("SmsBridgeWrongTimes", "SmsBridgeLate")}
    command = "sms-bridge tail --since 1h --json"
    assert all(command in each for each in words_of.values())
    with Followed(command, gateway.config_file) as tail:
        post(1, "yesterday")
        data = tail.event(id_sms="1")["data"]
        assert (data["raw_time"], data["changed_at"]) == ("yesterday", None)
        assert gateway.value("unreadable_times_total", endpoint="main") == 1
        post(2, "2199-01-01 00:00:00")
        assert gateway.value("future_times_total", endpoint="main") == 1
        late = "2026-01-01 12:00:00"
        post(3, late)
        data = tail.event(id_sms="3")["data"]
        assert data["received_at"] > data["changed_at"] == "2026-01-01T12:00:00Z"
        assert gateway.value("receipt_delay_seconds_bucket", le="+Inf") == 2

        post(4, late, "teleported")
        line = gateway.line("unknown status", status="teleported")
        shows("SmsBridgeUnknownStatuses", line, "status")
        assert gateway.value("unknown_statuses_total", status="teleported") == 1
        data = tail.event(id_sms="4")["data"]
        assert [data[each] for each in ("outcome", "final", "rank")] == [None] * 3
        config["events"]["statuses"] = {"teleported": {"outcome": "delivered", "rank": 3}}
        write(gateway, of_endpoint(config, timezone="Europe/Kyiv"))
        gateway.line("configuration reloaded")
        post(5, late, "teleported")
        data = tail.event(id_sms="5")["data"]
        assert (data["outcome"], data["changed_at"]) == ("delivered", "2026-01-01T10:00:00Z")
        assert gateway.value("unknown_statuses_total", status="teleported") == 1
        assert post(3, late)["repeated"] == 1  # the same event, whatever the time zone


@walks("SmsBridgeLostBodies")
def test_lost_bodies(config: Config) -> None:
    """Without a topic, and more than one a second."""
    section = "SmsBridgeLostBodies"
    with Gateway(config) as gateway:
        for _ in range(40):
            assert gateway.post(b"<response").status == 400
        assert gateway.value("lost_bodies_total", endpoint="main") > 0
        line = gateway.line("request", status=400)
        shows(section, line, "reason", "detail", "line", "dead_letter")
    config["kafka"]["dead_letter_topic"] = None
    with Gateway(config) as gateway:
        assert gateway.post(b"<response").status == 400
        assert gateway.line("request", status=400)["dead_letter"] == "none"
        assert gateway.value("lost_bodies_total", endpoint="main") == 1
