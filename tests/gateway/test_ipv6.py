"""IPv6: alone, and beside IPv4 on one listener."""

import http.client
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from bridge.demo.child import free_ports
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.errors import BridgeError
from tests.support.brokers import KafkaCluster
from tests.support.gateway import Answer, Gateway, configuration
from tests.support.topics import read_topic


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return socket.has_dualstack_ipv6()


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")

ALLOWED = {"allow": ["127.0.0.2", "203.0.113.0/24", "2001:db8::/32"]}


def document(id_sms: str) -> bytes:
    return f'<response><state id_sms="{id_sms}" time="">send</state></response>'.encode()


def endpoint(auth: object) -> dict[str, Any]:
    source = "urn:example:sms:main"
    return {"name": "main", "path": "/webhook", "source": source, "timezone": "UTC", "auth": auth}


@pytest.fixture(scope="module", params=["::", "0::0"])
def both(request: pytest.FixtureRequest, embedded: EmbeddedBroker) -> Iterator[Gateway]:
    """The program on all addresses there are; only some may post."""
    topic = "test.ipv6"
    for name in (topic, f"{topic}.rejected"):
        Producer({"bootstrap.servers": embedded.bootstrap_servers}).list_topics(name, 10)
    whole = configuration(
        embedded.bootstrap_servers,
        topic,
        server={"host": request.param, "port": 0, "trusted_proxies": ["127.0.0.3", "::1"]},
        admin={"host": request.param, "port": 0},
        inspector={"host": request.param, "port": 0},
        endpoints=[endpoint(ALLOWED)],
    )
    with Gateway(whole) as gateway:
        yield gateway


SENDERS = [  # where to, where from, X-Forwarded-For, the answer
    ("127.0.0.1", "127.0.0.2", None, 200),
    ("127.0.0.1", "127.0.0.1", None, 403),
    ("127.0.0.1", "127.0.0.1", "127.0.0.2", 403),
    ("127.0.0.1", "127.0.0.3", "203.0.113.7", 200),
    ("127.0.0.1", "127.0.0.3", "::ffff:203.0.113.7", 200),
    ("127.0.0.1", "127.0.0.3", "2001:db8::7", 200),
    ("127.0.0.1", "127.0.0.3", "203.0.113.7, 198.51.100.1", 403),
    ("::1", "::1", "203.0.113.7", 200),
    ("::1", "::1", "::ffff:198.51.100.1", 403),
    ("::1", "::1", None, 403),
]


def test_one_listener_serves_ipv6_and_ipv4(both: Gateway) -> None:
    """And an IPv4 address that comes over it is looked up among those of IPv4."""
    listening = next(line for line in both.logs() if line["event"] == "listening")
    _, port = both.server_address
    assert listening["server"] == f"[::]:{port}"
    for number, (to, source, forwarded, status) in enumerate(SENDERS):
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        sender = http.client.HTTPConnection(to, port, timeout=30, source_address=(source, 0))
        sender.request("POST", "/webhook", document(str(number)), headers)
        answer = answered(sender)
        assert answer.status == status, (to, source, forwarded)
        assert status != 200 or answer.ids == [str(number)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(("listener", "path"), [("admin", "/livez"), ("inspector", "/")])
def test_the_other_listeners_do_so_too(both: Gateway, host: str, listener: str, path: str) -> None:
    listening = next(line for line in both.logs() if line["event"] == "listening")
    port = int(listening[listener].rpartition(":")[2])
    client = http.client.HTTPConnection(host, port, timeout=30)
    client.request("GET", path)
    assert answered(client).status == 200


def answered(connection: http.client.HTTPConnection) -> Answer:
    try:
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def test_a_port_that_is_taken_is_named_as_urls_have_it(embedded: EmbeddedBroker) -> None:
    """Also where only IPv4 has it: half a listener would be none."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        whole = configuration(
            embedded.bootstrap_servers, "any", server={"host": "::", "port": port}
        )
        with (
            pytest.raises(BridgeError, match=rf"cannot listen on \[::\]:{port}"),
            Gateway(whole),
        ):
            pass


def test_ipv6_alone_from_the_sender_to_the_broker(
    new_kafka: Callable[[KafkaCluster], KafkaCluster], topic: str
) -> None:
    """As on a host that has nothing else; run under `ip netns exec` it is one."""
    kafka = new_kafka(KafkaCluster(host="[::1]"))
    for name in (topic, f"{topic}.rejected"):
        kafka.create_topic(name, 3)
    whole = configuration(
        kafka.bootstrap_servers,
        topic,
        server={"host": "::1", "port": 0},
        admin={"host": "::1", "port": free_ports(1)[0]},
    )
    with Gateway(whole) as gateway:
        assert gateway.server_address[0] == "::1"
        assert gateway.post(document("1")).ids == ["1"]
        assert gateway.post(b"not XML").status == 400
        assert gateway.terminate() == 0
    assert [record.key for record in read_topic(kafka.bootstrap_servers, topic)] == [b"1"]
    rejected = read_topic(kafka.bootstrap_servers, f"{topic}.rejected", expect=1)
    assert len(rejected) == 1
