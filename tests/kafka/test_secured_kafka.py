"""A real Kafka that asks who is there: it connects, says what is wrong, and recovers by itself."""

import asyncio
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from confluent_kafka.admin._acl import AclOperation
from trustme import CA

from bridge.demo.child import wait_until
from tests.support.gateway import Gateway
from tests.support.kafka_tools import run_tool
from tests.support.proxy import Proxy
from tests.support.secured import PASSWORD, ClientFiles, SecuredKafka, chain_pem, key_pem, login
from tests.support.secured_gateway import Load, Security, command, configured, logged, until
from tests.support.senders import document
from tests.support.topics import read_topic

WRITE, READ, DESCRIBE = AclOperation.WRITE, AclOperation.READ, AclOperation.DESCRIBE


def logged_in(files: ClientFiles, *, tls: tuple[str, ...] = ("ca_file",), **who: str) -> Security:
    return {"protocol": "SASL_SSL", "sasl": login(**who), "tls": files.tls(*tls)}


def with_certificate(files: ClientFiles) -> Security:
    return {"protocol": "SSL", "tls": files.tls()}


# --- it connects ---------------------------------------------------------------------------

WAYS: dict[str, tuple[str, Callable[[ClientFiles], Security]]] = {
    "SCRAM-SHA-512": ("LOGIN", logged_in),
    "SCRAM-SHA-256": ("LOGIN", lambda files: logged_in(files, mechanism="SCRAM-SHA-256")),
    "PLAIN": ("LOGIN", lambda files: logged_in(files, mechanism="PLAIN")),
    "client certificate": ("MUTUAL", with_certificate),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_part_connects(
    way: str, secured_kafka: SecuredKafka, secured_topic: str, files: ClientFiles, tmp_path: Path
) -> None:
    """Gateway, `check --connect` and `tail`; at the level debug, too, no line holds the secret."""
    listener, security = WAYS[way]
    settings = configured(secured_kafka, listener, secured_topic, security(files), level="debug")
    with Gateway(settings) as gateway:
        assert gateway.post(document("1", "2")).ids == ["1", "2"]
        assert PASSWORD not in gateway.output
    assert len(read_topic(secured_kafka.bootstrap_servers, secured_topic, expect=2)) == 2

    checked = command("check", settings, tmp_path, "--connect")
    assert checked.exit_code == 0, checked.output
    assert f"topic {secured_topic}: exists" in checked.stdout
    seen = command("tail", settings, tmp_path, "--from-beginning", "--max", "2")
    assert seen.exit_code == 0, seen.output
    assert len(seen.stdout.splitlines()) == 2
    assert PASSWORD not in checked.output + seen.output


def test_the_command_for_a_missing_topic_works_with_the_login_of_the_page(
    secured_kafka: SecuredKafka, files: ClientFiles, tmp_path: Path
) -> None:
    topic = "test.missing-there"
    secured_kafka.know("operator", "secret")
    secured_kafka.allow(topic, [AclOperation.CREATE, DESCRIBE], user="operator")
    secured_kafka.allow(topic)
    page = (Path(__file__).parents[2] / "docs/deploy-kafka.md").read_text("utf-8")
    (example,) = re.findall(r"```properties\n(.*?)```", page, re.DOTALL)
    (tmp_path / "client.properties").write_text(example)
    shutil.copy(files.ca, tmp_path / "ca.crt")

    settings = configured(secured_kafka, "LOGIN", topic, logged_in(files))
    settings["kafka"]["create_topics"] = {"replication_factor": 1, "config": {}}
    with Gateway(settings, wait_ready=False) as gateway:
        missing = gateway.line("topic is missing", topic=topic)
        assert f"Created topic {topic}." in run_tool(missing["create_it_with"], tmp_path)
        wait_until(lambda: gateway.post(document("1")).ids == ["1"], "it serves")


# --- it says what is wrong, and recovers ---------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What a fault is made of; `cause` returns what mends it.

    `said` is told by the running gateway, and by `check --connect` too where `checked` is empty.
    """

    listener: str
    security: Callable[[ClientFiles], Security]
    cause: Callable[[SecuredKafka, ClientFiles, str], Callable[[], None]]
    said: str
    checked: str = ""


def wrong_password(kafka: SecuredKafka, _: ClientFiles, __: str) -> Callable[[], None]:
    kafka.know("forgetful", "another password")
    kafka.allow("test.", user="forgetful", prefix=True)
    return lambda: kafka.know("forgetful", PASSWORD)


def unknown_ca(kafka: SecuredKafka, files: ClientFiles, _: str) -> Callable[[], None]:
    files.trust(kafka.client_ca)
    return lambda: files.trust(kafka.ca)


def no_ca_file(kafka: SecuredKafka, files: ClientFiles, _: str) -> Callable[[], None]:
    files.ca.unlink()
    return lambda: files.trust(kafka.ca)


def half_a_pair(kafka: SecuredKafka, files: ClientFiles, _: str) -> Callable[[], None]:
    renewed = kafka.client()
    key = files.key.read_bytes()
    files.show(renewed)
    whole = files.key.read_bytes()
    files.key.write_bytes(key)

    def mend() -> None:
        files.key.write_bytes(whole)

    return mend


def expired_broker(kafka: SecuredKafka, _: ClientFiles, __: str) -> Callable[[], None]:
    kafka.show("FLAWED", kafka.broker(expired=True))
    return lambda: kafka.show("FLAWED", kafka.broker())


def misnamed_broker(kafka: SecuredKafka, _: ClientFiles, __: str) -> Callable[[], None]:
    kafka.show("FLAWED", kafka.broker("kafka.example.com"))
    return lambda: kafka.show("FLAWED", kafka.broker())


def expired_client(kafka: SecuredKafka, files: ClientFiles, _: str) -> Callable[[], None]:
    files.show(kafka.client(expired=True))
    return lambda: files.show(kafka.client())


def untrusted_client(kafka: SecuredKafka, files: ClientFiles, _: str) -> Callable[[], None]:
    files.show(kafka.client(ca=CA()))
    return lambda: files.show(kafka.client())


def all_denied(kafka: SecuredKafka, _: ClientFiles, topic: str) -> Callable[[], None]:
    kafka.know("nobody", PASSWORD)
    return lambda: kafka.allow(topic, user="nobody", prefix=True)


def write_denied(kafka: SecuredKafka, _: ClientFiles, topic: str) -> Callable[[], None]:
    kafka.know("reader", PASSWORD)
    kafka.allow(topic, (READ, DESCRIBE), user="reader")
    kafka.allow(f"{topic}.rejected", user="reader")
    return lambda: kafka.allow(topic, (WRITE,), user="reader")


def describe_denied(kafka: SecuredKafka, _: ClientFiles, topic: str) -> Callable[[], None]:
    kafka.know("blind", PASSWORD)
    kafka.allow(f"{topic}.rejected", user="blind")
    return lambda: kafka.allow(topic, (WRITE,), user="blind")


def as_user(username: str) -> Callable[[ClientFiles], Security]:
    return lambda files: logged_in(files, username=username)


CASES = {
    "wrong password": Case(
        "LOGIN", as_user("forgetful"), wrong_password, "refuses user forgetful: wrong username or"
    ),
    "unknown CA": Case("LOGIN", logged_in, unknown_ca, "ca.crt (kafka.security.tls.ca_file): put"),
    "CA file missing": Case("LOGIN", logged_in, no_ca_file, "tls.ca_file: cannot read"),
    "half-written pair": Case("MUTUAL", with_certificate, half_a_pair, "do not belong together"),
    "broker's certificate expired": Case(
        "FLAWED", logged_in, expired_broker, "the broker's certificate has expired: renew it"
    ),
    "host name mismatch": Case(
        "FLAWED", logged_in, misnamed_broker, "the broker's certificate is for another host name"
    ),
    "client certificate expired": Case(
        "MUTUAL", with_certificate, expired_client, "tls.crt has expired: renew it"
    ),
    "client certificate of an unknown CA": Case(
        "MUTUAL", with_certificate, untrusted_client, "the broker refuses the client certificate in"
    ),
    "everything denied": Case(
        "LOGIN",
        as_user("nobody"),
        all_denied,
        "not authorized to write to any topic: allow Write and Describe on the topics",
        "rejected: not authorized: allow Describe and Write on it to the bridge's user",
    ),
    "Write denied": Case(
        "LOGIN", as_user("reader"), write_denied, "not authorized: allow Write on it"
    ),
    "Describe denied": Case(
        "LOGIN", as_user("blind"), describe_denied, "not authorized: allow Describe and Write on it"
    ),
}


@pytest.mark.parametrize("fault", CASES)
def test_a_fault_is_one_clear_message_and_mends_without_a_restart(
    fault: str, secured_kafka: SecuredKafka, secured_topic: str, files: ClientFiles, tmp_path: Path
) -> None:
    """In the log, in /readyz and in `check --connect`; with -rP it prints the message and time."""
    case = CASES[fault]
    settings = configured(secured_kafka, case.listener, secured_topic, case.security(files))
    settings["kafka"]["publish_timeout_seconds"] = 2  # for the post that must not be acknowledged
    mend = case.cause(secured_kafka, files, secured_topic)
    with Gateway(settings, wait_ready=False) as gateway:
        wait_until(lambda: case.said in gateway.admin("/readyz").body.decode(), case.said)
        assert gateway.post(document("1")).status == 503
        said = gateway.admin("/readyz").body.decode().strip()
        assert [line for line in gateway.logs() if is_told_by(line, case.said)]
        checked = command("check", settings, tmp_path, "--connect")
        assert checked.exit_code == 1
        assert (case.checked or case.said) in checked.output

        mend()
        mended_at = time.monotonic()
        wait_until(lambda: gateway.admin("/readyz").status == 200, "it is ready")
        seconds = time.monotonic() - mended_at
        assert gateway.post(document("1")).ids == ["1"]
        assert PASSWORD not in gateway.output + checked.output
    sys.stdout.write(f"| {fault} | {said} | {seconds:.1f} |\n")


def is_told_by(line: Mapping[str, Any], said: str) -> bool:
    """Whether the line is the one message of the fault."""
    if line["event"] == "topic not authorized":
        return f"not authorized: {line['fix']}" == said
    return line["event"] == "cannot reach Kafka" and said in line["error"]


REFUSALS: dict[str, tuple[str, Security, str]] = {
    "no client certificate": ("MUTUAL", {"protocol": "SSL"}, "wants a client certificate: set"),
    "plain text to TLS": ("LOGIN", {}, "its listener may speak something else"),
    "TLS without a login": ("LOGIN", {"protocol": "SSL"}, "its listener may speak something else"),
    "a login where there is none": (
        "PLAINTEXT",
        {"protocol": "SASL_PLAINTEXT", "sasl": login()},
        "accepts no login: kafka.security.protocol",
    ),
}


@pytest.mark.parametrize("mistake", REFUSALS)
def test_a_mistaken_configuration_is_told_by_check(
    mistake: str, secured_kafka: SecuredKafka, files: ClientFiles, tmp_path: Path
) -> None:
    listener, security, said = REFUSALS[mistake]
    if "SSL" in security.get("protocol", ""):
        security = {**security, "tls": files.tls("ca_file")}
    settings = configured(secured_kafka, listener, "test.any", security)
    result = command("check", settings, tmp_path, "--connect")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()[-1:]
    assert line.startswith("sms-bridge: cannot reach Kafka at 127.0.0.1:")
    assert said in line


def test_a_right_that_is_taken_away_and_given_back(
    secured_kafka: SecuredKafka, secured_topic: str, files: ClientFiles
) -> None:
    """While it serves: nothing is acknowledged meanwhile, one line says why, and it goes on."""
    secured_kafka.know("tenant", PASSWORD)
    secured_kafka.allow(secured_topic, (WRITE, DESCRIBE), user="tenant")
    secured_kafka.allow(f"{secured_topic}.rejected", user="tenant")
    security = logged_in(files, username="tenant")
    with Gateway(configured(secured_kafka, "LOGIN", secured_topic, security)) as gateway:
        assert gateway.post(document("1")).ids == ["1"]
        secured_kafka.forbid(secured_topic, (WRITE,), user="tenant")
        wait_until(lambda: gateway.post(document("2")).status == 503, "Write is denied")
        wait_until(lambda: bool(denials(gateway)), "the denial is said")
        secured_kafka.allow(secured_topic, (WRITE,), user="tenant")
        wait_until(lambda: gateway.post(document("2")).status == 200, "Write is allowed")
        assert [line["fix"] for line in denials(gateway)] == ["allow Write on it"]


def denials(gateway: Gateway) -> list[dict[str, Any]]:
    return [line for line in gateway.logs() if line["event"] == "topic not authorized"]


def test_commands_that_read_say_what_reading_needs(
    secured_kafka: SecuredKafka, secured_topic: str, files: ClientFiles, tmp_path: Path
) -> None:
    """With the rights of a gateway, which may not read, and with none at all."""
    letters = f"{secured_topic}.rejected"
    secured_kafka.know("writer", PASSWORD)
    secured_kafka.allow(secured_topic, (WRITE, DESCRIBE), user="writer", prefix=True)
    secured_kafka.know("nobody", PASSWORD)
    mine, theirs = (
        configured(secured_kafka, "LOGIN", secured_topic, logged_in(files, username=user))
        for user in ("writer", "nobody")
    )
    with Gateway(mine) as gateway:
        invalid = b'<response><state id_sms="b@d">read</state></response>'
        assert gateway.post(invalid).ids == ["b@d"]
    tail = command("tail", mine, tmp_path, "--from-beginning", "--max", "1")
    assert tail.exit_code == 1
    names = secured_topic, letters  # whichever answers first
    assert said(tail) in {f"not authorized to read: allow Read on {name}" for name in names}
    find = command("find", mine, tmp_path, "3234")
    assert find.exit_code == 1
    assert said(find) in {f"not authorized to read: allow Read on {name}" for name in names}
    for settings, needed in ((mine, "Read"), (theirs, "Describe and Read")):
        listed = command("dead-letters", settings, tmp_path, "list")
        expected = f"not authorized to read: allow {needed} on {letters}"
        assert (listed.exit_code, said(listed)) == (1, expected)


def said(result: Result) -> str:
    """The last line for people, without the program's name."""
    return result.stderr.splitlines()[-1].removeprefix("sms-bridge: ")


# --- files that are renewed ----------------------------------------------------------------


async def test_files_are_renewed_under_load(
    secured_kafka: SecuredKafka, secured_topic: str, files: ClientFiles
) -> None:
    """Certificate, key and CA, also half written and refused: all acknowledged is in Kafka.

    After each step the connections are cut, so that new ones show what is in use.
    """
    kafka, clients, brokers = secured_kafka, CA(), CA()
    host, port = kafka.addresses("PROXIED").split(":")
    async with Proxy([(host, int(port))], kafka.proxied_port) as proxy:
        settings = configured(kafka, "PROXIED", secured_topic, with_certificate(files))
        settings["kafka"]["bootstrap_servers"] = proxy.address
        gateway = Gateway(settings)
        await asyncio.to_thread(gateway.__enter__)
        try:
            async with Load(gateway) as load:
                await load.goes_on()

                # Half a pair: the former one stays in use.
                kafka.trust("PROXIED", kafka.client_ca, clients)
                renewed = kafka.client(ca=clients)
                files.cert.write_bytes(chain_pem(renewed))
                await cut(proxy, load)
                assert "do not belong together" in str(gateway.logs())

                # The other half: now the broker may forget the former CA.
                files.key.write_bytes(key_pem(renewed))
                kafka.trust("PROXIED", clients)
                await cut(proxy, load)

                # Another CA of the brokers'.
                files.trust(kafka.ca, brokers)
                kafka.show("PROXIED", kafka.broker(ca=brokers))
                await cut(proxy, load)
                files.trust(brokers)
                await cut(proxy, load)

                # A certificate that is refused: the former one stays in use, and it is said.
                files.show(kafka.client(ca=CA()))
                refused = "connections with renewed TLS files fail"
                await until(lambda: refused in str(gateway.logs()), refused)
                await cut(proxy, load)
                files.show(renewed)
                count = len(logged(gateway, RENEWED))
                await until(lambda: len(logged(gateway, RENEWED)) > count, RENEWED)
                await cut(proxy, load)
        finally:
            gateway.stop()
    records = await asyncio.to_thread(read_topic, kafka.bootstrap_servers, secured_topic)
    sys.stdout.write(f"{len(load.acknowledged)} acknowledged, slowest {load.slowest:.1f} s\n")
    assert load.acknowledged <= {(record.key or b"").decode() for record in records}


RENEWED = "TLS files were renewed: new connections use them"


async def cut(proxy: Proxy, load: Load) -> None:
    """Have the gateway connect anew, and see that it goes on."""
    await asyncio.sleep(0.2)  # a broker takes another store for the connections after it
    accepted = proxy.counts.accepted
    proxy.cut()
    await until(lambda: proxy.counts.accepted > accepted, "it connects anew")
    await load.goes_on()
