"""What is no request: answered, counted and logged before the application sees it."""

import re
from collections.abc import Iterator

import pytest

from bridge.demo.child import wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from tests.gateway.on_the_wire import gateway_on
from tests.support.gateway import Gateway
from tests.support.senders import document
from tests.support.wire import Wire, head, post

BROKEN = {
    "a space in the URL": b"POST /open it HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "two lengths": head("POST", "/open", "Content-Length: 1", "Content-Length: 2") + b"xx",
    "TLS": bytes.fromhex("16030100c8010000c40303") + b"x" * 194,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "a large head": head("POST", "/open", "X: " + "y" * 70_000),
}


@pytest.fixture(scope="module")
def broken(new_embedded: type[EmbeddedBroker]) -> Iterator[Gateway]:
    """A gateway that has refused nothing yet: its log holds nothing back."""
    with new_embedded("wire", "wire.rejected") as broker, gateway_on(broker) as gateway:
        yield gateway


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_request_is_answered_counted_and_logged(data: bytes, broken: Gateway) -> None:
    seen, lines = counted(broken), len(complaints(broken))
    with Wire(broken.server_address) as wire:
        wire.send(data)
        status = wire.reply().status
    assert status in ((431,) if len(data) > 65536 else (400, 505))
    wait_until(lambda: len(complaints(broken)) > lines, "the log has a line")
    assert counted(broken).get(status, 0) == seen.get(status, 0) + 1
    line = complaints(broken)[-1]
    assert (line["peer"], line["status"]) == ("127.0.0.1", status)


def test_chunks_that_cannot_be_read_are_refused_and_the_log_says_why(broken: Gateway) -> None:
    with Wire(broken.server_address) as wire:
        wire.send(head("POST", "/open", "Transfer-Encoding: chunked") + b"x\r\n")
        assert wire.reply().status == 400
    wait_until(lambda: "malformed" in broken.output, "the log has a line")
    line = complaints(broken)[-1]
    assert (line["endpoint"], line["status"], line["reason"]) == ("open", 400, "malformed")
    assert line["detail"] == "the body's chunks cannot be read: a chunk's size is no number"
    refused = r'sms_bridge_refused_total{endpoint="open",reason="malformed"} 1.0'
    assert refused in broken.admin("/metrics").body.decode()


def complaints(gateway: Gateway) -> list[dict[str, object]]:
    return [line for line in gateway.logs() if line.get("peer")]


def counted(gateway: Gateway) -> dict[int, int]:
    """The requests by code, of whatever endpoint."""
    series = re.compile(r'^sms_bridge_requests_total\{.*code="(\d+)".*\} (\d+)', re.MULTILINE)
    codes: dict[int, int] = {}
    for code, count in series.findall(gateway.admin("/metrics").body.decode()):
        codes[int(code)] = codes.get(int(code), 0) + int(float(count))
    return codes


def test_an_id_that_was_not_listed_is_clipped_in_the_log(
    new_embedded: type[EmbeddedBroker],
) -> None:
    """However long it is: with Kafka away, the line names it."""
    with new_embedded("wire", "wire.rejected") as broker:
        with gateway_on(broker, publish_timeout_seconds=0.2) as gateway:
            broker.freeze()
            with Wire(gateway.server_address) as wire:
                wire.send(post("/open", document("z" * 900_000), "X-Request-Id: the-long-one"))
                assert wire.reply().status == 503
            wait_until(lambda: "the-long-one" in gateway.output, "the log has the request")
            assert max(len(line) for line in gateway.output.splitlines()) < 65_536
        broker.thaw()
