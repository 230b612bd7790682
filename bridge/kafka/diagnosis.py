"""Finds out why there is no connection, and says what to fix, in one line without a secret.

aiokafka keeps such causes to its log. Nothing here changes anything.
"""

import asyncio
import os
import ssl
from collections.abc import Iterator
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from bridge.config.settings import Kafka, Security, Tls
from bridge.errors import BridgeError
from bridge.kafka.credentials import Credentials, client_arguments
from bridge.kafka.security import EXPIRED, NOT_YET_VALID, own_certificate_fault

DIAGNOSIS_SECONDS = 1.0  # refusals come at once; silence showed in the first attempt already
ALERT_SECONDS = 0.3  # in which a broker refuses a certificate, after a handshake that went well

# Further codes of OpenSSL's (X509_V_ERR_…).
_UNTRUSTED = frozenset({2, 18, 19, 20, 21, 27})
_OTHER_NAME = frozenset({62, 64})

# A broker's answer after everything else went well: there is no more to find out.
_LAST_WORDS = (errors.ClusterAuthorizationFailedError, errors.TopicAuthorizationFailedError)


async def find_fault(settings: Kafka, credentials: Credentials | None = None) -> str | None:
    """Connect to the brokers one by one, and say what is wrong with the first that refuses.

    None if nothing is wrong by now, or if nothing is said within DIAGNOSIS_SECONDS.
    """
    refusals: list[str] = []
    try:
        async with asyncio.timeout(DIAGNOSIS_SECONDS):
            arguments = client_arguments(settings, credentials)
            servers = arguments.pop("bootstrap_servers")
            return await _first_fault(servers, arguments, settings.security, refusals)
    except BridgeError as exc:
        return str(exc)
    except TimeoutError:
        return refusals[0] if refusals else None


async def why(settings: Kafka, exc: BaseException, credentials: Credentials | None = None) -> str:
    """What to tell a person of a failure to connect: the fault, or else the failure itself."""
    said = explain(exc, settings.security)
    if isinstance(exc, _LAST_WORDS):
        return said
    return await find_fault(settings, credentials) or said


async def _first_fault(
    servers: list[str], arguments: dict[str, Any], security: Security, refusals: list[str]
) -> str | None:
    """Of a broker to ask first, if none of them answers; else of one that the cluster names.

    `refusals` gathers the former, for whoever runs out of time.
    """
    for server in servers:
        host, _, port = server.rpartition(":")
        try:
            brokers = await _ask(host.strip("[]"), int(port), arguments)
        except (OSError, errors.KafkaError, EOFError) as exc:
            refusals.append(_of(server, explain(exc, security), len(servers) > 1))
            continue
        for broker_host, broker_port in brokers:
            try:
                await _ask(broker_host, broker_port, arguments)
            except (OSError, errors.KafkaError, EOFError) as exc:
                named = f"the broker advertised as {broker_host}:{broker_port}"
                return _of(named, explain(exc, security), f"{broker_host}:{broker_port}" != server)
        return None
    return refusals[0]


def _of(which: str, what: str, said: bool) -> str:
    return f"{which}: {what}" if said else what


async def _ask(host: str, port: int, arguments: dict[str, Any]) -> list[tuple[str, int]]:
    """Connect as a client does; the address that each broker of the cluster gives itself."""
    try:
        connection: AIOKafkaConnection = await create_conn(host, port, **arguments)
        try:
            response = await connection.send(MetadataRequest([]))
        finally:
            connection.close()
    except (errors.KafkaConnectionError, EOFError, ConnectionError):
        if arguments.get("ssl_context") is not None:
            await _hear_refusal(host, port, arguments["ssl_context"])
        raise
    return [(broker[1], broker[2]) for broker in response.brokers]


async def _hear_refusal(host: str, port: int, context: ssl.SSLContext) -> None:
    """Open a connection and listen: with TLS 1.3 a broker refuses a client after the handshake.

    With a question under way by then, the refusal may have got lost. Raises SSLError.
    """
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        async with asyncio.timeout(ALERT_SECONDS):
            await reader.read(1)
    except TimeoutError:
        pass  # it waits for the first question
    finally:
        writer.transport.abort()


def explain(exc: BaseException, security: Security) -> str:
    """What went wrong between a client and a broker, and what to do about it."""
    for cause in _causes(exc):
        said = _explained(cause, security)
        if said is not None:
            return said
    return str(exc) or type(exc).__name__


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """The exception and what it came from, the innermost first."""
    if exc.__cause__ is not None:
        yield from _causes(exc.__cause__)
    yield exc


def _explained(exc: BaseException, security: Security) -> str | None:
    if isinstance(exc, BridgeError):
        return str(exc)
    if isinstance(exc, ssl.SSLCertVerificationError):
        return _broker_certificate(exc, security)
    if isinstance(exc, ssl.SSLError):
        return _tls(exc, security)
    if isinstance(exc, EOFError | ConnectionResetError | BrokenPipeError):
        return (
            "the broker closed the connection without an answer: its listener may speak something "
            f"else than kafka.security.protocol says ({security.protocol})"
        )
    if isinstance(exc, errors.KafkaError):
        return _refused(exc, security)
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, OSError):
        return os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror
    return None


def _broker_certificate(exc: ssl.SSLCertVerificationError, security: Security) -> str:
    if exc.verify_code == EXPIRED:
        return "the broker's certificate has expired: renew it on the broker"
    if exc.verify_code == NOT_YET_VALID:
        return "the broker's certificate is not valid yet: check the clocks"
    if exc.verify_code in _UNTRUSTED:
        own = security.tls.ca_file if security.tls else None
        where = f"{own} (kafka.security.tls.ca_file)" if own else "the system's CAs"
        then = "put it there" if own else "name a file with it in kafka.security.tls.ca_file"
        return f"the CA of the broker's certificate is not in {where}: {then}"
    if exc.verify_code in _OTHER_NAME:
        return (
            "the broker's certificate is for another host name "
            f"({exc.verify_message.rstrip('.')}): use a name that is in it, or renew it with this "
            "one"
        )
    return f"the broker's certificate is not valid: {exc.verify_message}"


def _tls(exc: ssl.SSLError, security: Security) -> str:
    reason = exc.reason or str(exc)
    tls = security.tls or Tls()
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER" in reason:
        return (
            "the listener does not speak TLS: "
            f"kafka.security.protocol ({security.protocol}) or the port is wrong"
        )
    if "ALERT" in reason and "CERTIFICATE" in reason and not tls.cert_file:
        return (
            "the broker wants a client certificate: set kafka.security.tls.cert_file and "
            "key_file, or use another listener"
        )
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return own_certificate_fault(tls) or (
            f"the broker refuses the client certificate in {tls.cert_file}: it does not trust the "
            "certificate's CA, or knows the certificate as revoked"
        )
    return f"TLS fails: {reason.lower().replace('_', ' ')}"


def _refused(exc: errors.KafkaError, security: Security) -> str | None:
    """What an answer of the broker's means; None if the text says it already."""
    sasl = security.sasl
    if isinstance(exc, errors.SaslAuthenticationFailed) and sasl and sasl.client_id:
        return (
            f"the broker refuses the token of client {sasl.client_id} ({exc.args[0]}): compare the "
            "issuer, audience, scope and signing keys that it expects with the token's, and the "
            "clocks"
        )
    if isinstance(exc, errors.SaslAuthenticationFailed) and sasl:
        return (
            f"the broker refuses user {sasl.username}: wrong username or password, or no "
            f"{sasl.mechanism} credentials for it (kafka.security.sasl)"
        )
    if isinstance(exc, errors.UnsupportedSaslMechanismError) and sasl:
        return (
            f"the broker does not accept {sasl.mechanism}: change kafka.security.sasl.mechanism, "
            "or the broker's sasl.enabled.mechanisms"
        )
    if isinstance(exc, errors.IllegalSaslStateError):
        return (
            "the listener accepts no login: "
            f"kafka.security.protocol ({security.protocol}) or the port is wrong"
        )
    if isinstance(exc, errors.ClusterAuthorizationFailedError):
        return (
            "not authorized to write to any topic: allow Write and Describe on the topics "
            "(before Kafka 3.0 also IdempotentWrite on the cluster)"
        )
    if isinstance(exc, errors.TopicAuthorizationFailedError):
        return "not authorized: allow this operation on the topic to the bridge's user"
    return None
