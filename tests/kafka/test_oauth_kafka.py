"""A real Kafka that validates signed tokens, and a token endpoint: success, faults, recovery."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from trustme import CA

from bridge.demo.child import wait_until
from tests.support.gateway import Gateway
from tests.support.oauth import BASIC, SCOPE, Script, TokenServer
from tests.support.secured import ClientFiles, SecuredKafka
from tests.support.secured_gateway import Load, command, configured, logged, until
from tests.support.senders import document
from tests.support.topics import read_topic

INVALID = b'<response><state id_sms="b@d">read</state></response>'


@pytest.fixture
def tokens(secured_kafka: SecuredKafka) -> Iterator[TokenServer]:
    """A token endpoint whose tokens the broker accepts; its CA is not the brokers'."""
    with TokenServer(secured_kafka.issuer, CA()) as server:
        yield server


@pytest.fixture
def settings(
    secured_kafka: SecuredKafka, secured_topic: str, files: ClientFiles, tokens: TokenServer
) -> dict[str, Any]:
    """A whole configuration that logs in with tokens."""
    own = files.ca.with_name("login-ca.crt")
    own.write_bytes(tokens.ca.cert_pem.bytes())
    sasl = tokens.sasl(token_ca_file=str(own))
    security = {"protocol": "SASL_SSL", "sasl": sasl, "tls": files.tls("ca_file")}
    configuration = configured(secured_kafka, "TOKEN", secured_topic, security)
    configuration["kafka"]["publish_timeout_seconds"] = 2  # for posts that must not be acknowledged
    return configuration


def assert_nothing_secret(said: str, tokens: TokenServer) -> None:
    """Neither the secret, in any form, nor a part of a token."""
    assert "secret:" not in said
    assert "may+show" not in said
    assert BASIC not in said
    assert not any(part in said for token in tokens.given for part in token.split("."))


# --- it connects ---------------------------------------------------------------------------


def test_every_part_connects(
    settings: dict[str, Any],
    secured_kafka: SecuredKafka,
    secured_topic: str,
    tokens: TokenServer,
    tmp_path: Path,
) -> None:
    """Gateway and commands; at the level debug, too, no line holds the secret or a token."""
    settings["log"]["level"] = "debug"
    with Gateway(settings) as gateway:
        assert gateway.post(document("1", "2")).ids == ["1", "2"]
        assert gateway.post(INVALID).ids == ["b@d"]
        assert len(tokens.given) == 1  # for all connections
        output = gateway.output
    assert len(read_topic(secured_kafka.bootstrap_servers, secured_topic, expect=2)) == 2
    assert tokens.asked[0] == {"grant_type": ["client_credentials"], "scope": [SCOPE]}

    for name, options, expected in (
        ("check", ("--connect",), f"topic {secured_topic}: exists"),
        ("tail", ("--from-beginning", "--max", "2"), "read"),
        ("dead-letters", ("list",), "b@d"),
        ("dead-letters", ("replay",), "b@d"),
        ("reconcile", ("--from-topic", "--since", "1h", "--older-than", "1m"), ""),
    ):
        del tokens.given[:]
        if name == "reconcile":
            settings["endpoints"][0]["provider"] = {"url": "http://127.0.0.1:9/xml", "token": "t"}
        result = command(name, settings, tmp_path, *options)
        assert expected in result.output, result.output
        assert tokens.given, name
        assert "no token" not in result.output
        output += result.output
    assert_nothing_secret(output, tokens)


async def test_tokens_expire_under_load(
    settings: dict[str, Any], secured_kafka: SecuredKafka, secured_topic: str, tokens: TokenServer
) -> None:
    """Each session ends with its token: nothing is lost; with -rP it prints what was sent twice."""
    tokens.script.seconds = 5
    settings["kafka"]["publish_timeout_seconds"] = 4
    gateway = Gateway(settings)
    await asyncio.to_thread(gateway.__enter__)
    try:
        async with Load(gateway) as load:
            await until(lambda: len(tokens.given) > 3, "four tokens")
            await load.goes_on()
        assert_nothing_secret(gateway.output, tokens)
    finally:
        gateway.stop()
    records = await asyncio.to_thread(read_topic, secured_kafka.bootstrap_servers, secured_topic)
    keys = [(record.key or b"").decode() for record in records]
    twice = len(keys) - len(set(keys))
    figures = f"{len(load.acknowledged)} acknowledged, {twice} twice, slowest {load.slowest:.1f} s"
    sys.stdout.write(f"{figures}\n")
    assert load.acknowledged <= set(keys)


def test_an_idle_gateway_keeps_its_producer(settings: dict[str, Any], tokens: TokenServer) -> None:
    """Between posts the cluster is asked all the same: no such question meets an ended session."""
    tokens.script.seconds = 10
    with Gateway(settings) as gateway:
        wait_until(lambda: len(tokens.given) > 2, "three tokens", 60)
        assert gateway.post(document("1")).ids == ["1"]
        assert not logged(gateway, "replacing the producer")


# --- it says what is wrong, and recovers ---------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A fault of the token endpoint's, or of its tokens; `cause` returns what fixes it."""

    cause: Callable[[TokenServer, Path], Callable[[], None]]
    said: str


def scripted(**changes: Any) -> Callable[[TokenServer, Path], Callable[[], None]]:
    def cause(tokens: TokenServer, _: Path) -> Callable[[], None]:
        tokens.script = Script(**changes)

        def fix() -> None:
            tokens.script = Script()

        return fix

    return cause


def another_ca(_: TokenServer, ca_file: Path) -> Callable[[], None]:
    right = ca_file.read_bytes()
    ca_file.write_bytes(CA().cert_pem.bytes())

    def fix() -> None:
        ca_file.write_bytes(right)

    return fix


def silent(tokens: TokenServer, _: Path) -> Callable[[], None]:
    tokens.script.held = threading.Event()

    def fix() -> None:
        held, tokens.script.held = tokens.script.held, None
        assert held is not None
        held.set()

    return fix


CASES = {
    "wrong secret": Case(
        scripted(secret="another"),
        "no token for Kafka: URL refuses client bridge: invalid_client (unknown): check "
        "kafka.security.sasl.client_id and client_secret",
    ),
    "token endpoint silent": Case(silent, "no token for Kafka: URL has not answered within 1 s"),
    "CA of the token endpoint unknown": Case(
        another_ca,
        "no token for Kafka: the certificate of URL is not valid: unable to get local issuer "
        "certificate (kafka.security.sasl.token_ca_file)",
    ),
    "token for another audience": Case(
        scripted(claims={"aud": "elsewhere"}),
        'the broker refuses the token of client bridge ({"status":"invalid_token"}): compare',
    ),
    "token expired by the broker's clock": Case(
        scripted(claims={"exp": 1_700_000_000}),
        'the broker refuses the token of client bridge ({"status":"invalid_token"}): compare',
    ),
}


@pytest.mark.parametrize("fault", CASES)
def test_a_fault_is_one_clear_message_and_is_over_without_a_restart(
    fault: str, settings: dict[str, Any], tokens: TokenServer, tmp_path: Path
) -> None:
    """In the log, in /readyz and in `check --connect`; with -rP it prints the message and time."""
    case = CASES[fault]
    expected = case.said.replace("URL", tokens.url)
    fix = case.cause(tokens, Path(settings["kafka"]["security"]["sasl"]["token_ca_file"]))
    with Gateway(settings, wait_ready=False) as gateway:
        wait_until(lambda: expected in gateway.admin("/readyz").body.decode(), expected)
        assert gateway.post(document("1")).status == 503
        said = gateway.admin("/readyz").body.decode().strip()
        assert [line for line in logged(gateway, "cannot reach Kafka") if expected in line["error"]]
        checked = command("check", settings, tmp_path, "--connect")
        assert checked.exit_code == 1
        assert expected in checked.output.splitlines()[-1]

        fix()
        fixed_at = time.monotonic()
        wait_until(lambda: gateway.admin("/readyz").status == 200, "it is ready")
        seconds = time.monotonic() - fixed_at
        assert gateway.post(document("1")).ids == ["1"]
        assert_nothing_secret(gateway.output + checked.output, tokens)
    sys.stdout.write(f"| {fault} | {said} | {seconds:.1f} |\n")


def test_an_outage_is_survived_while_the_token_is_valid_and_after(
    settings: dict[str, Any], tokens: TokenServer
) -> None:
    """A warning while the session lasts; past its end true answers, in time; then it is over."""
    tokens.script.seconds, tokens.script.claims = 4, {"exp": int(time.time()) + 25}
    with Gateway(settings) as gateway:
        assert gateway.post(document("1")).ids == ["1"]
        tokens.script.answer = (500, {"error": "server_error"})
        wait_until(lambda: bool(logged(gateway, "could not renew the token for Kafka")), "said", 60)
        assert gateway.post(document("2")).ids == ["2"]
        wait_until(lambda: gateway.post(document("3")).status == 503, "the session has ended", 60)
        expired = f"the token for Kafka has expired: {tokens.url} refuses"
        wait_until(lambda: expired in gateway.output, expired, 60)
        posted_at = time.monotonic()
        assert gateway.post(document("4")).status == 503
        assert time.monotonic() - posted_at < 60
        assert gateway.admin("/readyz").status == 200

        tokens.script = Script()
        wait_until(lambda: gateway.post(document("4")).ids == ["4"], "it is over", 60)
        (line,) = logged(gateway, "could not renew the token for Kafka")
        assert 0 <= line["valid_seconds"] <= 4
        assert len(logged(gateway, "token for Kafka renewed")) == 1
        assert_nothing_secret(gateway.output, tokens)
