"""Where the log's lines go: none is lost that can be written, and nobody waits for one."""

import asyncio
import fcntl
import http.client
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer

from bridge.demo.child import HOST, free_ports, wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.observability import log_writer
from bridge.observability import logging as logs
from bridge.observability.log_writer import LogWriter
from tests.support.fake_kafka import until
from tests.support.gateway import configuration

LINE = b"x" * 99 + b"\n"
PATIENCE_SECONDS = 60  # of a test with a busy machine


class Pipe:
    """A pipe with a reader who reads when told to, and a file at its other end."""

    def __init__(self, *, blocking: bool = True) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, blocking)
        self.lost: list[int] = []
        self.dropped: list[int] = []
        self.file = LogWriter(self.writer, self.lost.append)
        self.file.on_drop = self.dropped.append

    def say(self, *lines: bytes) -> None:
        for line in lines:
            self.file.write(line)
            self.file.flush()

    def read(self) -> bytes:
        with suppress(BlockingIOError):
            return os.read(self.reader, 1 << 20)
        return b""

    async def next(self) -> bytes:
        """What there is to read once there is something."""
        found = b""

        def is_there() -> bool:
            nonlocal found
            found = self.read()
            return found != b""

        await until(is_there, seconds=PATIENCE_SECONDS)
        return found

    def close_reader(self) -> None:
        os.close(self.reader)
        self.reader = -1

    def close(self) -> None:
        os.close(self.writer)
        if self.reader != -1:
            os.close(self.reader)


@pytest.fixture(params=[True, False], ids=["blocking", "nonblocking"])
def pipe(request: pytest.FixtureRequest) -> Iterator[Pipe]:
    pipe = Pipe(blocking=request.param)
    yield pipe
    pipe.close()


def test_without_a_loop_a_line_goes_out_at_once(pipe: Pipe) -> None:
    pipe.say(LINE)
    assert pipe.read() == LINE


async def test_lines_that_follow_closely_go_out_together(pipe: Pipe) -> None:
    pipe.say(*[LINE] * 10)
    assert pipe.read() == b""
    assert await pipe.next() == 10 * LINE
    pipe.say(LINE)
    assert await pipe.next() == LINE


async def test_lines_wait_for_those_of_the_next_turns(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "FLUSH_SECONDS", 3600)
    for _ in range(10):
        pipe.say(LINE)
        await asyncio.sleep(0)
    assert pipe.read() == b""


def test_a_loop_that_ends_before_it_flushes_holds_up_no_later_line(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def say() -> None:
        pipe.say(LINE)

    async def say_and_wait() -> bytes:
        pipe.say(LINE)
        return await pipe.next()

    with monkeypatch.context() as later:
        later.setattr(log_writer, "FLUSH_SECONDS", 3600)
        asyncio.run(say())
    assert pipe.read() == b""
    assert asyncio.run(say_and_wait()) == 2 * LINE
    pipe.say(LINE)
    assert pipe.read() == LINE


def test_a_line_of_a_loop_that_has_ended_goes_out_when_the_handler_is_flushed(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command's last word must come after what the log says of it."""
    monkeypatch.setattr(log_writer, "FLUSH_SECONDS", 3600)

    async def say() -> None:
        pipe.say(LINE)

    asyncio.run(say())
    assert pipe.read() == b""
    logs._Lines(pipe.file).flush()
    assert pipe.read() == LINE


def test_what_is_left_goes_out_at_the_end(pipe: Pipe) -> None:
    async def say() -> None:
        pipe.say(LINE)

    asyncio.run(say())
    pipe.file.end()
    assert pipe.read() == LINE


async def test_nobody_waits_for_a_reader_who_does_not_read(pipe: Pipe) -> None:
    """Who waited would do so for ever; once it is read, it gives every line."""
    lines = [b"%d\n" % number for number in range(10_000)]
    pipe.say(*lines)
    await asyncio.sleep(3 * log_writer.FLUSH_SECONDS)
    found = b""

    def read_all() -> bool:
        nonlocal found
        found += pipe.read()
        return found.endswith(lines[-1])

    async with asyncio.timeout(PATIENCE_SECONDS):
        while not read_all():
            await asyncio.sleep(log_writer.FLUSH_SECONDS / 4)
    assert found == b"".join(lines)
    assert pipe.lost == []


def test_the_end_comes_though_nobody_reads(pipe: Pipe) -> None:
    """Who waited for the reader would do so for ever."""
    pipe.say(*[LINE] * 1000)
    pipe.file.end()
    assert len(pipe.read()) < 1000 * len(LINE)


def test_what_is_too_much_to_keep_is_counted_and_told(pipe: Pipe) -> None:
    written = 2 * log_writer.MAX_WAITING_BYTES // len(LINE)
    pipe.say(*[LINE] * written)
    found = b""
    while piece := pipe.read():
        found += piece
        pipe.file.flush()
    assert set(found.splitlines(keepends=True)) == {LINE}
    assert len(found) < log_writer.MAX_WAITING_BYTES + 8192
    assert pipe.lost == [sum(pipe.dropped)] == [written - len(found) // len(LINE)]


def test_a_reader_who_has_gone_is_nobodys_error(pipe: Pipe) -> None:
    pipe.close_reader()
    pipe.say(*[LINE] * 1000)
    pipe.file.end()
    assert pipe.lost == []  # there is nobody to tell
    assert sum(pipe.dropped) == 1000


def test_a_disk_that_was_full_gets_whole_lines_again(tmp_path: Path) -> None:
    """What did not fit is counted, and the line that was torn is told from the next."""
    lost: list[int] = []
    path = tmp_path / "log"
    path.touch()
    with path.open("r+b", buffering=0) as file:
        full = LogWriter(file.fileno(), lost.append)
        with limited(150):
            for _ in range(5):
                full.write(LINE)
                full.flush()
        assert lost == []
        full.write(b"after\n")
        full.flush()
    assert lost == [4]
    assert path.read_bytes() == LINE + b"x" * 50 + b"\nafter\n"


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes, as on a disk that is full."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


# --- the program -------------------------------------------------------------------------


CRASH = """
import asyncio, structlog
from bridge.observability import logging as logs

async def serve():
    structlog.get_logger("ours").info("the last word")
    raise LookupError("on the loop")

logs.configure("info", "json")
asyncio.run(serve())
"""


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_the_last_line_before_a_crash_goes_out(unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-c", CRASH]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [json.loads(line)["event"] for line in lines if line.startswith("{")] == [
        "the last word"
    ]
    assert "LookupError: on the loop" in lines


REDIRECTIONS = {
    "nobody reads": "",
    "reader gone": "",
    "full": "2>/dev/full",
    "closed": "2>&-",
    "no output": ">&-",
    "all closed": "<&- >&- 2>&-",
    "full by and by": "2>log",
}


@pytest.mark.parametrize("kind", REDIRECTIONS)
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_log_that_cannot_be_written_costs_no_request(
    embedded: EmbeddedBroker, topic: str, tmp_path: Path, kind: str, unbuffered: str
) -> None:
    """Every state is acknowledged, the probes are answered, and SIGTERM ends it with status 0."""
    for name in (topic, f"{topic}.rejected"):  # the broker makes a topic that it is asked about
        Producer({"bootstrap.servers": embedded.bootstrap_servers}).list_topics(name, 10)
    server, admin = free_ports(2)
    listeners: dict[str, Any] = {
        "server": {"host": HOST, "port": server},
        "admin": {"host": HOST, "port": admin},
    }
    config = tmp_path / "bridge.yaml"
    config.write_text(yaml.safe_dump(configuration(embedded.bootstrap_servers, topic, **listeners)))
    with ExitStack() as ends:
        reader, writer = os.pipe()
        reader_end = ends.enter_context(open(reader, "rb"))  # noqa: PTH123 -- no path
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        # No file may grow beyond so many blocks, as on a disk that is soon full.
        limit = "ulimit -f 8 &&" if kind == "full by and by" else ""
        program = subprocess.Popen(
            ["sh", "-c", f'{limit} exec "$@" {REDIRECTIONS[kind]}', "sh", *COMMAND, str(config)],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stderr=writer,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
        ends.callback(program.wait)
        ends.callback(program.kill)
        os.close(writer)
        wait_until(lambda: is_ready(admin), "the gateway is ready")
        if kind == "reader gone":
            reader_end.close()
        for number in range(100):
            assert acknowledged(server, number)
        assert is_ready(admin)
        program.terminate()
        assert program.wait(20) == 0


def test_the_metrics_and_the_log_count_the_lines_that_are_dropped(tmp_path: Path) -> None:
    """While nobody reads, and once somebody does: what is missing of the ids can be seen."""
    server, admin = free_ports(2)
    whole = configuration(
        "127.0.0.1:1",
        "t",
        server={"host": HOST, "port": server},
        admin={"host": HOST, "port": admin},
        kafka={"publish_timeout_seconds": 1},
    )
    config = tmp_path / "bridge.yaml"
    config.write_text(yaml.safe_dump(whole))
    log = tmp_path / "log"
    with ExitStack() as ends:
        reader, writer = os.pipe()
        program = subprocess.Popen([*COMMAND, str(config)], stderr=writer)
        ends.callback(program.wait)
        ends.callback(program.kill)
        os.close(writer)
        wait_until(lambda: b"ready" not in _admin(admin, "/livez"), "the gateway listens")
        states = "".join(f'<state id_sms="{n:0>64}">send</state>' for n in range(9_000))
        posted = 0
        while not dropped(admin):
            assert exchange(server, "POST", "/webhook", f"<response>{states}</response>".encode())
            posted += 1
        with log.open("wb") as file:
            copying = subprocess.Popen(["cat"], stdin=reader, stdout=file)
            os.close(reader)
            wait_until(lambda: b"log lines dropped" in log.read_bytes(), "the log tells of it")
            told = dropped(admin)
            program.terminate()
            copying.wait(30)
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert [line["lines"] for line in lines if line["event"] == "log lines dropped"] == [told]
    named = sum(len(line.get("unlisted_ids", ())) for line in lines)
    assert 0 < named < 9_000 * posted


def dropped(port: int) -> int:
    found = re.search(
        rb"^sms_bridge_dropped_log_lines_total (\d+)", _admin(port, "/metrics"), re.MULTILINE
    )
    assert found is not None
    return int(found[1])


def _admin(port: int, path: str) -> bytes:
    try:
        return exchange(port, "GET", path)[1]
    except OSError:
        return b"not ready"


COMMAND = [sys.executable, "-m", "bridge", "serve", "--config"]


def is_ready(port: int) -> bool:
    try:
        return exchange(port, "GET", "/readyz")[0] == HTTPStatus.OK
    except OSError:
        return False


def acknowledged(port: int, number: int) -> bool:
    body = b'<response><state id_sms="%d" time="" sms="send">send</state></response>' % number
    status, answer = exchange(port, "POST", "/webhook", body)
    return status == HTTPStatus.OK and b"<id_sms>%d</id_sms>" % number in answer


def exchange(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
