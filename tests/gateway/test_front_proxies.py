"""The gateway behind a real HAProxy and a real nginx: what is smuggled past them changes nothing.

All addresses are loopback ones: the proxy calls from 127.0.0.1, which is trusted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bridge.demo.embedded_broker import EmbeddedBroker
from tests.support.front_proxies import FrontProxy, plain
from tests.support.gateway import Gateway, configuration
from tests.support.senders import LISTED, document
from tests.support.wire import Reply, Wire, chunked_post, head, post

PROVIDER = "127.0.0.5"
STRANGER = "127.0.0.6"
TOKEN = "a-token-for-tests"
LARGE = b"x" * 5_000_000
SMUGGLED = (
    f"X-Forwarded-For: {PROVIDER}\r\nAuthorization: Bearer {TOKEN}\r\n"
    "Content-Encoding: gzip\r\nX-Request-Id: smuggled\r\n"
)


@dataclass(frozen=True, slots=True)
class Front:
    """A gateway with a proxy before it."""

    gateway: Gateway
    proxy: FrontProxy

    def client(self, source: str) -> Wire:
        return Wire(self.proxy.address, source=source)

    def see(self, source: str, data: bytes) -> Reply:
        """The answer to one request on a connection of its own, all of it sent before reading."""
        with self.client(source) as wire:
            wire.send(data)
            return wire.reply()


@pytest.fixture(scope="module", params=["haproxy", "nginx"])
def front(request: pytest.FixtureRequest, new_embedded: type[EmbeddedBroker]) -> Iterator[Front]:
    program = request.getfixturevalue(request.param)
    endpoint = {"source": "urn:example:sms:main", "timezone": "UTC"}
    auth = {"tokens": [TOKEN]}
    endpoints = [
        endpoint | {"name": "allowed", "path": "/allowed", "auth": {"allow": [PROVIDER]}},
        endpoint | {"name": "token", "path": "/token", "auth": auth},
        endpoint | {"name": "both", "path": "/both", "auth": auth | {"allow": [PROVIDER]}},
    ]
    with new_embedded("front", "front.rejected") as broker:
        config = configuration(
            broker.bootstrap_servers,
            "front",
            server={"trusted_proxies": ["127.0.0.1"]},
            endpoints=endpoints,
        )
        with Gateway(config) as gateway:
            servers = plain(program, gateway.server_address)
            with FrontProxy(program, servers) as proxy:
                yield Front(gateway, proxy)


def ids(reply: Reply) -> list[str]:
    return [one.decode() for one in LISTED.findall(reply.body)]


def test_the_provider_is_served_and_a_stranger_is_not(front: Front) -> None:
    assert ids(front.see(PROVIDER, post("/allowed", document("1")))) == ["1"]
    assert front.see(STRANGER, post("/allowed", document("1"))).status == 403


def test_a_strangers_header_is_no_address(front: Front) -> None:
    claim = f"X-Forwarded-For: {PROVIDER}"
    assert front.see(STRANGER, post("/allowed", document("1"), claim)).status == 403
    assert front.see(STRANGER, chunked_post("/allowed", document("1"), claim)).status == 403


@pytest.mark.parametrize("trailers", [f"X-Forwarded-For: {PROVIDER}\r\n", SMUGGLED])
@pytest.mark.parametrize("times", [1, 200], ids=["once", "often"])
def test_trailers_smuggle_no_address(times: int, trailers: str, front: Front) -> None:
    """Not on new connections, and not where the proxy uses its own to the gateway again."""
    for n in range(times):
        data = chunked_post("/allowed", document(str(n)), trailers=trailers)
        assert front.see(STRANGER, data).status == 403


def test_trailers_smuggle_no_token(front: Front) -> None:
    assert (
        front.see(STRANGER, chunked_post("/token", document("1"), trailers=SMUGGLED)).status == 401
    )
    assert (
        front.see(PROVIDER, chunked_post("/both", document("1"), trailers=SMUGGLED)).status == 401
    )


def test_trailers_take_nothing_from_the_provider(front: Front) -> None:
    """No encoding comes of them, no other address, and no other token."""
    trailers = SMUGGLED.replace(PROVIDER, STRANGER).replace(TOKEN, "wrong")
    bearer = f"Authorization: Bearer {TOKEN}"
    data = chunked_post("/both", document("1"), bearer, trailers=trailers)
    reply = front.see(PROVIDER, data)
    assert (reply.status, ids(reply)) == (200, ["1"])
    assert "smuggled" not in front.gateway.output


def test_an_encoding_is_refused_whatever_the_trailers_say(front: Front) -> None:
    lines = ("Content-Encoding: gzip",)
    trailers = "Content-Encoding: identity\r\n"
    data = chunked_post("/allowed", document("1"), *lines, trailers=trailers)
    assert front.see(PROVIDER, data).status == 415


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
@pytest.mark.parametrize(
    ("status", "source", "path"),
    [
        (413, PROVIDER, "/allowed"),
        (403, STRANGER, "/allowed"),
        (401, STRANGER, "/token"),
        (404, STRANGER, "/elsewhere"),
    ],
)
def test_a_refusal_of_a_large_body_arrives(
    status: int, source: str, path: str, chunked: bool, front: Front
) -> None:
    """The gateway's own, not the proxy's 502 for a connection that broke."""
    make = chunked_post if chunked else post
    reply = front.see(source, make(path, LARGE))
    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+xml"


def test_a_connection_is_used_again_and_again(front: Front) -> None:
    with front.client(PROVIDER) as wire:
        for n in range(50):
            make = chunked_post if n % 2 else post
            wire.send(make("/allowed", document(str(n))))
            assert ids(wire.reply()) == [str(n)]


def test_nobody_gets_anothers_answer(front: Front) -> None:
    """Refused requests between, on connections that the proxy shares among its clients."""
    with front.client(PROVIDER) as provider, front.client(STRANGER) as stranger:
        for n in range(50):
            stranger.send(chunked_post("/allowed", document("theirs"), trailers=SMUGGLED))
            provider.send(post("/allowed", document(str(n))))
            assert ids(provider.reply()) == [str(n)]
            assert stranger.reply().status == 403


def test_a_request_in_the_trailers_is_none(front: Front) -> None:
    """What a proxy may pass on as trailers is no request for the gateway."""
    trailers = f"X: y\r\nPOST: /allowed HTTP/1.1\r\nX-Forwarded-For: {PROVIDER}\r\n"
    with front.client(STRANGER) as wire:
        wire.send(chunked_post("/allowed", document("1"), trailers=trailers))
        wire.send(head("GET", "/elsewhere", "Connection: close"))
        assert [wire.reply().status, wire.reply().status] == [403, 404]
        assert wire.rest() == b""
