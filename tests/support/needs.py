"""What a machine may lack: a test that needs it is skipped, with what to do about it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def skipped_without(thing: str, error: type[Exception]) -> Iterator[None]:
    """Skip the test if the block raises `error`: its text says what the machine lacks."""
    try:
        yield
    except error as exc:
        pytest.skip(f"no {thing}: {exc}")


def program(name: str, package: str) -> str:
    """The path of a program of Debian's; it keeps some of them in root's directories."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"no {name}: install Debian's package {package}")
    return path
