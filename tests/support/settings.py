"""Settings for tests in this process: whole ones, of which a test says what matters to it."""

from typing import Any

from bridge.config.settings import Settings
from tests.support.gateway import configuration

NOWHERE = "127.0.0.1:1"


def settings(
    *endpoints: dict[str, Any], servers: str = NOWHERE, topic: str = "sms.status", **sections: Any
) -> Settings:
    """Settings with an open endpoint at `/webhook`, and a minute for Kafka.

    `endpoints` and `sections` are laid over these.
    """
    given = configuration(servers, topic, **sections)
    given["kafka"] = {"publish_timeout_seconds": 60} | given["kafka"]
    given["endpoints"] = [given["endpoints"][0] | changes for changes in endpoints or ({},)]
    return Settings.model_validate(given)
