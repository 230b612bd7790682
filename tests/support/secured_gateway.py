"""The gateway and the commands against a Kafka that asks who is there, and a load on them."""

import asyncio
import gc
import itertools
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from click.testing import CliRunner, Result

from bridge.cli.main import main
from bridge.demo.child import wait_until
from tests.support.gateway import Gateway, configuration
from tests.support.secured import SecuredKafka
from tests.support.senders import document

PATIENCE_SECONDS = 120.0  # of a busy machine
Security = Mapping[str, Any]


def configured(
    kafka: SecuredKafka, listener: str, topic: str, security: Security, **log: str
) -> dict[str, Any]:
    settings = configuration(kafka.addresses(listener), topic, log={"level": "info"} | log)
    settings["kafka"]["security"] = dict(security)
    return settings


def command(name: str, settings: Mapping[str, Any], directory: Path, *options: str) -> Result:
    """Run a command; the first of the options of `dead-letters` is what it is to do."""
    file = directory / f"{name}.yaml"
    file.write_text(yaml.safe_dump(dict(settings)))
    result = CliRunner().invoke(main, [name, *options, "--config", str(file)])
    with warnings.catch_warnings():
        # aiokafka waits for the end of no connection that it only asked for the brokers: with TLS
        # it may outlive the command's loop.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return result


class Load:
    """A provider that posts without a pause, and posts again what was not listed."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._over = threading.Event()
        self._numbers = itertools.count()
        self.acknowledged: set[str] = set()
        self.slowest = 0.0

    def run(self) -> None:
        while not self._over.is_set():
            number = next(self._numbers)
            self._deliver([f"{number}-{n}" for n in range(10)])

    def _deliver(self, ids: list[str]) -> None:
        posted_at = time.monotonic()
        while ids and not self._over.is_set():
            taken = set(self._gateway.post(document(*ids)).ids)
            assert taken <= set(ids)
            self.acknowledged |= taken
            ids = [each for each in ids if each not in taken]
        self.slowest = max(self.slowest, time.monotonic() - posted_at)

    async def __aenter__(self) -> Self:
        self._running = [asyncio.create_task(asyncio.to_thread(self.run)) for _ in range(2)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await asyncio.gather(*self._running)

    async def goes_on(self) -> None:
        """Wait until more is acknowledged than was by now, new posts included."""
        before = len(self.acknowledged)
        await until(lambda: len(self.acknowledged) > before + 100, "more is acknowledged")


async def until(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, what, PATIENCE_SECONDS)


def logged(gateway: Gateway, event: str) -> list[dict[str, Any]]:
    return [line for line in gateway.logs() if line["event"] == event]
