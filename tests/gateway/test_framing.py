"""Where a head and a body end on the wire, and what they may cost."""

import contextlib
from http import HTTPStatus

import pytest

from bridge.errors import RequestError
from bridge.gateway.framing import (
    FREE_CHUNKS,
    FREE_LINE_BYTES,
    MAX_FRAMING_BYTES,
    MAX_HEADERS,
    MIN_CHUNK_BYTES,
    ChunkedBody,
    Head,
    HeadReader,
    SizedBody,
    body_of,
    whole_head,
)


def read(*pieces: bytes) -> tuple[Head, bytes]:
    """The head, and what follows it; fails where it does not end with the last piece."""
    reader = HeadReader()
    rests = [reader.feed(piece) for piece in pieces]
    assert rests[:-1] == [None] * (len(pieces) - 1)
    assert rests[-1] is not None
    return reader.head(), rests[-1]


def refused(head: bytes) -> int:
    """The status; it is no head that is remembered either."""
    with pytest.raises(RequestError) as caught:
        read(head)
    with contextlib.suppress(RequestError):
        assert whole_head(head) is None  # not one that is remembered
    return caught.value.status


POST = b"POST /a%20b?token=x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


def test_a_head_is_read_and_what_follows_is_left() -> None:
    head, rest = read(POST + b"bodyGET / HTTP/1.1\r\n\r\n")
    assert (head.method, head.path, head.raw_path) == ("POST", "/a b", b"/a%20b")
    assert (head.query, head.version, head.length) == (b"token=x", "1.1", 4)
    assert head.headers == ((b"host", b"x"), (b"content-length", b"4"))
    assert rest == b"bodyGET / HTTP/1.1\r\n\r\n"


def test_a_head_in_one_piece_is_the_same_and_is_remembered() -> None:
    assert whole_head(POST + b"body") == read(POST + b"body")
    first, again = whole_head(POST), whole_head(POST + b"body")
    assert first is not None
    assert again is not None
    assert first[0] is again[0]


@pytest.mark.parametrize(
    "head", [b"", POST[:-1], b"GET / HTTP/1.1\r\nA: %b\r\n\r\n" % (b"b" * 1024)]
)
def test_a_part_of_a_head_and_a_long_one_are_left_to_the_reader(head: bytes) -> None:
    assert whole_head(head) is None


@pytest.mark.parametrize("cut", range(1, len(POST)))
def test_a_head_may_come_in_two_pieces(cut: int) -> None:
    assert read(POST[:cut], POST[cut:] + b"body") == (read(POST)[0], b"body")


def test_a_head_may_come_byte_by_byte_after_blank_lines() -> None:
    whole = b"\r\n\r\n" + POST
    assert whole_head(whole) is None
    assert read(*(whole[i : i + 1] for i in range(len(whole)))) == (read(POST)[0], b"")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET /a\n\r\n",
        b"GET /a\r\n\r\n",
        b"GET /a HTTP/0.9\r\n\r\n",
        b"POST /a HTTP/2.0\r\nContent-Length: 4\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length : 1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_what_is_no_head_is_400_as_soon_as_it_shows(head: bytes) -> None:
    assert refused(head) == 400


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip\r\nTransfer-Encoding: chunked"])
def test_a_transfer_coding_beside_chunked_is_501(coding: bytes) -> None:
    """What is left after the chunks would be taken for the document."""
    assert refused(b"POST / HTTP/1.1\r\nTransfer-Encoding: %b\r\n\r\n" % coding) == 501


def test_an_offer_of_another_protocol_leaves_the_head_as_it_is() -> None:
    head, rest = read(
        b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nbody"
    )
    assert (head.length, rest) == (4, b"body")


@pytest.mark.parametrize(("version", "waits"), [(b"1.0", False), (b"1.1", True)])
def test_an_old_client_does_not_wait_for_an_answer_before_its_body(
    version: bytes, waits: bool
) -> None:
    """RFC 9110, 10.1.1: it would take the 100 for the answer."""
    head, _ = read(b"POST / HTTP/%b\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n" % version)
    assert head.expects_continue is waits


def test_the_number_of_headers_is_limited() -> None:
    head, _ = read(b"GET / HTTP/1.1\r\n%b\r\n" % (b"a:\r\n" * MAX_HEADERS))
    assert len(head.headers) == MAX_HEADERS
    assert refused(b"GET / HTTP/1.1\r\n%b\r\n" % (b"a:\r\n" * (MAX_HEADERS + 1))) == 431


# --- bodies ------------------------------------------------------------------------------


def test_a_sized_body_takes_its_length_and_no_more() -> None:
    body = SizedBody(4)
    assert (body.ends_within(b"bod"), body.ends_within(b"bodyGET")) == (False, True)
    assert body.take(b"bo") == (b"bo", b"")
    assert not body.complete
    assert body.take(b"dyGET") == (b"dy", b"GET")
    assert body.complete


def test_a_body_of_no_length_is_complete() -> None:
    head, _ = read(b"GET / HTTP/1.1\r\n\r\n")
    assert body_of(head).complete


def chunks(*contents: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in contents)


def test_trailers_are_dropped_whatever_they_say() -> None:
    head, rest = read(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunks(b"bo", b"dy")
        + b"0\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n"
    )
    body = body_of(head)
    assert body.take(rest) == (b"body", b"")
    assert body.complete
    assert head.headers == ((b"transfer-encoding", b"chunked"),)


def test_a_chunked_body_may_come_byte_by_byte() -> None:
    body, content = ChunkedBody(), b""
    for byte in chunks(b"bo", b"dy") + b"0\r\nA: b\r\n\r\n":
        content += body.take(bytes([byte]))[0]
    assert (content, body.complete, body.ends_within(b"")) == (b"body", True, True)


@pytest.mark.parametrize("content", [b"x" * 10, b"x" * 100_000, b"\r\n\r\n" * 1000])
@pytest.mark.parametrize("trailers", [b"", b"A: b\r\n"])
@pytest.mark.parametrize("cut", range(9))
def test_what_follows_a_chunked_body_is_left(content: bytes, trailers: bytes, cut: int) -> None:
    """Wherever the pieces are cut."""
    body = ChunkedBody()
    data = chunks(content) + b"0\r\n" + trailers + b"\r\n"
    following = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nnext"
    first, rest = body.take((data + following)[: len(data) - cut])
    assert body.complete == (not cut)
    second, left = body.take(rest + (data + following)[len(data) - cut :]) if cut else (b"", b"")
    assert first + second == content
    assert (body.complete, left) == (True, following if cut else b"")


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"\r\n",
        b"2\r\nabc",
        b"2\r\nab\rc",
        b"1\r\na\r\n-1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b" 1\r\n",
        b"f" * 17 + b"\r\n",
        b"1\na\r\n",
        b"1;\na\r\n",
        b"0\r\nA: b\n\r\n",
    ],
)
def test_chunks_that_are_none_are_400(data: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        ChunkedBody().take(data)
    assert caught.value.status == 400


def took(data: bytes) -> int:
    """The bytes that were taken before the body was refused with 413."""
    body = ChunkedBody()
    for size in range(0, len(data), 1000):
        try:
            body.take(data[size : size + 1000])
        except RequestError as error:
            if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                return size
    raise AssertionError("all of it was taken")


def test_chunks_of_one_byte_are_refused_after_a_thousand_or_so() -> None:
    assert took(chunks(b"x") * 100_000) < 10 * FREE_CHUNKS


def test_small_chunks_of_an_honest_size_are_taken() -> None:
    """A document that is written state by state: 10,000 states in a chunk each."""
    one = b"s" * (MIN_CHUNK_BYTES + 1)
    body = ChunkedBody()
    content, _ = body.take(chunks(one) * 10_000 + b"0\r\n\r\n")
    assert (content, body.complete) == (one * 10_000, True)


@pytest.mark.parametrize(
    "data",
    [
        b"0\r\nA: " + b"x" * 1_000_000,
        b"0\r\n" + b"A: b\r\n" * 200_000,
        b"1;" + b"x" * 1_000_000,
        (b"1;" + b"x" * 100 + b"\r\na\r\n") * 10_000,
    ],
)
def test_trailers_and_extensions_are_limited(data: bytes) -> None:
    assert took(data) <= MAX_FRAMING_BYTES + FREE_CHUNKS * (FREE_LINE_BYTES + 20)
