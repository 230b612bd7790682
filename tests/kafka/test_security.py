"""Settings become a client's arguments; files of TLS are followed; faults are told in words."""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import errors
from structlog.testing import capture_logs
from trustme import CA

from bridge.config.settings import Kafka, Security, Tls
from bridge.demo.child import free_ports
from bridge.errors import BridgeError
from bridge.kafka.credentials import client_arguments
from bridge.kafka.diagnosis import explain, find_fault
from bridge.kafka.renewal import follow
from bridge.kafka.security import TlsFiles, own_certificate_fault
from tests.support.fake_kafka import until
from tests.support.secured import ClientFiles, certificate, key_pem, login

HOST = "127.0.0.1"
SECRET = "hunter2hunter2"


@pytest.fixture(scope="module")
def ca() -> CA:
    return CA()


@pytest.fixture
def files(tmp_path: Path, ca: CA) -> ClientFiles:
    """A certificate with its key, and the CA of both ends."""
    files = ClientFiles(tmp_path)
    files.trust(ca)
    files.show(certificate(ca, HOST, common_name="bridge"))
    return files


def settings(tls: Tls | None, protocol: str = "SSL", servers: str = "kafka:9093") -> Kafka:
    security = Security.model_validate({"protocol": protocol, "tls": tls})
    return Kafka(bootstrap_servers=(servers,), security=security)


@contextmanager
def said() -> Iterator[list[Any]]:
    """What is logged meanwhile, as `(event, error)`."""
    told: list[Any] = []
    with capture_logs() as logs:
        yield told
    told += [(line["event"], line.get("error")) for line in logs]


# --- arguments -----------------------------------------------------------------------------


def test_plain_text_needs_no_more_than_brokers_and_a_name() -> None:
    assert client_arguments(Kafka()) == {
        "bootstrap_servers": ["kafka:9092"],
        "client_id": "sms-bridge",
        "security_protocol": "PLAINTEXT",
    }


def test_a_login_over_tls(files: ClientFiles) -> None:
    security = {"protocol": "SASL_SSL", "sasl": login(password=SECRET), "tls": files.tls("ca_file")}
    arguments = client_arguments(Kafka.model_validate({"security": security}))
    context = arguments.pop("ssl_context")
    assert isinstance(context, ssl.SSLContext)
    assert arguments == {
        "bootstrap_servers": ["kafka:9092"],
        "client_id": "sms-bridge",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "bridge",
        "sasl_plain_password": SECRET,
    }


def test_the_system_s_cas_are_trusted_where_no_file_is_named() -> None:
    assert TlsFiles(None).current().verify_mode == ssl.CERT_REQUIRED
    assert TlsFiles(Tls()).current().check_hostname


# --- files ---------------------------------------------------------------------------------


def test_files_are_read_once_until_they_change(files: ClientFiles, ca: CA) -> None:
    followed = TlsFiles(Tls(**files.tls()))
    first = followed.current()
    assert followed.current() is first
    files.show(certificate(ca, HOST, common_name="renewed"))
    assert followed.current() is not first
    assert followed.generation == 2


def test_half_a_pair_changes_nothing_and_is_said_once(files: ClientFiles, ca: CA) -> None:
    """Whichever file comes first: the former pair stays in use until both are there."""
    followed = TlsFiles(Tls(**files.tls()))
    first = followed.current()
    renewed = certificate(ca, HOST, common_name="renewed")
    with said() as told:
        files.key.write_bytes(key_pem(renewed))
        for _ in range(3):
            assert followed.current() is first
    ((event, error),) = told
    assert event == "TLS files cannot be used; the former ones stay in use"
    assert "do not belong together" in error
    files.show(renewed)
    with said() as told:
        assert followed.current() is not first
    assert told == []


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
@pytest.mark.parametrize("content", [None, "a pipe", b"", b"-----BEGIN CERTIFICATE-----\nMIIB"])
def test_a_file_that_is_gone_or_cut_short_changes_nothing(
    files: ClientFiles, name: str, content: bytes | str | None
) -> None:
    """Nor one that nobody writes to: it holds nothing up."""
    followed = TlsFiles(Tls(**files.tls()))
    first, file = followed.current(), getattr(files, name)
    whole = file.read_bytes()
    file.unlink()
    if content == "a pipe":
        os.mkfifo(file)
    elif isinstance(content, bytes):
        file.write_bytes(content)
    with said() as told:
        assert followed.current() is first
    assert str(file) in told[0][1]
    assert "kafka.security.tls" in told[0][1]
    file.unlink(missing_ok=True)
    file.write_bytes(whole)
    followed.current()


def test_files_that_never_were_usable_are_an_error_until_they_are(files: ClientFiles) -> None:
    whole = files.ca.read_bytes()
    files.ca.unlink()
    followed = TlsFiles(Tls(**files.tls()))
    with pytest.raises(BridgeError, match=r"ca_file: cannot read .* No such file"):
        followed.current()
    files.ca.write_bytes(b"nothing")
    with pytest.raises(BridgeError, match="holds no certificates in PEM"):
        followed.current()
    files.ca.write_bytes(whole)
    followed.current()


@pytest.mark.parametrize(
    ("given", "said"), [(SECRET, None), ("wrong", "is wrong"), (None, "is missing")]
)
def test_an_encrypted_key_needs_its_password(
    files: ClientFiles, ca: CA, given: str | None, said: str | None
) -> None:
    """It is never asked for on the terminal, and never shown."""
    leaf = certificate(ca, HOST, common_name="bridge")
    files.show(leaf)
    files.key.write_bytes(key_pem(leaf, SECRET))
    followed = TlsFiles(Tls.model_validate({**files.tls(), "key_password": given}))
    if said is None:
        followed.current()
        return
    with pytest.raises(BridgeError, match=f"key_password {said}") as caught:
        followed.current()
    assert SECRET not in repr(caught.value)


def test_an_own_certificate_out_of_time_is_known_without_asking_anybody(
    files: ClientFiles, ca: CA
) -> None:
    assert own_certificate_fault(Tls(**files.tls())) is None
    files.show(certificate(ca, HOST, common_name="bridge", expired=True))
    assert "has expired: renew it" in str(own_certificate_fault(Tls(**files.tls())))
    assert own_certificate_fault(Tls()) is None


async def test_each_new_connection_is_made_with_the_files_as_they_are(
    files: ClientFiles, ca: CA
) -> None:
    """One context for ever, as aiokafka keeps it; the server sees who comes."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(ca, HOST, common_name="broker").configure_cert(server)
    ca.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    names: list[str] = []

    def greeted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = writer.get_extra_info("peercert")["subject"]
        names.append(dict(pair for ((*pair,),) in subject)["commonName"])
        writer.close()

    context = client_arguments(settings(Tls(**files.tls())))["ssl_context"]
    async with await asyncio.start_server(greeted, HOST, 0, ssl=server) as listener:
        port = listener.sockets[0].getsockname()[1]
        for name in ("first", "second"):
            files.show(certificate(ca, HOST, common_name=name))
            reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
    assert names == ["first", "second"]


async def test_refused_files_leave_the_former_ones_in_use(files: ClientFiles, ca: CA) -> None:
    """For new connections, until the brokers take the renewed ones; also over several renewals."""
    followed = TlsFiles(Tls(**files.tls()))
    first = followed.current()
    for name in ("refused", "refused too"):
        files.show(certificate(ca, HOST, common_name=name))
        followed.refresh()
        followed.doubt()
        assert followed.current() is first
    followed.accept()
    assert followed.current() is not first


async def test_a_renewal_is_tried_at_once_and_what_is_wrong_with_it_is_said(
    files: ClientFiles, ca: CA
) -> None:
    """Not at the brokers' next restart; said once, and again when it is mended."""
    (port,) = free_ports(1)
    kafka = settings(Tls(**files.tls()), servers=f"{HOST}:{port}")
    followed = TlsFiles(kafka.security.tls)
    followed.current()
    with capture_logs() as logs:
        task = asyncio.create_task(follow(lambda: (kafka, None), followed, 0.01))
        await asyncio.sleep(0.05)
        assert logs == []
        files.show(certificate(ca, HOST, common_name="renewed"))
        await until(lambda: bool(logs))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    ((line),) = logs
    assert line["event"] == "connections with renewed TLS files fail; former ones in use"
    assert line["error"] == "Connection refused"


# --- words ---------------------------------------------------------------------------------


def broker_certificate(code: int) -> ssl.SSLCertVerificationError:
    exc = ssl.SSLCertVerificationError(1, "failed")
    exc.verify_code, exc.verify_message = code, "as OpenSSL says"
    return exc


def tls_error(reason: str) -> ssl.SSLError:
    exc = ssl.SSLError(1, "failed")
    exc.reason = reason
    return exc


def closed_by(cause: BaseException) -> errors.KafkaError:
    """What a client raises where its connection broke."""
    exc = errors.KafkaConnectionError("Connection at kafka:9093 closed")
    exc.__cause__ = cause
    return exc


LOGIN = Security.model_validate({"protocol": "SASL_SSL", "sasl": login(password=SECRET)})
MUTUAL = Security.model_validate({"protocol": "SSL", "tls": {"cert_file": "/c", "key_file": "/k"}})
WORDS = [
    (broker_certificate(10), LOGIN, "the broker's certificate has expired: renew it on the broker"),
    (broker_certificate(9), LOGIN, "not valid yet: check the clocks"),
    (broker_certificate(19), LOGIN, "not in the system's CAs: name a file with it in kafka.sec"),
    (broker_certificate(62), LOGIN, "for another host name (as OpenSSL says)"),
    (broker_certificate(64), LOGIN, "for another host name"),
    (broker_certificate(3), LOGIN, "the broker's certificate is not valid: as OpenSSL says"),
    (tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), LOGIN, "wants a client certificate: set"),
    (closed_by(tls_error("SSLV3_ALERT_BAD_CERTIFICATE")), LOGIN, "wants a client certificate"),
    (tls_error("SSLV3_ALERT_CERTIFICATE_UNKNOWN"), MUTUAL, "refuses the client certificate in /c"),
    (tls_error("TLSV1_ALERT_UNKNOWN_CA"), MUTUAL, "does not trust the certificate's CA"),
    (tls_error("WRONG_VERSION_NUMBER"), LOGIN, "the listener does not speak TLS: kafka.security."),
    (tls_error("TLSV1_ALERT_PROTOCOL_VERSION"), LOGIN, "TLS fails: tlsv1 alert protocol version"),
    (closed_by(asyncio.IncompleteReadError(b"", 4)), Security(), "may speak something else than"),
    (closed_by(ConnectionResetError()), Security(), "protocol says (PLAINTEXT)"),
    (errors.SaslAuthenticationFailed("no"), LOGIN, "refuses user bridge: wrong username or passw"),
    (
        errors.UnsupportedSaslMechanismError("no"),
        LOGIN,
        "does not accept SCRAM-SHA-512: change kafka",
    ),
    (
        errors.IllegalSaslStateError("no"),
        LOGIN,
        "the listener accepts no login: kafka.security.prot",
    ),
    (errors.ClusterAuthorizationFailedError(), LOGIN, "allow Write and Describe on the topics"),
    (errors.TopicAuthorizationFailedError(), LOGIN, "not authorized: allow this operation"),
    (ConnectionRefusedError(111, "Connect call failed"), LOGIN, "Connection refused"),
    (TimeoutError(), LOGIN, "no answer in time"),
    (errors.KafkaError("as it is"), LOGIN, "KafkaError: as it is"),
]


@pytest.mark.parametrize(("exc", "security", "words"), WORDS, ids=[w[:30] for _, _, w in WORDS])
def test_what_to_mend_is_said_in_one_line_without_a_secret(
    exc: BaseException, security: Security, words: str
) -> None:
    text = explain(exc, security)
    assert words in text
    assert "\n" not in text
    assert SECRET not in text


async def test_the_broker_to_blame_is_named_where_there_are_several() -> None:
    first, second = free_ports(2)
    kafka = Kafka(bootstrap_servers=(f"{HOST}:{first}", f"{HOST}:{second}"))
    assert await find_fault(kafka) == f"{HOST}:{first}: Connection refused"


async def test_silence_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for it is short: a connection must be tried again soon."""
    monkeypatch.setattr("bridge.kafka.diagnosis.DIAGNOSIS_SECONDS", 0.1)
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        assert await find_fault(Kafka(bootstrap_servers=(f"{HOST}:{port}",))) is None
        (refusing,) = free_ports(1)
        kafka = Kafka(bootstrap_servers=(f"{HOST}:{refusing}", f"{HOST}:{port}"))
        assert await find_fault(kafka) == f"{HOST}:{refusing}: Connection refused"
