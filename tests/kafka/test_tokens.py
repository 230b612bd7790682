"""The token is fetched once for all, renewed in time, and its absence holds nobody up."""

import asyncio
import math
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from structlog.testing import capture_logs
from trustme import CA

from bridge.config.settings import Kafka, Sasl
from bridge.errors import BridgeError
from bridge.kafka.credentials import Credentials, client_arguments
from bridge.kafka.diagnosis import explain
from bridge.kafka.token_endpoint import MAX_ANSWER_BYTES, UNTOLD_SECONDS, TokenEndpoint
from bridge.kafka.tokens import NoTokenError, Token, Tokens
from tests.support.oauth import BASIC, CLIENT, CLIENT_SECRET, SCOPE, Issuer, TokenServer

URL = "https://login.example.com/token"


class FakeEndpoint:
    """Hands out tokens that are numbered, on a clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0
        self.problem: Exception | None = None
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def fetch(self) -> Token:
        self.asked += 1
        await self.let_go.wait()
        if self.problem is not None:
            raise self.problem
        return Token(f"token-{self.asked}", 100)

    def tokens(self, wait_seconds: float = 30) -> Tokens:
        return Tokens(URL, self.fetch, wait_seconds=wait_seconds, clock=lambda: self.now)


async def idle() -> None:
    """Let what was begun go on, as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_connections_at_once_share_one_fetch() -> None:
    endpoint = FakeEndpoint()
    tokens = endpoint.tokens()
    got = await asyncio.gather(*(tokens.token() for _ in range(10)))
    assert set(got) == {"token-1"}
    assert await tokens.token() == "token-1"
    assert endpoint.asked == 1


async def test_a_token_is_renewed_before_it_ends_and_nobody_waits() -> None:
    endpoint = FakeEndpoint()
    tokens = endpoint.tokens()
    await tokens.token()
    endpoint.now += 79
    assert tokens.fresh()
    endpoint.now += 2
    endpoint.let_go.clear()
    assert not tokens.fresh()
    assert await tokens.token() == "token-1"
    endpoint.let_go.set()
    await idle()
    assert await tokens.token() == "token-2"
    assert tokens.fresh()
    assert endpoint.asked == 2


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have tokens renewed as soon as they are there."""
    monkeypatch.setattr("bridge.kafka.tokens.PAUSES_SECONDS", (0.01, 0.01))
    monkeypatch.setattr("bridge.kafka.tokens.RENEW_AT", 0.0)


@pytest.mark.usefixtures("at_once")
async def test_it_is_renewed_though_nobody_asks() -> None:
    """Again and again, also after a failure; not once nobody has it any more."""
    endpoint = FakeEndpoint()
    tokens = endpoint.tokens()
    await tokens.token()
    for problem in (None, BridgeError("away"), None):
        endpoint.problem = problem
        asked = endpoint.asked
        async with asyncio.timeout(30):
            while endpoint.asked < asked + 3:
                await asyncio.sleep(0.01)
    del tokens
    await idle()
    asked = endpoint.asked
    await asyncio.sleep(0.1)
    assert endpoint.asked == asked


@pytest.mark.usefixtures("at_once")
async def test_what_is_closed_fetches_for_who_asks_alone() -> None:
    """A producer that winds down may still need a token; nothing renews it after that."""
    endpoint = FakeEndpoint()
    tokens = endpoint.tokens()
    await tokens.token()
    tokens.close()
    tokens.fresh()
    await asyncio.sleep(0.1)
    assert endpoint.asked == 2


async def test_a_renewal_that_fails_is_said_once_and_the_token_is_used_to_its_end() -> None:
    endpoint = FakeEndpoint()
    tokens = endpoint.tokens()
    await tokens.token()
    endpoint.now += 90
    endpoint.problem = BridgeError("away")
    with capture_logs() as logs:
        for _ in range(9):
            assert await tokens.token() == "token-1"
            await idle()
            endpoint.now += 1
    assert logs == [
        {
            "event": "could not renew the token for Kafka",
            "log_level": "warning",
            "error": "away",
            "valid_seconds": 10,
        }
    ]
    endpoint.now += 2
    with pytest.raises(NoTokenError) as caught:
        await tokens.token()
    assert str(caught.value) == "the token for Kafka has expired: away"

    endpoint.problem, endpoint.now = None, endpoint.now + 60
    with capture_logs() as logs:
        assert await tokens.token() != "token-1"
    assert [line["event"] for line in logs] == ["token for Kafka renewed"]


async def test_attempts_that_fail_are_spaced() -> None:
    """A second at first, ten at last: whoever asks meanwhile is told the reason at once."""
    endpoint = FakeEndpoint()
    tokens = endpoint.tokens()
    endpoint.problem = BridgeError("away")
    for _ in range(600):
        with pytest.raises(NoTokenError, match=r"^no token for Kafka: away$"):
            await tokens.token()
        endpoint.now += 0.1
    assert endpoint.asked == 9  # after 0, 1, 3, 7, 15, 25, 35, 45 and 55 seconds


async def test_a_silent_endpoint_is_waited_for_once() -> None:
    """For `wait_seconds`; the fetch goes on, and serves whoever comes later."""
    endpoint = FakeEndpoint()
    endpoint.let_go.clear()
    tokens = endpoint.tokens(wait_seconds=0.05)
    silence = f"no token for Kafka: {URL} has not answered within 0.05 s"
    with pytest.raises(NoTokenError, match=silence):
        await tokens.token()
    endpoint.now += 1  # all the later ones wait no more
    for _ in range(100):
        with pytest.raises(NoTokenError, match=silence):
            await tokens.token()
    endpoint.let_go.set()
    await idle()
    assert await tokens.token() == "token-1"
    assert endpoint.asked == 1


async def test_after_a_failure_the_wait_is_short() -> None:
    """So that who looks for the reason finds it."""
    endpoint = FakeEndpoint()
    endpoint.problem = BridgeError("away")
    tokens = endpoint.tokens()
    with pytest.raises(NoTokenError):
        await tokens.token()
    endpoint.let_go.clear()
    endpoint.now += 5
    with pytest.raises(NoTokenError, match="away"):  # and not after 30 s
        await asyncio.wait_for(tokens.token(), 20)


async def test_what_nobody_foresaw_is_named_without_its_text() -> None:
    endpoint = FakeEndpoint()
    endpoint.problem = ValueError("hunter2")
    with pytest.raises(NoTokenError) as caught:
        await endpoint.tokens().token()
    assert str(caught.value) == "no token for Kafka: ValueError"


async def test_a_token_that_a_broker_refuses_is_replaced_but_not_at_every_refusal() -> None:
    endpoint = FakeEndpoint()
    tokens = endpoint.tokens()
    await tokens.token()
    tokens.refused()
    assert await tokens.token() == "token-1"
    endpoint.now += 6
    tokens.refused()
    assert await tokens.token() == "token-2"


async def test_no_fetch_is_left_behind() -> None:
    endpoint = FakeEndpoint()
    endpoint.let_go.clear()
    tokens = endpoint.tokens(wait_seconds=0.01)
    with pytest.raises(NoTokenError):
        await tokens.token()
    tokens.close()
    await idle()
    assert len(asyncio.all_tasks()) == 1


async def test_aiokafka_takes_its_absence_for_a_failed_connection() -> None:
    """Anything else would end its sender. And it is explained as it stands."""
    error = NoTokenError("no token for Kafka: away")
    assert isinstance(error, KafkaConnectionError)
    outer = KafkaConnectionError("Connection at kafka:9093 closed")
    outer.__cause__ = error
    assert explain(outer, Kafka().security) == "no token for Kafka: away"


def test_a_login_with_a_token() -> None:
    sasl = {
        "mechanism": "OAUTHBEARER",
        "token_url": URL,
        "client_id": CLIENT,
        "client_secret": "hunter2",
    }
    settings = Kafka.model_validate({"security": {"protocol": "SASL_PLAINTEXT", "sasl": sasl}})
    credentials = Credentials(settings)
    assert client_arguments(settings, credentials) == {
        "bootstrap_servers": ["kafka:9092"],
        "client_id": "sms-bridge",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauth_token_provider": credentials.tokens,
    }


# --- the endpoint --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def server(issuer: Issuer) -> Iterator[TokenServer]:
    with TokenServer(issuer, CA()) as running:
        yield running


@pytest.fixture
def endpoint(server: TokenServer, tmp_path: Path) -> TokenEndpoint:
    file = tmp_path / "ca.crt"
    file.write_bytes(server.ca.cert_pem.bytes())
    return TokenEndpoint.of(Sasl.model_validate(server.sasl(token_ca_file=str(file))))


async def fault_of(endpoint: TokenEndpoint) -> str:
    """What is said: one line, without the secret or anything that the server has sent."""
    with pytest.raises(BridgeError) as caught:
        await endpoint.fetch()
    error: BaseException | None = caught.value
    said = str(error)
    assert len(said.splitlines()) == 1
    for secret in (CLIENT_SECRET, "secret%3A", BASIC, "eyJ"):
        assert secret not in said
    for long, short in ((endpoint.url, "URL"), ("URL refuses client bridge", "REFUSED")):
        said = said.replace(long, short)
    return said.replace("kafka.security.sasl", "SASL")


async def test_a_token_is_asked_for_as_the_standard_says(
    server: TokenServer, endpoint: TokenEndpoint
) -> None:
    """The secret has signs of which each would mean something if it were not encoded."""
    server.script.seconds = 77
    token = await endpoint.fetch()
    assert (token.value, token.seconds) == (server.given[0], 77)
    await replace(endpoint, scope=None).fetch()
    grant = {"grant_type": ["client_credentials"]}
    assert server.asked == [{**grant, "scope": [SCOPE]}, grant]
    assert token.value not in repr(token)
    assert CLIENT_SECRET not in repr(endpoint)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (3599, 3599),
        ("3599", 3599),
        *((said, UNTOLD_SECONDS) for said in (None, "soon", True, math.nan, math.inf, 10**400)),
    ],
)
async def test_for_how_long_it_lasts(
    server: TokenServer, endpoint: TokenEndpoint, said: object, seconds: float
) -> None:
    """Some servers write a number as text, and some do not say it."""
    answer = {"access_token": "a.b-c_d~e/f+g==", "expires_in": said}
    server.script.answer = 200, answer
    assert (await endpoint.fetch()).seconds == seconds


ANSWERS: dict[str, tuple[int, Mapping[str, Any] | str, str]] = {
    "wrong secret": (
        401,
        {"error": "invalid_client", "error_description": f"{CLIENT_SECRET} is\nwrong"},
        "REFUSED: invalid_client (*** is\\nwrong): check SASL.client_id and client_secret",
    ),
    "a header that it repeats": (
        401,
        {"error": "invalid_client", "error_description": f"Basic {BASIC}"},
        "REFUSED: invalid_client (Basic ***): check SASL.client_id and client_secret",
    ),
    "wrong scope": (
        400,
        {"error": "invalid_scope"},
        "REFUSED: invalid_scope: check SASL.scope",
    ),
    "wrong grant": (
        400,
        {"error": "unauthorized_client"},
        "REFUSED: unauthorized_client: allow it the client credentials grant on the server",
    ),
    "an error of its own": (
        400,
        {"error": "too_late"},
        "REFUSED: too_late",
    ),
    "a guard in front": (
        401,
        "<html>eyJ</html>",
        "URL answers HTTP 401: check SASL.client_id and client_secret",
    ),
    "another path": (404, "", "URL answers HTTP 404: is SASL.token_url right?"),
    "elsewhere": (302, "", "URL answers HTTP 302: is SASL.token_url right?"),
    "too many": (429, "slowly", "URL answers HTTP 429"),
    "away": (503, "eyJ", "URL answers HTTP 503"),
    **{
        f"no token: {said!r}"[:40]: (
            200,
            said,
            "URL answers with no access token in JSON: is SASL.token_url right?",
        )
        for said in (
            "",
            "eyJ",
            "[]",
            "[" * 100_000,
            {"accessToken": "eyJ"},
            {"access_token": None},
            {"access_token": "eyJ\x01auth=Bearer other"},
            {"access_token": "eyJ eyJ"},
        )
    },
    "another type": (
        200,
        {"access_token": "eyJ", "token_type": "mac"},
        "URL answers with a token of another type than bearer: mac",
    ),
    "expired": (
        200,
        {"access_token": "eyJ", "token_type": "bearer", "expires_in": 0},
        "URL answers with a token that has expired",
    ),
    "too large": (
        200,
        "e" * (MAX_ANSWER_BYTES + 1),
        f"the answer of URL is over {MAX_ANSWER_BYTES} bytes",
    ),
}


@pytest.mark.parametrize("what", ANSWERS)
async def test_an_answer_without_a_token_is_one_line(
    what: str, server: TokenServer, endpoint: TokenEndpoint
) -> None:
    status, body, expected = ANSWERS[what]
    server.script.answer = status, body
    assert await fault_of(endpoint) == expected


async def test_what_keeps_the_answer_away_is_one_line(
    server: TokenServer, endpoint: TokenEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = "SASL.token_ca_file"
    said = await fault_of(replace(endpoint, ca_file=None))
    assert said.startswith("the certificate of URL is not valid: ")
    assert said.endswith(f" ({setting})")
    missing = tmp_path / "none"
    said = await fault_of(replace(endpoint, ca_file=str(missing)))
    assert said == f"{setting}: cannot read {missing}: No such file or directory"
    missing.unlink(missing_ok=True)
    os.mkfifo(missing)
    said = await fault_of(replace(endpoint, ca_file=str(missing)))
    assert said == f"{setting}: cannot read {missing}: it is no regular file"
    missing.unlink()
    missing.write_text("no PEM")
    said = await fault_of(replace(endpoint, ca_file=str(missing)))
    assert said == f"{setting}: {missing} holds no certificates in PEM"
    said = await fault_of(replace(endpoint, url=endpoint.url.replace("https", "http")))
    assert "gave no whole answer: " in said

    server.script.held = threading.Event()
    monkeypatch.setattr("bridge.kafka.token_endpoint.FETCH_SECONDS", 0.2)
    assert await fault_of(endpoint) == "no answer from URL within 0.2 s"
    server.stop()
    monkeypatch.undo()
    assert await fault_of(endpoint) == "cannot reach URL: Connection refused"


async def test_a_redirect_takes_the_secret_nowhere(
    server: TokenServer, endpoint: TokenEndpoint, issuer: Issuer
) -> None:
    with TokenServer(issuer, server.ca) as other:
        server.script.answer, server.script.location = (307, ""), other.url
        said = await fault_of(endpoint)
    assert said == "URL answers HTTP 307: is SASL.token_url right?"
    assert other.asked == []
