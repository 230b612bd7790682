"""From SIGTERM to the end: who is still served, who is answered, how long it takes."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.demo.child import wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from tests.support.fake_kafka import until
from tests.support.gateway import Gateway, configuration
from tests.support.senders import Post, Sender, document, read_answer
from tests.support.topics import read_topic

DRAIN_DELAY = 2.0
GRACE = 2.0
PUBLISH_TIMEOUT = 0.7
LEEWAY = 20.0  # of a busy machine: what is not bounded at all takes far longer
FOR_EVER = 600.0


def settings(broker: EmbeddedBroker, topic: str, **server: float) -> dict[str, Any]:
    config = configuration(broker.bootstrap_servers, topic, server=server)
    config["kafka"]["publish_timeout_seconds"] = PUBLISH_TIMEOUT
    return config


@pytest.fixture
def broker(new_embedded: type[EmbeddedBroker], topic: str) -> Iterator[EmbeddedBroker]:
    """An in-memory broker to freeze and to end."""
    with new_embedded(topic, f"{topic}.rejected") as running:
        yield running


@pytest.fixture
def gateway(broker: EmbeddedBroker, topic: str) -> Iterator[Gateway]:
    """The program with a drain delay."""
    config = settings(broker, topic, drain_delay_seconds=DRAIN_DELAY, shutdown_grace_seconds=GRACE)
    with Gateway(config) as running:
        yield running


@pytest.fixture
def hasty(broker: EmbeddedBroker, topic: str) -> Iterator[Gateway]:
    """The program without one."""
    with Gateway(settings(broker, topic, shutdown_grace_seconds=GRACE)) as running:
        yield running


@pytest.fixture
def patient(broker: EmbeddedBroker, topic: str) -> Iterator[Gateway]:
    """The program with a grace that no test waits for."""
    with Gateway(settings(broker, topic, shutdown_grace_seconds=FOR_EVER)) as running:
        yield running


class Ending:
    """A gateway that has been sent SIGTERM."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.started = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    async def draining(self) -> None:
        logs = self.gateway.logs
        await until(lambda: any(line["event"] == "draining" for line in logs()))

    async def status(self, within: float) -> int:
        """The exit status; the test fails where it takes longer."""
        process = self.gateway.process
        await until(lambda: process.poll() is not None, seconds=within + LEEWAY - self.seconds)
        assert process.returncode is not None
        return process.returncode


@asynccontextmanager
async def half_sent(gateway: Gateway) -> AsyncIterator[asyncio.StreamReader]:
    """A POST whose body stops in the middle."""
    reader, writer = await asyncio.open_connection(*gateway.server_address)
    writer.write(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n<response>")
    await writer.drain()
    # An answer on another connection: the gateway has read this one by then.
    assert (await Sender(gateway.server_address).get("/no")).status == 404
    try:
        yield reader
    finally:
        writer.transport.abort()


async def post(gateway: Gateway, *ids: str) -> Post:
    sender = Sender(gateway.server_address)
    answer = await sender.post(document(*ids))
    sender.close()
    return answer


async def get(gateway: Gateway, path: str) -> int:
    return (await asyncio.to_thread(gateway.admin, path)).status


async def test_during_the_delay_posts_are_served_and_it_is_not_ready(
    gateway: Gateway, broker: EmbeddedBroker, topic: str
) -> None:
    """Load balancers take notice late: until then every post counts, on old and new connections."""
    kept_alive = Sender(gateway.server_address)
    before = await kept_alive.post(document("1"))
    assert (before.status, before.closes) == (200, False)
    ending = Ending(gateway)
    await ending.draining()
    assert await get(gateway, "/readyz") == 503
    assert await get(gateway, "/livez") == 200
    old, new = await kept_alive.post(document("2")), await post(gateway, "3")
    assert (old.status, old.listed, old.closes) == (200, frozenset("2"), True)
    assert (new.status, new.listed, new.closes) == (200, frozenset("3"), True)
    assert ending.seconds < DRAIN_DELAY
    assert {r.key for r in read_topic(broker.bootstrap_servers, topic)} == {b"1", b"2", b"3"}
    assert await ending.status(within=DRAIN_DELAY + 1) == 0
    assert ending.seconds >= DRAIN_DELAY
    assert (await post(gateway, "4")).status is None


async def test_refusals_close_their_connections_too(gateway: Gateway) -> None:
    """A sender that never posts anything of use must not keep the listener busy either."""
    ending = Ending(gateway)
    await ending.draining()
    refused = await Sender(gateway.server_address).post(b"not xml")
    assert (refused.status, refused.closes) == (400, True)
    assert await ending.status(within=DRAIN_DELAY + 1) == 0


async def test_an_idle_connection_does_not_hold_it_up(patient: Gateway) -> None:
    """Neither one that was kept alive nor one that never sent a byte."""
    sender = Sender(patient.server_address)
    assert (await sender.post(document("1"))).status == 200
    _, silent = await asyncio.open_connection(*patient.server_address)
    ending = Ending(patient)
    assert await ending.status(within=1) == 0
    sender.close()
    silent.close()


async def test_without_kafka_posts_in_flight_are_answered_truthfully(
    gateway: Gateway, broker: EmbeddedBroker
) -> None:
    """Those from before the signal and those of the delay: 503, and nothing listed."""
    broker.stop()
    early = asyncio.create_task(post(gateway, "1"))
    ending = Ending(gateway)
    await ending.draining()
    late = await post(gateway, "2")
    for answer in (await early, late):
        assert (answer.status, answer.listed) == (503, frozenset())
        assert answer.seconds < PUBLISH_TIMEOUT + LEEWAY
    assert await ending.status(within=DRAIN_DELAY + GRACE) == 0


@pytest.mark.parametrize("how", ["frozen", "gone"])
async def test_without_kafka_and_without_a_delay(
    hasty: Gateway, broker: EmbeddedBroker, how: str
) -> None:
    """A broker that answers nothing costs no more than the grace, producer included."""
    if how == "frozen":
        broker.freeze()
    else:
        broker.stop()
    waiting = [asyncio.create_task(post(hasty, str(n))) for n in range(20)]
    await asyncio.sleep(PUBLISH_TIMEOUT / 4)  # until they are in the gateway
    ending = Ending(hasty)
    for answer in await asyncio.gather(*waiting):
        assert (answer.status, answer.listed, answer.closes) == (503, frozenset(), True)
    assert await ending.status(within=GRACE) == 0


async def test_a_body_that_never_comes_ends_with_the_grace(hasty: Gateway) -> None:
    """Its sender gets no acknowledgement, and all others are answered meanwhile."""
    async with half_sent(hasty) as reader:
        ending = Ending(hasty)
        assert await ending.status(within=GRACE) == 0
        said = await reader.read()
    assert b"200 OK" not in said
    assert b"id_sms" not in said


async def test_a_body_that_never_comes_and_no_kafka(hasty: Gateway, broker: EmbeddedBroker) -> None:
    broker.freeze()
    waiting = asyncio.create_task(post(hasty, "1"))
    async with half_sent(hasty) as reader:
        ending = Ending(hasty)
        assert (await waiting).status == 503
        assert await ending.status(within=GRACE) == 0
        assert b"id_sms" not in await reader.read()


async def test_a_body_that_is_complete_after_the_delay_is_published(
    gateway: Gateway, broker: EmbeddedBroker, topic: str
) -> None:
    """The listener is closed by then: what is in flight still gets its true answer."""
    body = document("1")
    reader, writer = await asyncio.open_connection(*gateway.server_address)
    writer.write(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
    writer.write(body[:20])
    ending = Ending(gateway)
    await ending.draining()
    await asyncio.sleep(DRAIN_DELAY + 0.3)
    assert (await post(gateway, "2")).status is None
    writer.write(body[20:])
    status, head, content = await read_answer(reader)
    writer.transport.abort()
    assert status == 200
    assert b"<id_sms>1</id_sms>" in content
    assert b"connection: close" in head.lower()
    assert [r.key for r in read_topic(broker.bootstrap_servers, topic)] == [b"1"]
    assert await ending.status(within=DRAIN_DELAY + GRACE) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(gateway: Gateway, second: signal.Signals) -> None:
    async with half_sent(gateway):
        ending = Ending(gateway)
        await ending.draining()
        gateway.process.send_signal(second)
        assert await ending.status(within=0.5) == -second


async def test_a_signal_before_kafka_was_ever_there(topic: str) -> None:
    config = configuration("127.0.0.1:9", topic, server={"shutdown_grace_seconds": FOR_EVER})
    with Gateway(config, wait_ready=False) as gateway:
        assert await Ending(gateway).status(within=1) == 0


def test_the_last_word_is_that_it_has_stopped(hasty: Gateway) -> None:
    """No traceback, no warning: an orderly end."""
    assert hasty.post(document("1")).ids == ["1"]
    assert hasty.terminate() == 0
    wait_until(lambda: hasty.logs()[-1]["event"] == "stopped", "its last word")
    assert not [line for line in hasty.logs() if line.get("exception")]
