"""The standard streams: closed, full or unread ones change no result of a command."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "bridge"]
EXAMPLE = str(Path(__file__).parent.parent / "config" / "bridge.yaml")
SECONDS = 30.0


def ran(
    *arguments: str,
    redirection: str = "",
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """The program, started by a shell that redirects its streams."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["serve", "--config", "/nowhere.yaml"], 78),
        (["convert", "/nowhere.xml"], 2),
        (["check", "--no-env", "--config", EXAMPLE], 0),  # it warns
    ],
    ids=["configuration", "usage", "warnings"],
)
def test_what_cannot_be_said_of_an_error_does_not_change_its_status(
    arguments: list[str], status: int, redirection: str
) -> None:
    assert ran(*arguments, redirection=redirection).returncode == status


def test_nobody_waits_for_a_reader_of_errors_who_does_not_read() -> None:
    """A supervisor's pipe may be full from the run before; the program must end all the same."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while os.write(writer, bytes(4096)):
                pass
        os.set_blocking(writer, True)
        assert ran("serve", "--config", "/nowhere.yaml", stderr=writer).returncode == 78
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("arguments", [["schema", "status"], ["--help"], ["--version"]])
def test_an_output_that_cannot_be_written_is_told_in_one_line(arguments: list[str]) -> None:
    done = ran(*arguments, redirection=">/dev/full")
    assert done.returncode == 1
    assert done.stderr == "sms-bridge: cannot write the output: No space left on device\n"


def test_an_output_whose_reader_has_gone_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = ran("schema", "status", stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


LOWEST = """
import os, sys
from bridge import streams
streams.prepare()
print(sys.stdout.isatty(), sys.stderr.isatty())  # what is closed is there, and goes nowhere
raise SystemExit(os.open(os.devnull, os.O_RDONLY))
"""


@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_no_other_file_gets_a_standard_streams_number(closed: str) -> None:
    """Libuv aborts when it closes such a descriptor; a late line would go to whoever has it."""
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", LOWEST]
    assert subprocess.run(command, timeout=SECONDS, check=False).returncode == 3
