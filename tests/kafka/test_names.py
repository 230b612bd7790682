"""Brokers are known by name: where the name leads is asked anew with each connection."""

import asyncio
import socket
from typing import Any

import pytest

from bridge.config.settings import Kafka
from bridge.kafka import Publisher, Supervisor
from bridge.model import Outcome, Result
from tests.support.fake_kafka import durable, message, until
from tests.support.scripted_broker import ScriptedBroker

NAME = "broker.test"
OLD, NEW = "127.0.0.2", "127.0.0.3"


class Names:
    """A resolver with one name, which leads where the test says; None is a name not found."""

    def __init__(self) -> None:
        self.address: str | None = OLD
        self._resolve = socket.getaddrinfo

    def __call__(self, host: Any, *args: Any, **options: Any) -> Any:
        if host != NAME:
            return self._resolve(host, *args, **options)
        if self.address is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._resolve(self.address, *args, **options)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    made = Names()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    return made


@pytest.mark.parametrize("old", ["gone", "silent"])
async def test_brokers_that_move_to_new_addresses_are_found_there(names: Names, old: str) -> None:
    """Whether what was at the old address ends its connections, or answers nothing any more.

    The name is not found for a while in between.
    """
    async with ScriptedBroker("status", name=NAME, address=OLD) as before:
        (server,) = before.bootstrap_servers
        settings = Kafka(
            bootstrap_servers=(server,),
            topic="status",
            dead_letter_topic=None,
            publish_timeout_seconds=0.5,
        )
        supervisor = Supervisor(settings, ["status"], describe_configs=durable)
        publisher = Publisher(settings, supervisor)

        async def publish(value: bytes, seconds: float) -> Outcome:
            deadline = asyncio.get_running_loop().time() + seconds
            (outcome,) = await publisher.publish([message(value)], deadline)
            return outcome

        supervisor.start()
        try:
            assert (await publish(b"1", 10)).result is Result.PUBLISHED
            names.address = None
            before.answering[0].clear()
            if old == "gone":
                await before.__aexit__(None, None, None)
            assert (await publish(b"2", 0.5)).result is not Result.PUBLISHED
            await until(lambda: not supervisor.reachable, seconds=20)
            port = int(server.rpartition(":")[2])
            async with ScriptedBroker("status", name=NAME, address=NEW, port=port) as after:
                names.address = NEW
                assert (await publish(b"3", 20)).result is Result.PUBLISHED
                assert after.values("status") == [b"3"]
                assert (await publish(b"4", 10)).result is Result.PUBLISHED
                await publisher.stop()
                await supervisor.stop(1)
        finally:
            await publisher.stop()
            await supervisor.stop(1)
