"""Settings for tests in this process: whole ones, of which a test says what matters to it."""

from typing import Any

from bridge.config.settings import Settings
from tests.support.gateway import configuration

NOWHERE = "127.0.0.1:1"


def settings(
    *endpoints: dict[str, Any], servers: str = NOWHERE, topic: str = "sms.status", **sections: Any
) -> Settings:
    """Settings with an open endpoint at `/webhook`, and `endpoints` and `sections` laid over them.

    A minute for Kafka is enough for the busiest machine.
    """
    given = configuration(servers, topic, **sections)
    given["kafka"] = {"publish_timeout_seconds": 60} | given["kafka"]
    given["endpoints"] = [given["endpoints"][0] | changes for changes in endpoints or ({},)]
    return Settings.model_validate(given)
