"""A gateway to talk to byte for byte."""

from bridge.demo.embedded_broker import EmbeddedBroker
from tests.support.gateway import Gateway, configuration

TOKEN = "a-token-for-tests"
ALLOWED = "203.0.113.7"
MAX_BODY_BYTES = 1_000_000

ENDPOINT = {"source": "urn:example:sms:main", "timezone": "UTC"}
ENDPOINTS = [
    ENDPOINT | {"name": "open", "path": "/open", "auth": "none"},
    ENDPOINT | {"name": "allowed", "path": "/allowed", "auth": {"allow": [f"{ALLOWED}/32"]}},
    ENDPOINT
    | {
        "name": "token",
        "path": "/token",
        "auth": {"tokens": [TOKEN], "basic": [{"username": "user", "password": TOKEN}]},
    },
]
SERVER = {
    "trusted_proxies": ["127.0.0.1"],
    "max_body_bytes": MAX_BODY_BYTES,
    "body_timeout_seconds": 60,  # what ends sooner has another reason
}


def gateway_on(
    broker: EmbeddedBroker, *, publish_timeout_seconds: float = 60, **server: object
) -> Gateway:
    config = configuration(
        broker.bootstrap_servers,
        "wire",
        server=SERVER | server,
        kafka={"publish_timeout_seconds": publish_timeout_seconds},
        endpoints=ENDPOINTS,
        inspector={"port": 0},
    )
    return Gateway(config)
