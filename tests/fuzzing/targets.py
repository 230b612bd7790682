"""What each target does with an input: nothing, or it raises because something does not hold."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import h11
import yaml
from jsonschema_rs import Draft7Validator

from bridge.config.changes import changes
from bridge.config.loader import load
from bridge.config.settings import Settings
from bridge.config.warnings import warnings
from bridge.contract.config_schema import config_schema
from bridge.errors import ConfigError, RequestError
from bridge.gateway.app import Health, public_app
from bridge.gateway.framing import Head, HeadReader, body_of, whole_head
from bridge.observability.metrics import Metrics
from tests.fuzz import Fuzzer, Input, quiet
from tests.support.fakes import RecordingPublisher
from tests.test_plain_form import check as check_plain_form

One = Callable[[bytes], None]

MAX_PROCESSOR_SECONDS: Final = 2.0  # of an input of some kilobytes, coverage and all


def bounded(one: One) -> One:
    """The same, and an input that costs too much does not hold. Other processes cost nothing."""

    def timed(data: bytes) -> None:
        began = time.thread_time()
        one(data)
        used = time.thread_time() - began
        assert used < MAX_PROCESSOR_SECONDS, f"{used:.1f} s for {len(data)} bytes"

    return timed


# --- a body, to its answer ---------------------------------------------------------------

PUBLISHED: Final = (1.0, 0.7, 0.2, 0.0)


def posted(data: bytes) -> Input:
    """The post that an input stands for: a byte that says how, and the body."""
    how, body = data[0] if data else 0, data[1:]
    cut = len(body) // 2
    return Input(
        body=body,
        chunks=(body[:cut], b"", body[cut:]) if how & 16 else (body,),
        shape=how & 3,
        salt=b"guided",
        published=PUBLISHED[how >> 2 & 3],
        head=({}, 0),
        again=bool(how & 32),
    )


@contextmanager
def body() -> Iterator[One]:
    """The webhook, whole and in process, as tests/fuzz.py holds it to the contract."""
    escaped: list[Mapping[str, Any]] = []
    with quiet(), asyncio.Runner() as runner:
        fuzzer = Fuzzer()
        runner.get_loop().set_exception_handler(lambda _, context: escaped.append(context))

        def one(data: bytes) -> None:
            given = posted(data)
            runner.run(fuzzer.run(given))
            check_plain_form(given.body, max_states=3 if given.shape else 100)
            assert not escaped, escaped

        yield one


# --- a configuration ---------------------------------------------------------------------

FILE: Final = "bridge.yaml"
SECRET: Final = "kept-from-all-eyes"
ENVIRON: Final = {"SECRET": SECRET, "EMPTY": "", "PORT": "8080", "NAME": "main"}
FILES: Final = {"/secret": SECRET.encode() + b"\n", "/binary": b"\xff", "/empty": b""}


@contextmanager
def config() -> Iterator[One]:
    """The loader: settings with which the gateway can be put together, or every problem."""
    schema = Draft7Validator(config_schema())

    def one(data: bytes) -> None:
        settings = _loaded(data)
        if b"${" in data:
            checked = _loaded(data, placeholders=True)
            assert checked == settings or not isinstance(settings, Settings)
        if not isinstance(settings, Settings):
            return
        assert not changes(settings, settings)
        list(warnings(settings))
        public_app(settings, RecordingPublisher(), Metrics(), Health(lambda: None))
        if b"$" not in data:
            # The schema stands in nobody's way: tests/contract/test_config_schema.py.
            schema.validate(json.loads(json.dumps(yaml.safe_load(data), default=str)))

    yield one


def _loaded(data: bytes, *, placeholders: bool = False) -> Settings | ConfigError:
    def read(path: str) -> bytes:
        if path == FILE:
            return data
        if path not in FILES:
            raise FileNotFoundError(path)
        return FILES[path]

    try:
        return load(FILE, ENVIRON, placeholders=placeholders, read=read)
    except ConfigError as error:
        _check(error, data)
        return error


def _check(error: ConfigError, data: bytes) -> None:
    """Each problem is at a line of the file, and no value is told."""
    assert error.problems
    assert SECRET not in str(error) or SECRET.encode() in data
    last = len(data.decode(errors="replace").splitlines()) + 1
    for problem in error.problems:
        assert 0 <= problem.line <= last, problem
        assert problem.what, problem


# --- what comes on a connection ----------------------------------------------------------


class Read(NamedTuple):
    """The requests that are complete, and why no more are read."""

    requests: list[tuple[Head, bytes]]
    refused: HTTPStatus | None


@contextmanager
def framing() -> Iterator[One]:
    """Heads and bodies one after another, however they are cut; read as h11 reads them."""

    def one(data: bytes) -> None:
        how, stream = data[0] if data else 0, data[1:]
        read = _requests([stream])
        size = 1 + how % 64
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert _requests(pieces) == read, f"in pieces of {size} bytes"
        cut = len(stream) * how // 256
        assert _requests([stream[:cut], stream[cut:]]) == read, f"cut at {cut}"
        _compare_with_h11(stream, read.requests)

    yield one


def _requests(pieces: list[bytes]) -> Read:
    """What a connection reads that gets its bytes in these pieces."""
    read = Read([], None)
    left = iter(pieces)
    waiting = b""
    try:
        while True:
            head, waiting = _head(waiting, left)
            content, waiting = _content(head, waiting, left)
            read.requests.append((head, content))
    except StopIteration:
        return read
    except RequestError as error:
        return read._replace(refused=error.status)


def _head(waiting: bytes, left: Iterator[bytes]) -> tuple[Head, bytes]:
    """As bridge/gateway/http_protocol.py does; StopIteration if there are no more bytes."""
    waiting = waiting or next(left)
    whole = whole_head(waiting)
    if whole is not None:
        return whole
    reader = HeadReader()
    rest = reader.feed(waiting)
    while rest is None:
        rest = reader.feed(next(left))
    return reader.head(), rest


def _content(head: Head, waiting: bytes, left: Iterator[bytes]) -> tuple[bytes, bytes]:
    expected = body_of(head)
    content, waiting = expected.take(waiting)
    while not expected.complete:
        more, waiting = expected.take(waiting + next(left))
        content += more
    assert head.length in (None, len(content))
    return content, waiting


def _compare_with_h11(stream: bytes, requests: list[tuple[Head, bytes]]) -> None:
    """Whoever stands before the gateway must not see other requests than it does."""
    for head, content in requests:
        with suppress(h11.RemoteProtocolError):  # it may refuse what is read here, as a proxy may
            connection = h11.Connection(h11.SERVER)
            connection.receive_data(stream)
            event = connection.next_event()
            assert isinstance(event, h11.Request), event
            assert event.method == head.method.encode()
            assert head.raw_path in event.target
            assert head.query in event.target
            assert event.http_version == head.version.encode()
            assert _without_te(event.headers) == _without_te(head.headers)
            received = b""
            while isinstance(event := connection.next_event(), h11.Data):
                received += event.data
            assert received == content
            stream = connection.trailing_data[0]
            continue
        return


def _without_te(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name, value.strip()) for name, value in headers if name != b"transfer-encoding"]


TARGETS: Final[Mapping[str, Callable[[], AbstractContextManager[One]]]] = {
    "body": body,
    "config": config,
    "framing": framing,
}
