"""A password for Kafka that changes on disk: the new one is in use once the brokers accept it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.child import wait_until
from tests.support.gateway import Gateway, configuration
from tests.support.secured import ClientFiles, SecuredKafka, login
from tests.support.secured_gateway import Load, logged, until
from tests.support.senders import document
from tests.support.topics import read_topic

USER = "rotating"
FIRST, SECOND, WRONG = "the-first-password", "the-second-password", "a-wrong-password"
IN_USE, FAILED = (
    "new credentials are in use",
    "connections with new credentials fail; former ones in use",
)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    """The file with the password, which is renewed as Kubernetes does it: in one step."""
    return tmp_path / "password"


def renew(password: Path, text: str) -> None:
    new = password.with_suffix(".new")
    new.write_text(f"{text}\n")
    new.rename(password)


@pytest.fixture
def settings(
    secured_kafka: SecuredKafka, topic: str, password: Path, tmp_path: Path
) -> dict[str, Any]:
    secured_kafka.create_topic(topic, 3)
    secured_kafka.create_topic(f"{topic}.rejected", 1)
    secured_kafka.know(USER, FIRST)
    secured_kafka.allow(topic, user=USER, prefix=True)
    files = ClientFiles(tmp_path / "tls")
    files.trust(secured_kafka.ca)
    config = configuration(secured_kafka.addresses("LOGIN"), topic)
    config["kafka"]["security"] = {
        "protocol": "SASL_SSL",
        "sasl": login(USER, f"${{file:{password}}}"),
        "tls": files.tls("ca_file"),
    }
    return config


async def test_a_new_password_is_taken_up_under_load(
    secured_kafka: SecuredKafka, settings: dict[str, Any], topic: str, password: Path
) -> None:
    """A wrong one first: the former stays in use. No producer fails, and no post is unanswered."""
    renew(password, FIRST)
    gateway = Gateway(settings)
    await asyncio.to_thread(gateway.__enter__)
    try:
        async with Load(gateway) as load:
            await load.goes_on()
            renew(password, WRONG)
            await until(lambda: bool(logged(gateway, FAILED)), FAILED)
            await load.goes_on()
            secured_kafka.know(USER, SECOND)
            renew(password, SECOND)
            await until(lambda: bool(logged(gateway, IN_USE)), IN_USE)
            await load.goes_on()
        (failed,) = logged(gateway, FAILED)
        assert f"the broker refuses user {USER}" in failed["error"]
        changed = [line["changed"] for line in logged(gateway, "configuration reloaded")]
        assert changed == [["kafka.security.sasl.password"]] * 2
        assert logged(gateway, "replacing the producer") == []
        assert not any(secret in gateway.output for secret in (FIRST, SECOND, WRONG))
    finally:
        gateway.stop()
    records = await asyncio.to_thread(read_topic, secured_kafka.bootstrap_servers, topic)
    assert load.acknowledged <= {(record.key or b"").decode() for record in records}


def test_a_password_that_was_wrong_is_corrected_without_a_restart(
    settings: dict[str, Any], password: Path
) -> None:
    renew(password, WRONG)
    with Gateway(settings, wait_ready=False) as gateway:
        refused = f"the broker refuses user {USER}"
        wait_until(lambda: refused in gateway.admin("/readyz").body.decode(), refused)
        renew(password, FIRST)
        wait_until(lambda: gateway.admin("/readyz").status == 200, "it is ready")
        assert gateway.post(document("1")).ids == ["1"]
        wait_until(lambda: bool(logged(gateway, IN_USE)), IN_USE)
