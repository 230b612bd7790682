"""Where a request's head and its body end on the wire (RFC 9112). No I/O and no clock.

The head is all that the parser sees, so that what follows the last chunk can never be a header.
"""

import re
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import unquote

import httptools

from bridge.errors import RequestError

MAX_HEAD_BYTES = 64 * 1024  # h11's limit, too
MAX_HEADERS = 256
MAX_REMEMBERED_BYTES = 1024  # of a head that is not read anew each time
# What a chunked body may cost beside its content. A sender that writes state by state, unbuffered,
# needs some 100 bytes a chunk; chunks of one byte are work without content.
FREE_CHUNKS = 1024
MIN_CHUNK_BYTES = 32  # on average, past the free ones
MAX_FRAMING_BYTES = 64 * 1024  # chunk extensions and trailers
FREE_LINE_BYTES = 16  # of a line, that count as no extension: a chunk's size
_BLANK_LINE = b"\r\n\r\n"
_SEAM = len(_BLANK_LINE) - 1
_LINE_END = b"\r\n"
_PLAIN_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")

RawHeaders = tuple[tuple[bytes, bytes], ...]


class Head(NamedTuple):
    """A request's head. `length` is of the body in bytes, None if it comes in chunks."""

    method: str
    raw_path: bytes
    path: str
    query: bytes
    version: str
    headers: RawHeaders
    length: int | None
    keep_alive: bool
    expects_continue: bool


class _BlankLines:
    """Finds the ends of blank lines, one of which ends a head.

    The parser does not say where that was: it is given the data cut at these places.
    """

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""  # of what came before: a blank line may come in two pieces

    def end(self, data: bytes, start: int) -> int:
        """Where the next one ends, or the data."""
        if self._tail and start < _SEAM:
            seam = (self._tail + data[:_SEAM]).find(_BLANK_LINE)
            end = seam + len(_BLANK_LINE) - len(self._tail)
            if seam >= 0 and end > start:
                return end
        found = data.find(_BLANK_LINE, max(start - _SEAM, 0))
        return len(data) if found < 0 else found + len(_BLANK_LINE)

    def passed(self, data: bytes) -> None:
        """Note that this is behind."""
        self._tail = (self._tail + data[-_SEAM:])[-_SEAM:]


class _HeadEvents:
    """What the parser finds in a head. It knows no parser: the two would be a cycle of garbage."""

    __slots__ = ("begun", "complete", "headers", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.begun = self.complete = False

    def on_message_begin(self) -> None:
        if self.begun:
            raise RequestError(HTTPStatus.BAD_REQUEST, "two requests in one head")
        self.begun = True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) == MAX_HEADERS:
            raise _too_large(f"the head has more than {MAX_HEADERS} headers")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_body(self, _: bytes) -> None:
        # None of it is among the bytes of a head.
        raise RequestError(HTTPStatus.BAD_REQUEST, "the head has no clear end")


class HeadReader:
    """Reads one head, piece by piece."""

    __slots__ = ("_blank_lines", "_events", "_parser", "_size")

    def __init__(self) -> None:
        self._events = _HeadEvents()
        self._parser = httptools.HttpRequestParser(self._events)
        self._blank_lines = _BlankLines()
        self._size = 0

    def feed(self, data: bytes) -> bytes | None:
        """What follows the head, or None until it is complete. Raises RequestError."""
        start = 0
        while not self._events.complete:
            end = self._blank_lines.end(data, start)
            self._parse(data[start:end])
            self._size += end - start
            if self._size > MAX_HEAD_BYTES:
                raise _too_large(f"the head is over {MAX_HEAD_BYTES} bytes")
            if end == len(data) and not self._events.complete:
                self._blank_lines.passed(data)
                return None
            start = end
        return data[start:]

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # an offer that may be ignored (RFC 9110, 7.8); the body is what it is
        except httptools.HttpParserError as exc:
            if isinstance(exc.__context__, RequestError):
                raise exc.__context__ from None
            raise RequestError(HTTPStatus.BAD_REQUEST, f"no HTTP/1.1 request: {exc}") from exc

    def head(self) -> Head:
        """The head that is complete. Raises RequestError."""
        url, path = self._url()
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            # The parser takes others. A head of 0.9 also ends where no blank line is: elsewhere,
            # as the pieces happen to be cut.
            what = f"neither HTTP/1.0 nor HTTP/1.1: HTTP/{version}"
            raise RequestError(HTTPStatus.BAD_REQUEST, what)
        length, keep_alive, expects_continue = 0, version == "1.1", False
        codings: list[bytes] = []
        for name, value in self._events.headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                codings.append(value.strip(b" \t").lower())
            elif name == b"connection":
                keep_alive &= b"close" not in [t.strip() for t in value.lower().split(b",")]
            elif name == b"expect":
                expects_continue = version != "1.0" and value.lower() == b"100-continue"
        if codings not in ([], [b"chunked"]):
            what = "chunked is the one transfer coding that is accepted"
            raise RequestError(HTTPStatus.NOT_IMPLEMENTED, what)
        return Head(
            method=self._parser.get_method().decode("ascii"),
            raw_path=url.path,
            path=path,
            query=url.query or b"",
            version=version,
            headers=tuple(self._events.headers),
            length=None if codings else length,
            keep_alive=keep_alive,
            expects_continue=expects_continue,
        )

    def _url(self) -> tuple[Any, str]:
        try:
            url = httptools.parse_url(self._events.url)
            path = (url.path or b"").decode("ascii")
        except (httptools.HttpParserError, UnicodeDecodeError) as exc:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"no usable URL: {exc}") from exc
        if not path:
            raise RequestError(HTTPStatus.BAD_REQUEST, "the URL has no path")
        return url, unquote(path) if "%" in path else path


def whole_head(data: bytes) -> tuple[Head, bytes] | None:
    """The head that the data holds in one piece, as nearly always, and what follows it.

    None if there is no such head; that is for a HeadReader to tell. Raises RequestError.
    """
    end = data.find(_BLANK_LINE) + len(_BLANK_LINE)
    if not len(_BLANK_LINE) <= end <= MAX_REMEMBERED_BYTES:
        return None
    head = _head_of(data[:end])
    return (head, data[end:]) if head is not None else None


@lru_cache(maxsize=256)
def _head_of(data: bytes) -> Head | None:
    """The head that these bytes are. A sender's are the same again and again.

    To read them takes a small request a tenth of its time.
    """
    reader = HeadReader()
    return reader.head() if reader.feed(data) is not None else None


class SizedBody:
    """A body whose length its head says."""

    __slots__ = ("_left", "complete")

    def __init__(self, length: int) -> None:
        self._left = length
        self.complete = not length

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """What of the data is the body's content, and what follows it."""
        content, rest = data[: self._left], data[self._left :]
        self._left -= len(content)
        self.complete = not self._left
        return content, rest

    def ends_within(self, data: bytes) -> bool:
        """Whether the data holds the rest of the body."""
        return len(data) >= self._left


class ChunkedBody:
    """A body in chunks (RFC 9112, 7.1). Its trailers are dropped, whatever they say.

    The parser of heads also reads chunks, but takes their trailers for headers and does not say
    where a body ends.
    """

    __slots__ = ("_chunks", "_framing", "_in_trailers", "_left", "_line", "_size", "complete")

    def __init__(self) -> None:
        self._line = b""  # the beginning of one that is not complete
        self._left = 0  # of the chunk that has begun: its content and the line end behind it
        self._in_trailers = False
        self._chunks = self._size = self._framing = 0
        self.complete = False

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """What of the data is the body's content, and what follows it. Raises RequestError."""
        data = self._line + data
        self._line = b""
        content: list[bytes] = []
        at = 0
        while at < len(data) and not self.complete:
            if self._left:
                at = self._take_chunk(data, at, content)
            else:
                at = self._take_line(data, self._take_whole_chunks(data, at, content))
        return b"".join(content), data[at:]

    def ends_within(self, data: bytes) -> bool:
        """Whether it has ended; what is not taken yet may hold anything."""
        del data
        return self.complete

    def _take_whole_chunks(self, data: bytes, at: int, content: list[bytes]) -> int:
        """Take plain chunks that are all there, as nearly all are; where it goes on."""
        if self._in_trailers:
            return at
        match = _PLAIN_CHUNK.match
        while (begun := match(data, at)) is not None:
            start = begun.end()
            end = start + int(begun[1], 16)
            if end == start or data[end : end + len(_LINE_END)] != _LINE_END:
                break
            self._count_line()
            content.append(data[start:end])
            self._size += end - start
            at = end + len(_LINE_END)
        return at

    def _take_chunk(self, data: bytes, at: int, content: list[bytes]) -> int:
        """Take content, or the line end behind it; where it goes on."""
        if self._left > len(_LINE_END):
            piece = data[at : at + self._left - len(_LINE_END)]
            content.append(piece)
            self._left -= len(piece)
            self._size += len(piece)
            return at + len(piece)
        expected = _LINE_END[-self._left :]
        end = data[at : at + self._left]
        if not expected.startswith(end):
            raise _bad_chunk("a chunk is longer than it says")
        self._left -= len(end)
        return at + len(end)

    def _take_line(self, data: bytes, at: int) -> int:
        """Take a chunk's size or a trailer; where it goes on."""
        end = data.find(_LINE_END, at)
        line = data[at:] if end < 0 else data[at:end]
        known = self._framing + max(0, len(line) - FREE_LINE_BYTES)
        if known > MAX_FRAMING_BYTES:
            what = f"over {MAX_FRAMING_BYTES} bytes of chunk extensions and trailers"
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what)
        if end < 0:
            self._line = line
            return len(data)
        if b"\n" in line or b"\r" in line:
            raise _bad_chunk("a line ends with less than CR and LF")
        self._framing = known
        if not self._in_trailers:
            self._begin_chunk(line)
        elif line:
            self._count_line()
        else:
            self.complete = True
        return end + len(_LINE_END)

    def _begin_chunk(self, line: bytes) -> None:
        size = line.partition(b";")[0].rstrip(b" \t")
        if not _CHUNK_SIZE.fullmatch(size):
            raise _bad_chunk("a chunk's size is no number")
        self._count_line()
        length = int(size, 16)
        self._in_trailers = not length
        self._left = length + len(_LINE_END) if length else 0

    def _count_line(self) -> None:
        self._chunks += 1
        if self._chunks > FREE_CHUNKS + self._size // MIN_CHUNK_BYTES:
            what = "too many chunks that are too small, or trailers"
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what)


def _bad_chunk(what: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, f"the body's chunks cannot be read: {what}")


Body = SizedBody | ChunkedBody


def body_of(head: Head) -> Body:
    """The body that follows the head."""
    return ChunkedBody() if head.length is None else SizedBody(head.length)


def _too_large(what: str) -> RequestError:
    return RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, what)
