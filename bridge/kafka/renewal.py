"""Watches the files of TLS: says that they were renewed, and whether the brokers take them.

Connections that are open go on as they are: nothing in flight is at stake.
"""

import asyncio

import structlog

from bridge.config.settings import Kafka
from bridge.kafka.diagnosis import find_fault
from bridge.kafka.security import TlsFiles

log = structlog.get_logger(__name__)


async def follow(settings: Kafka, files: TlsFiles, seconds: float) -> None:
    """Check the files every `seconds`, for ever.

    After a renewal a connection is tried at once: a certificate that the brokers refuse must not
    show at their next restart only.
    """
    proven, said = files.generation, None
    while True:
        await asyncio.sleep(seconds)
        files.refresh()
        if files.generation == proven:
            continue
        renewed = files.generation
        fault = await find_fault(settings, files)
        if fault is None:
            log.info("TLS files were renewed: new connections use them")
            proven, said = renewed, None
        elif fault != said:
            log.error("TLS files were renewed, and connections with them fail", error=fault)
            said = fault
