"""Watches the files of TLS: says that they were renewed, and whether the brokers take them.

Connections that are open go on as they are: nothing in flight is at stake.
"""

import asyncio
from collections.abc import Callable

import structlog

from bridge.config.settings import Kafka
from bridge.kafka.credentials import Credentials
from bridge.kafka.diagnosis import find_fault
from bridge.kafka.security import TlsFiles
from bridge.kafka.tokens import Tokens

log = structlog.get_logger(__name__)


async def follow(
    current: Callable[[], tuple[Kafka, Tokens | None]], files: TlsFiles, seconds: float
) -> None:
    """Check the files every `seconds`, for ever; `current` are the settings and tokens in use.

    After a renewal a connection is tried at once: a certificate that the brokers refuse must not
    show at their next restart only. Until one succeeds, new connections use the former files.
    """
    proven, said = files.generation, None
    while True:
        await asyncio.sleep(seconds)
        files.refresh()
        if files.generation == proven:
            continue
        tried = files.generation
        settings, tokens = current()
        # With the files as they are, whichever are in use.
        fault = await find_fault(settings, Credentials(settings, tokens))
        if files.generation != tried:
            continue  # renewed again meanwhile
        if fault is None:
            files.accept()
            log.info("TLS files were renewed: new connections use them")
            proven, said = tried, None
            continue
        files.doubt()
        if fault != said:
            log.error("connections with renewed TLS files fail; former ones in use", error=fault)
            said = fault
