"""Processes that have inherited a mark in their environment: what a program left running."""

from pathlib import Path

MARK = "SMS_BRIDGE_TEST_MARK"


def processes(mark: str) -> list[int]:
    """Find the processes with this mark; a zombie counts as ended."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:
            continue  # it has just ended, or is another user's
        if f"{MARK}={mark}".encode() in environment:
            found.append(int(process.name))
    return found
