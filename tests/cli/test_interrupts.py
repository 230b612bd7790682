"""Ctrl-C at any moment of any command: 130, no traceback, and no process left.

The moments begin where the program does: before that it is Python's own start that is interrupted.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.cli.main import COMMANDS
from bridge.demo.child import wait_until as poll
from tests.support.marked import MARK, processes

pytestmark = pytest.mark.slow

CONFIG = """\
server: {{host: 127.0.0.1, port: 0, shutdown_grace_seconds: 2}}
admin: {{host: 127.0.0.1, port: 0}}
kafka: {{bootstrap_servers: "127.0.0.1:1"}}
endpoints:
  - name: main
    path: /webhook
    source: urn:test
    timezone: UTC
    auth: none
    provider: {{url: "http://127.0.0.1:{port}/xml", token: t}}
events: {{type_prefix: com.example}}
"""
# Interrupts itself within the import with this number; with 0 it says how many there are.
WITHIN_AN_IMPORT = """
import os, signal, sys
from bridge.__main__ import main
at = int(sys.argv.pop(1))
count = 0
def on_event(event, _):
    global count
    if event == "import":
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(on_event)
try:
    main()
finally:
    if not at:
        print(count, file=sys.stderr)
"""
# Says when Ctrl-C is its own to answer.
WHILE_IT_WORKS = """
import os
from bridge import interrupts
from bridge.__main__ import main
interrupts.leave_at_once()
os.write(2, b"begun\\n")
main()
"""
# Interrupts itself when Python has put the signals' own actions back, and clears modules away.
WHILE_IT_IS_CLEARED_AWAY = """
import os, signal
from bridge.__main__ import main
class Last:
    def __del__(self, kill=os.kill, process=os.getpid(), signum=signal.SIGINT):
        kill(process, signum)
last = Last()
main()
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupt_within_an_import_ends_it_at_once(command: str, tmp_path: Path) -> None:
    """`--help` imports all that a command needs; `serve` does so when it begins."""
    call = [command, "--help"]
    if command == "serve":
        call = [command, "--config", str(tmp_path / "missing.yaml")]
    counted = Run(tmp_path, WITHIN_AN_IMPORT, "0", *call)
    counted.end()
    imports = int(counted.said.splitlines()[-1])
    at = [1, imports // 3, 2 * imports // 3, imports]

    runs = [Run(tmp_path, WITHIN_AN_IMPORT, str(number), *call) for number in at]

    assert imports > 50
    for run in runs:
        assert (run.end(), run.said) == (130, "")


def test_an_interrupt_after_the_end_changes_no_status(tmp_path: Path) -> None:
    run = Run(tmp_path, WHILE_IT_IS_CLEARED_AWAY, "schema", "status")
    assert (run.end(), run.said) == (0, "")


# What each is to do, longer than the moments last; and the status of those that end before.
CALLS: dict[str, tuple[Sequence[str], int | None]] = {
    "check": (["check"], 0),
    "check --connect": (["check", "--connect"], 1),
    "check --provider": (["check", "--provider"], 1),
    "convert": (["convert", "-"], None),
    "dead-letters list": (["dead-letters", "list"], 1),
    "dead-letters replay": (["dead-letters", "replay"], 1),
    "find": (["find", "42"], 1),
    "reconcile": (["reconcile", "{ids}"], 1),
    "schema": (["schema", "asyncapi"], 0),
    "simulate": (["simulate", "--messages", "1", "--url", "{provider}"], None),
    "simulate --serve-api": (["simulate", "--messages", "1", "--serve-api", "127.0.0.1:0"], None),
    "tail": (["tail"], 1),
}


def test_every_command_is_interrupted_here() -> None:
    """`demo` and `serve` are below."""
    assert {name.split()[0] for name in CALLS} | {"demo", "serve"} == set(COMMANDS)


@pytest.mark.parametrize("name", CALLS)
def test_an_interrupt_at_any_moment_ends_a_command_with_130(name: str, tmp_path: Path) -> None:
    """Kafka is away, the provider never answers, and standard input has no end."""
    call, by_itself = CALLS[name]
    ids = tmp_path / "ids"
    ids.write_text("42\n")
    with socket.create_server(("127.0.0.1", 0)) as provider:
        port = provider.getsockname()[1]
        arguments = [part.format(ids=ids, provider=f"http://127.0.0.1:{port}/") for part in call]
        calls = [arguments] * 4
        runs = signalled(tmp_path, calls, moments(4, 1.5), signal.SIGINT, provider_port=port)
    for run in runs:
        assert "Traceback" not in run.said, run.said
        assert run.process.returncode in {130, by_itself}, run.said
        assert not processes(run.mark)
    assert runs[0].process.returncode == 130


def test_an_interrupt_ends_serve_with_130_before_it_serves_and_drains_it_after(
    tmp_path: Path,
) -> None:
    """What has begun to serve answers what it was asked: it ends with 0, as after SIGTERM."""
    runs = signalled(tmp_path, [["serve"]] * 6, moments(6, 2.0), signal.SIGINT)

    for run in runs:
        assert "Traceback" not in run.said, run.said
        assert run.process.returncode == (0 if '"stopped"' in run.said else 130), run.said
    assert runs[0].process.returncode == 130


@pytest.mark.embedded
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_of_the_demo_leaves_no_process(
    number: signal.Signals, tmp_path: Path
) -> None:
    """SIGTERM ends what has no handler yet, and nothing to leave behind."""
    calls = [["demo", "--messages", "200"], ["demo", "--messages", "20", "--keep"]] * 3
    runs = signalled(tmp_path, calls, moments(len(calls), 8.0), number)

    statuses = {128 + number} if number == signal.SIGINT else {128 + number, -number}
    for run in runs:
        assert "Traceback" not in run.said, run.said
        assert run.process.returncode in statuses, run.said
        poll(lambda mark=run.mark: not processes(mark), "the end of every process")  # type: ignore[misc]


# --- processes ---------------------------------------------------------------------------


def moments(count: int, last: float) -> list[float]:
    """Seconds after the program's begin, the first of them at once; others with each $SEED."""
    rng = random.Random(os.environ.get("SEED", "1"))
    return [0.0, *sorted(rng.uniform(0, last) for _ in range(count - 1))]


class Run:
    """The program in a process, and what it says on standard error."""

    def __init__(self, directory: Path, program: str, *arguments: str) -> None:
        self.mark = uuid.uuid4().hex
        self._said = directory / self.mark
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={
                    **os.environ,
                    MARK: self.mark,
                    "SMS_BRIDGE_CONFIG": str(directory / "bridge.yaml"),
                },
            )

    @property
    def said(self) -> str:
        return self._said.read_text()

    def end(self) -> int:
        """Wait for its end; its status. Its standard input ends only then."""
        try:
            return self.process.wait(60)
        finally:
            with self.process as process:
                process.kill()


def signalled(
    directory: Path,
    calls: Sequence[Sequence[str]],
    moments: Sequence[float],
    number: signal.Signals,
    provider_port: int = 9,
) -> list[Run]:
    """Run the program, called so, side by side; each gets the signal at its moment, and ends."""
    (directory / "bridge.yaml").write_text(CONFIG.format(port=provider_port))
    runs = [Run(directory, WHILE_IT_WORKS, *call) for call in calls]
    try:
        for run in runs:
            poll(lambda run=run: "begun" in run.said, "the program's begin")  # type: ignore[misc]
        begun = time.monotonic()
        for run, moment in zip(runs, moments, strict=True):
            time.sleep(max(begun + moment - time.monotonic(), 0))
            run.process.send_signal(number)
        for run in runs:
            run.process.wait(60)
    finally:
        for run in runs:
            with run.process as process:
                process.kill()
    return runs
