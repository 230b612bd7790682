"""The program's listeners, byte for byte: what may change a check, and who gets an answer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bridge.demo.child import wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from tests.gateway.on_the_wire import ALLOWED, MAX_BODY_BYTES, TOKEN, gateway_on
from tests.support.gateway import Gateway
from tests.support.senders import LISTED, document
from tests.support.wire import Address, Reply, Wire, chunk, chunked_post, head, post

STRANGER = "198.51.100.7"
MARK = head("GET", "/the-next-request")  # answered 404 where the connection is in step


@pytest.fixture(scope="module")
def broker(new_embedded: type[EmbeddedBroker]) -> Iterator[EmbeddedBroker]:
    with new_embedded("wire", "wire.rejected") as broker:
        yield broker


@pytest.fixture(scope="module")
def gateway(broker: EmbeddedBroker) -> Iterator[Gateway]:
    with gateway_on(broker) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def public(gateway: Gateway) -> Address:
    return gateway.server_address


@pytest.fixture(scope="module")
def admin(gateway: Gateway) -> Address:
    return listener(gateway, "admin")


@pytest.fixture(scope="module")
def inspector(gateway: Gateway) -> Address:
    return listener(gateway, "inspector")


def listener(gateway: Gateway, name: str) -> Address:
    """Where it is, as the first log line says."""
    (line,) = [line for line in gateway.logs() if line["event"] == "listening"]
    host, port = line[name].rsplit(":", 1)
    return host, int(port)


def ids(reply: Reply) -> list[str]:
    return [one.decode() for one in LISTED.findall(reply.body)]


# --- trailers ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """A request whose trailers say something else than its head."""

    path: str
    status: int  # without the trailers, and with them
    trailers: tuple[str, ...]
    head: tuple[str, ...] = ()
    method: str = "POST"
    body: bytes = document("1")

    def request(self, trailers: str) -> bytes:
        data = chunked_post(self.path, self.body, *self.head, trailers=trailers)
        return data.replace(b"POST", self.method.encode(), 1)


BASIC = "Authorization: Basic dXNlcjphLXRva2VuLWZvci10ZXN0cw=="  # user:TOKEN
CLAIMS = {
    "another address": Claim("/allowed", 403, (f"X-Forwarded-For: {ALLOWED}",)),
    "another address, after the proxy's": Claim(
        "/allowed", 403, (f"X-Forwarded-For: {ALLOWED}",), (f"X-Forwarded-For: {STRANGER}",)
    ),
    "another address, in other letters": Claim(
        "/allowed", 403, (f"x-FORWARDED-for:{ALLOWED}", "X-Other: 1")
    ),
    "another address than the allowed one": Claim(
        "/allowed", 200, (f"X-Forwarded-For: {STRANGER}",), (f"X-Forwarded-For: {ALLOWED}",)
    ),
    "a token": Claim("/token", 401, (f"Authorization: Bearer {TOKEN}",)),
    "a password": Claim("/token", 401, (BASIC,)),
    "another token than the right one": Claim(
        "/token", 200, ("Authorization: Bearer wrong",), (f"Authorization: Bearer {TOKEN}",)
    ),
    "an encoding": Claim("/open", 200, ("Content-Encoding: gzip",)),
    "no encoding": Claim("/open", 415, ("Content-Encoding: identity",), ("Content-Encoding: br",)),
    "a length": Claim("/open", 200, ("Content-Length: 99999999",)),
    "a small length": Claim("/open", 413, ("Content-Length: 1",), body=b"x" * (MAX_BODY_BYTES + 1)),
    "another path": Claim("/elsewhere", 404, ("X-Original-URL: /open", "Host: open")),
    "another method": Claim("/open", 405, ("X-HTTP-Method-Override: POST",), method="PUT"),
    "that it waits": Claim("/open", 200, ("Expect: 100-continue",)),
    "another transfer": Claim("/open", 200, ("Transfer-Encoding: gzip",)),
    "another protocol": Claim("/open", 200, ("Connection: upgrade", "Upgrade: h2c")),
    "another content": Claim("/open", 400, ("Content-Type: text/xml",), body=b"no XML"),
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("pieces", [1, 2], ids=["in one piece", "the trailers by themselves"])
def test_trailers_change_no_check(claim: Claim, pieces: int, public: Address) -> None:
    """Without them the answer is the same, and the connection is as far."""
    trailers = "".join(f"{line}\r\n" for line in claim.trailers)
    data = claim.request(trailers)
    cut = len(data) - len(trailers) - 2 if pieces == 2 else len(data)
    with Wire(public) as plain:
        plain.send(claim.request(""))
        assert plain.reply().status == claim.status
    with Wire(public) as wire:
        wire.send(data[:cut])
        wire.send(data[cut:])
        reply = wire.reply()
        assert reply.status == claim.status
        assert ids(reply) == (["1"] if claim.status == 200 else [])
        if reply.headers.get("connection") == "close":
            assert wire.rest() == b""
        else:
            wire.send(MARK)
            assert wire.reply().status == 404


def test_a_length_in_the_trailers_is_none_for_http_1_0(public: Address) -> None:
    """Whether such a request is refused as 400 or as 411, the trailer does not save it."""
    lines = ("Transfer-Encoding: chunked",)
    body = document("1")
    end = b"0\r\nContent-Length: %d\r\n\r\n" % len(body)
    with Wire(public) as wire:
        wire.send(head("POST", "/open", *lines, version="1.0") + chunk(body) + end)
        assert wire.reply().status in (400, 411)


def test_a_request_id_in_the_trailers_is_not_logged(gateway: Gateway, public: Address) -> None:
    with Wire(public) as wire:
        wire.send(chunked_post("/open", document("1"), trailers="X-Request-Id: smuggled\r\n"))
        assert wire.reply().status == 200
        wire.send(post("/open", document("1"), "X-Request-Id: the-one-after"))
        assert wire.reply().status == 200
    wait_until(lambda: "the-one-after" in gateway.output, "the log has the request after it")
    assert "smuggled" not in gateway.output


def test_a_request_in_the_trailers_is_none(public: Address) -> None:
    """Lines that look like a head begin none, and the next is where it was."""
    trailers = "X: 1\r\nGET: /livez HTTP/1.1\r\nHost: y\r\n"
    data = chunked_post("/open", document("1"), trailers=trailers)
    with Wire(public) as wire:
        wire.send(
            data + post("/open", document("2")) + post("/elsewhere", b"", "Connection: close")
        )
        statuses = re.findall(rb"HTTP/1.1 (\d+)", wire.rest())
    assert statuses == [b"200", b"200", b"404"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_trailers_change_nothing_for_the_admin_listener(path: str, admin: Address) -> None:
    trailers = "Connection: close\r\nHost: y\r\nContent-Length: 5\r\nUpgrade: h2c\r\n"
    data = chunked_post(path, b"x", trailers=trailers)
    for request, status in ((data.replace(b"POST", b"GET", 1), 200), (data, 405)):
        with Wire(admin) as wire:
            wire.send(request + head("GET", path))
            assert wire.reply().status == status
            assert wire.rest() == b""  # what nobody has asked for is not read


@pytest.mark.parametrize(
    ("lines", "status", "trailer"),
    [
        ("Host: evil.example", 421, "Host: localhost"),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors", 403, ""),
        ("Host: localhost", 200, "Sec-Fetch-Mode: cors\r\nSec-Fetch-Site: cross-site"),
        ("", 421, "Host: localhost"),
    ],
)
def test_trailers_change_nothing_for_the_inspector(
    lines: str, status: int, trailer: str, inspector: Address
) -> None:
    begin = "\r\n".join(line for line in ("GET / HTTP/1.1", lines) if line)
    end = f"0\r\n{trailer or 'Sec-Fetch-Mode: navigate'}\r\n\r\n"
    with Wire(inspector) as wire:
        wire.send(f"{begin}\r\nTransfer-Encoding: chunked\r\n\r\n{end}".encode())
        assert wire.reply().status in ((status, 400) if not lines else (status,))


# --- bytes that no body limit counts -----------------------------------------------------


@pytest.mark.parametrize("path", ["/open", "/token"])
@pytest.mark.parametrize("line", [b"x: " + b"y" * 60_000, b"x:y"], ids=["long", "short"])
def test_trailers_without_an_end_are_refused(path: str, line: bytes, public: Address) -> None:
    """By their bytes or their number, long before the time is up, with a token or without."""
    begin = chunked_post(path, document("1")).removesuffix(b"\r\n")
    with Wire(public) as wire:
        wire.send(begin)
        block = (line + b"\r\n") * max(1, 64_000 // len(line))
        for _ in range(256):  # 16 MB: what the kernel holds of them is less
            if wire.answered:
                break
            try:
                wire.send(block)
            except OSError:  # the answer came between
                break
        assert wire.reply().status in ((401,) if path == "/token" else (400, 413, 431))


def test_a_body_in_chunks_of_one_byte_is_refused(public: Address) -> None:
    """What it costs to read is not in the bytes of the body, which are within the limit."""
    with Wire(public) as wire:
        wire.send(head("POST", "/open", "Transfer-Encoding: chunked"))
        block = chunk(b" ") * 10_000
        for _ in range(MAX_BODY_BYTES // 10_000 - 1):
            if wire.answered:
                break
            try:
                wire.send(block)
            except OSError:
                break
        if not wire.answered:
            wire.send(chunk(document("1")) + b"0\r\n\r\n")
        assert wire.reply().status in (400, 413)


def test_a_body_in_a_thousand_chunks_is_read(public: Address) -> None:
    body = document(*(str(n) for n in range(1000)))
    chunks = b"".join(chunk(body[n : n + 90]) for n in range(0, len(body), 90))
    with Wire(public) as wire:
        wire.send(head("POST", "/open", "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n")
        assert len(ids(wire.reply())) == 1000


# --- half-closed clients -----------------------------------------------------------------


MANY = [f"{n:05}" for n in range(2000)]  # a document that is read beside the loop
HALF_CLOSED = {
    "a post": (post("/open", document("1")), [200]),
    "a chunked post": (chunked_post("/open", document("1")), [200]),
    "a large document": (post("/open", document(*MANY)), [200]),
    "two at once": (post("/open", document("1")) + post("/open", document("2")), [200, 200]),
    "a refused one": (post("/allowed", document("1")), [403]),
    "one without a token": (chunked_post("/token", document("1")), [401]),
    "another path": (head("GET", "/elsewhere"), [404]),
    "no XML": (post("/open", b"no XML"), [400]),
}


@pytest.mark.parametrize(("data", "statuses"), HALF_CLOSED.values(), ids=HALF_CLOSED)
def test_a_half_closed_client_gets_its_answers(
    data: bytes, statuses: list[int], public: Address
) -> None:
    with Wire(public) as wire:
        wire.send(data)
        wire.half_close()
        assert [wire.reply().status for _ in statuses] == statuses
        assert wire.rest() == b""


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_a_half_closed_client_gets_the_admin_listeners_answer(path: str, admin: Address) -> None:
    with Wire(admin) as wire:
        wire.send(head("GET", path))
        wire.half_close()
        assert wire.reply().status == 200
        assert wire.rest() == b""


@pytest.mark.parametrize("chunked", [False, True])
def test_half_of_a_body_and_a_half_close_acknowledge_nothing(
    chunked: bool, public: Address, gateway: Gateway
) -> None:
    """A client that leaves before the end: nothing is parsed, and one line says so."""
    name = f"left-{chunked}".lower()
    body = document("1")
    if chunked:
        data = chunked_post("/open", body, f"X-Request-Id: {name}").removesuffix(b"0\r\n\r\n")
    else:
        data = post("/open", body, f"X-Request-Id: {name}")[:-1]
    with Wire(public) as wire:
        wire.send(data)
        wire.half_close()
        assert not ids_of(wire.rest())
    wait_until(lambda: name in gateway.output, "the log says that it left")


def ids_of(came: bytes) -> list[bytes]:
    return LISTED.findall(came)


# --- refusals that the sender sees -------------------------------------------------------


LARGE = b"x" * 5_000_000
REFUSED = {
    401: ("POST", "/token", ()),
    403: ("POST", "/allowed", ()),
    404: ("POST", "/elsewhere", ()),
    405: ("PUT", "/open", ()),
    413: ("POST", "/open", ()),
    415: ("POST", "/open", ("Content-Encoding: gzip",)),
}


def large(method: str, path: str, lines: tuple[str, ...], chunked: bool) -> bytes:
    make = chunked_post if chunked else post
    return make(path, LARGE, *lines).replace(b"POST", method.encode(), 1)


def see(address: Address, data: bytes) -> Reply:
    """The answer, for a client that sends all that it has before it reads."""
    with Wire(address) as wire:
        wire.send(data)
        return wire.reply()


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_reaches_who_sends_all_first(status: int, chunked: bool, public: Address) -> None:
    method, path, lines = REFUSED[status]
    assert see(public, large(method, path, lines, chunked)).status == status


def test_http_1_0_without_a_length_is_told_so_whatever_it_sends(public: Address) -> None:
    assert see(public, head("POST", "/open", version="1.0") + LARGE).status == 411


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
@pytest.mark.parametrize("path", ["/livez", "/elsewhere"])
def test_the_admin_listeners_refusals_are_seen_too(
    path: str, chunked: bool, admin: Address
) -> None:
    status = 405 if path == "/livez" else 404
    assert see(admin, large("POST", path, (), chunked)).status == status


@pytest.fixture(scope="module")
def full(new_embedded: type[EmbeddedBroker]) -> Iterator[Gateway]:
    """A gateway with room for one post, and that one waits for a broker that is frozen."""
    with (
        new_embedded("wire", "wire.rejected") as broker,
        gateway_on(broker, max_in_flight=1) as g,
    ):
        broker.freeze()
        with Wire(g.server_address) as waiting:
            waiting.send(post("/open", document("1")))
            used = re.compile(rb"^sms_bridge_in_flight_posts 1", re.MULTILINE)
            wait_until(lambda: used.search(g.admin("/metrics").body) is not None, "the post is in")
            yield g
        broker.thaw()


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_a_503_reaches_who_sends_all_first(chunked: bool, full: Gateway) -> None:
    limit = document("1").ljust(MAX_BODY_BYTES)
    make = chunked_post if chunked else post
    assert see(full.server_address, make("/open", limit)).status == 503
    if chunked:  # with a length it is a 413 or a 503: which check comes first is another test's
        assert see(full.server_address, make("/open", LARGE)).status == 503


# --- what the head may say of the body ---------------------------------------------------


@pytest.mark.parametrize(
    "value", ["gzip, chunked", "gzip,chunked", "chunked, gzip", "gzip", "deflate, chunked", "x"]
)
@pytest.mark.parametrize("path", ["/open", "/livez"])
def test_another_transfer_encoding_than_chunked_is_refused(
    value: str, path: str, public: Address, admin: Address
) -> None:
    """The body is not what the parser takes it for."""
    address = admin if path == "/livez" else public
    method = "GET" if path == "/livez" else "POST"
    with Wire(address) as wire:
        begin = head(method, path, f"Transfer-Encoding: {value}")
        wire.send(begin + chunk(document("1")) + b"0\r\n\r\n")
        assert wire.reply().status in (400, 415, 501)


def test_two_transfer_encodings_in_two_lines_are_refused(public: Address) -> None:
    with Wire(public) as wire:
        begin = head("POST", "/open", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked")
        wire.send(begin + chunk(document("1")) + b"0\r\n\r\n")
        assert wire.reply().status in (400, 415, 501)


@pytest.mark.parametrize("value", ["chunked", "Chunked", " chunked "])
def test_chunked_in_any_letters_is_read(value: str, public: Address) -> None:
    with Wire(public) as wire:
        begin = head("POST", "/open", f"Transfer-Encoding: {value}")
        wire.send(begin + chunk(document("1")) + b"0\r\n\r\n")
        assert ids(wire.reply()) == ["1"]


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA")


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
@pytest.mark.parametrize("before", [1, 2])
def test_a_request_for_another_protocol_behind_others_keeps_its_body(
    before: int, chunked: bool, public: Address
) -> None:
    make = chunked_post if chunked else post
    first = b"".join(make("/open", document(f"before-{n}")) for n in range(before))
    asks = make("/open", document("asks"), *UPGRADE)
    after = make("/open", document("after"))
    with Wire(public) as wire:
        wire.send(first + asks + after)
        listed = [ids(wire.reply()) for _ in range(before + 2)]
    assert listed == [*([f"before-{n}"] for n in range(before)), ["asks"], ["after"]]


@pytest.mark.parametrize("cut", range(-30, 120, 11))
def test_a_request_for_another_protocol_may_begin_anywhere_in_a_piece(
    cut: int, public: Address
) -> None:
    first, second = post("/open", document("1")), post("/open", document("2"), *UPGRADE)
    with Wire(public) as wire:
        wire.send((first + second)[: len(first) + cut])
        if cut >= 0:
            assert ids(wire.reply()) == ["1"]  # that piece came alone
        wire.send((first + second)[len(first) + cut :])
        if cut < 0:
            assert ids(wire.reply()) == ["1"]
        assert ids(wire.reply()) == ["2"]
