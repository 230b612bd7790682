"""The trees of commits, for what is compared with the working tree."""

import contextlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.programs import ROOT


class CommitError(Exception):
    """There is no such commit, or no repository: the text is Git's."""


def short_name(commit: str) -> str:
    """Return the abbreviated hash."""
    return _git("rev-parse", "--short", f"{commit}^{{commit}}").decode().strip()


def before_the_change() -> str:
    """Return where the branch began; on main HEAD, or its parent if nothing is changed."""
    head, main = (_git("rev-parse", name).decode().strip() for name in ("HEAD", "main"))
    if head != main:
        return _git("merge-base", head, main).decode().strip()
    return "HEAD" if _git("status", "--porcelain") else "HEAD~1"


@contextlib.contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """Yield a directory with the files of a commit, which goes with the block."""
    with tempfile.TemporaryDirectory(prefix="sms-bridge-commit-") as name:
        with tarfile.open(fileobj=io.BytesIO(_git("archive", commit))) as files:
            files.extractall(name, filter="data")
        yield Path(name)


def _git(*arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True)
    except subprocess.CalledProcessError as exc:
        raise CommitError(f"git {arguments[0]}: {exc.stderr.decode().strip()}") from exc
    return done.stdout
