"""The arguments of a client of aiokafka, and what it proves itself with.

The one place where a password leaves the settings; nothing here logs or prints a value.
"""

from typing import Any

import bridge.kafka.connection  # noqa: F401 -- has every client make connections of its kind
from bridge.config.settings import Kafka, Sasl
from bridge.kafka.security import Following, TlsFiles
from bridge.kafka.tokens import WAIT_SECONDS, Tokens

WAIT_SHARE = 0.5  # of the publish timeout, within which a producer must be open


class Credentials:
    """The files of TLS and the token, as far as the settings have them.

    Clients that follow one another share them: the files as they last were usable, and one token.
    """

    def __init__(self, settings: Kafka, tokens: Tokens | None = None) -> None:
        security = settings.security
        self.files = TlsFiles(security.tls) if security.encrypted else None
        self.tokens = tokens
        if tokens is None and security.logs_in and security.sasl is not None:
            wait = min(settings.publish_timeout_seconds * WAIT_SHARE, WAIT_SECONDS)
            self.tokens = _tokens(security.sasl, wait)

    def anew(self, settings: Kafka) -> "Credentials":
        """Those for another login; the files are the same ones."""
        other = Credentials(settings)
        other.files = self.files
        return other

    def close(self) -> None:
        """Fetch no more tokens."""
        if self.tokens is not None:
            self.tokens.close()


def _tokens(sasl: Sasl, wait_seconds: float) -> Tokens | None:
    if sasl.mechanism != "OAUTHBEARER":
        return None
    # Who logs in without a token is spared the HTTP client.
    from bridge.kafka.token_endpoint import TokenEndpoint  # noqa: PLC0415

    endpoint = TokenEndpoint.of(sasl)
    return Tokens(endpoint.url, endpoint.fetch, wait_seconds=wait_seconds)


def client_arguments(settings: Kafka, credentials: Credentials | None = None) -> dict[str, Any]:
    """The arguments that every client of aiokafka takes: brokers, name, and credentials.

    Raises BridgeError if a file of TLS cannot be used.
    """
    security = settings.security
    own = credentials or Credentials(settings)
    arguments: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": settings.client_id,
        "security_protocol": security.protocol,
    }
    if own.files is not None:
        arguments["ssl_context"] = Following(own.files)
    if security.logs_in and security.sasl is not None:
        arguments |= {"sasl_mechanism": security.sasl.mechanism, **_login(security.sasl, own)}
    return arguments


def _login(sasl: Sasl, credentials: Credentials) -> dict[str, Any]:
    if credentials.tokens is not None:
        return {"sasl_oauth_token_provider": credentials.tokens}
    password = sasl.password.get_secret_value() if sasl.password else None
    return {"sasl_plain_username": sasl.username, "sasl_plain_password": password}
