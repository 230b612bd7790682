"""The client against the simulated API: its answers, each of its faults, and what is never said."""

import asyncio
import json
import logging
import re
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from trustme import CA

from bridge.config.settings import Provider
from bridge.errors import Fault, ProviderError
from bridge.parse import parse
from bridge.provider.client import MAX_ANSWER_BYTES, connected
from bridge.simulate.api import NOT_KNOWN, Api, ApiFault
from tests.support.provider import TOKEN, account, known

IDS = ["1", "2", "9"]


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(known([1, 2]), token=TOKEN) as running:
        yield running


def states(of: Provider, seconds: float = 20) -> bytes:
    async def ask() -> bytes:
        async with connected(of, seconds) as client:
            return await client.states(IDS)

    return asyncio.run(ask())


def clock(of: Provider) -> str:
    async def ask() -> str:
        async with connected(of, 20) as client:
            return await client.clock()

    return asyncio.run(ask())


def fault_of(of: Provider, seconds: float = 20) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        states(of, seconds)
    assert len(str(caught.value).splitlines()) == 1
    assert TOKEN not in str(caught.value)
    return caught.value


def test_it_answers_with_a_webhook_s_document(api: Api) -> None:
    first, second, third = parse(states(account(api)), max_states=10).states
    assert [first.id_sms, second.id_sms, third.id_sms] == IDS
    assert api.asked == [IDS]
    assert NOT_KNOWN in str(third)


def test_it_tells_the_account_s_local_time(api: Api) -> None:
    assert len(clock(account(api))) == len("2012-12-17 18:34:27")
    assert len(clock(account(api, "json"))) == len("2012-12-17 18:34:27")


FAULTS = {
    ApiFault.LOGIN: (Fault.REFUSED, 'refuses the request: "Incorrect login or password"'),
    ApiFault.ERROR: (Fault.REFUSED, 'refuses the request: "Too many identical requests"'),
    ApiFault.UNAVAILABLE: (Fault.STATUS, "answers HTTP 503 Service Unavailable"),
    ApiFault.CUT: (Fault.BROKEN, "gave no whole answer"),
    ApiFault.HTML: (
        Fault.FOREIGN,
        "not the provider's API in (XML|JSON): .*begins with \"<!DOCTYPE html>",
    ),
    ApiFault.REDIRECT: (
        Fault.REDIRECT,
        "redirects to https://elsewhere.example.com/: not followed",
    ),
    ApiFault.HUGE: (Fault.TOO_LARGE, f"is over {MAX_ANSWER_BYTES} bytes"),
}
ANSWERED = {ApiFault.FOREIGN, ApiFault.MISSING}  # an answer, of which a run makes what it can


@pytest.mark.parametrize("form", ["xml", "json"])
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_a_message_of_one_line(api: Api, fault: ApiFault, form: str) -> None:
    kind, said = FAULTS[fault]
    api.faults.append(fault)
    found = fault_of(account(api, form))
    assert found.fault is kind
    assert found.futile is (fault is ApiFault.REDIRECT)
    assert re.search(said, str(found)), str(found)
    assert states(account(api, form))  # and then it answers


def test_every_fault_of_the_simulated_api_is_tested() -> None:
    assert {*FAULTS, *ANSWERED, ApiFault.HANG} == {*ApiFault}


def test_a_hang_ends_at_the_deadline_of_the_whole_request(api: Api) -> None:
    api.faults.append(ApiFault.HANG)
    found = fault_of(account(api), 0.2)
    assert found.fault is Fault.TIMEOUT
    assert str(found).endswith("within 0.2 s")


class Trickle(socketserver.BaseRequestHandler):
    """An answer that comes byte by byte, and never whole."""

    def handle(self) -> None:
        self.request.recv(65536)
        try:
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while True:
                self.request.sendall(b" ")
                time.sleep(0.02)
        except OSError:
            pass


def test_an_answer_that_trickles_ends_at_the_deadline_too(api: Api) -> None:
    """A limit for each read would never be reached."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Trickle) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/xml"
        found = fault_of(account(api, url=url), 0.3)
        server.shutdown()
    assert found.fault is Fault.TIMEOUT


@pytest.mark.parametrize(
    ("url", "fault", "said", "futile"),
    [
        ("http://127.0.0.1:1/xml", Fault.UNREACHABLE, "Connection refused", False),
        ("https://nowhere.invalid/xml", Fault.UNREACHABLE, "cannot reach https://nowhere", False),
        ("{api}/xmlx", Fault.STATUS, "HTTP 404 Not Found: is provider.url right?", True),
        ("{tls}/xml", Fault.UNREACHABLE, "TLS failed: WRONG_VERSION_NUMBER", False),
    ],
)
def test_an_address_that_is_wrong(
    api: Api, url: str, fault: Fault, said: str, futile: bool
) -> None:
    given = url.format(api=api.url, tls=api.url.replace("http:", "https:"))
    found = fault_of(account(api, url=given))
    assert (found.fault, found.futile) == (fault, futile)
    assert said in str(found)


class TestTls:
    """Who answers has to prove who it is."""

    @pytest.fixture
    def ca(self) -> CA:
        return CA()

    @pytest.fixture
    def trusted(self, ca: CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    @staticmethod
    def served(ca: CA, name: str) -> Api:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(name).configure_cert(context)
        return Api(known([1, 2, 9]), ssl_context=context)

    @pytest.mark.usefixtures("trusted")
    def test_a_certificate_of_a_trusted_ca_is_taken(self, ca: CA) -> None:
        with self.served(ca, "127.0.0.1") as api:
            assert b"id_sms" in states(account(api))

    @pytest.mark.usefixtures("trusted")
    def test_one_for_another_name_is_not(self, ca: CA) -> None:
        with self.served(ca, "elsewhere.example.com") as api:
            found = fault_of(account(api))
            assert (found.fault, found.futile) == (Fault.UNTRUSTED, True)
            assert "IP address mismatch" in str(found)
            assert api.asked == []

    def test_one_of_an_unknown_ca_is_not(self, ca: CA) -> None:
        with self.served(ca, "127.0.0.1") as api:
            assert fault_of(account(api)).fault is Fault.UNTRUSTED
            assert api.asked == []


class Echo(Api):
    """An API that repeats what it was sent in its error."""

    def answer(self, form: str, name: str, body: bytes) -> tuple[HTTPStatus, bytes]:
        del name
        if form == "json":
            return HTTPStatus.OK, json.dumps({"error": body.decode()}).encode()
        text = f"<response><error>{escape(body.decode())}</error></response>"
        return HTTPStatus.OK, text.encode()


@pytest.mark.parametrize("form", ["xml", "json"])
def test_what_the_provider_repeats_of_the_credentials_is_masked(form: str) -> None:
    with Echo({}) as api:
        found = fault_of(account(api, form))
    assert found.fault is Fault.REFUSED
    assert "***" in str(found)
    assert "t0ken" not in str(found)


@pytest.mark.parametrize(
    "said",
    [
        r'{"a":"t0ken\/s3cret=="}',
        r'{"error":"bad t0ken\/s3cret=="}',
        "<p>T0KEN&#x2f;s3cret&#61;&#61;</p>",
        "t0ken%2Fs3cret%3D%3D",
    ],
)
def test_an_escaped_secret_is_masked_too(said: str) -> None:
    """However it is escaped, nothing of it is left but punctuation."""

    class Escaping(Api):
        def answer(self, form: str, name: str, body: bytes) -> tuple[HTTPStatus, bytes]:
            del form, name, body
            return HTTPStatus.OK, said.encode()

    with Escaping({}) as api:
        found = str(fault_of(account(api, "json", token="t0ken/s3cret==")))
    assert "***" in found
    assert "t0ken" not in found.lower()
    assert "s3cret" not in found


def test_nothing_is_logged_of_the_credentials(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Not even by the libraries, at their most talkative."""
    with caplog.at_level(logging.DEBUG):
        states(account(api))
        fault_of(account(api, token="wr0ng-secret"))
    assert caplog.records
    assert not [r for r in caplog.records if "wr0ng-secret" in r.getMessage()]
    assert not [r for r in caplog.records if TOKEN in r.getMessage()]
    assert "wr0ng-secret" not in repr(account(api, token="wr0ng-secret"))
