"""Jars that Maven fetches once, into a cache that all clones share."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TIMEOUT_SECONDS = 600.0


class JarsUnavailableError(Exception):
    """Java, Maven or Maven's repository is out of reach."""


def maven_libraries(name: str, pom: Path, version: str | None = None) -> Path:
    """Return the directory of the jars that a pom depends on, fetched the first time.

    It is below $XDG_CACHE_HOME, or else ~/.cache, one for each version: the pom's `<NAME.version>`,
    or the one that is named. JarsUnavailableError says what this machine lacks.
    """
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise JarsUnavailableError(f"{program} is not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sms-status-bridge"
    target = cache / f"{name}-{version or _version(name, pom)}"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{target.name}.lock"):
        if not target.is_dir():
            _fetch(pom, target, *([f"-D{name}.version={version}"] if version else []))
    return target


def _version(name: str, pom: Path) -> str:
    found = re.search(rf"<{name}\.version>(.+)</{name}\.version>", pom.read_text())
    if found is None:
        raise ValueError(f"{pom} names no {name}.version")
    return found[1]


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock that two test runs at once share; it ends with the process at the latest."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch(pom: Path, target: Path, *options: str) -> None:
    """Let Maven copy the jars beside the target, then put them in place in one step."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as partial:
        jars = Path(partial) / "jars"
        copied_libraries(pom, jars, *options)
        jars.rename(target)


def copied_libraries(pom: Path, directory: Path, *options: str) -> None:
    """Let Maven copy what a pom depends on; JarsUnavailableError says why it cannot."""
    _run_maven(pom, "dependency:copy-dependencies", "-DincludeScope=runtime", directory, *options)


def _run_maven(pom: Path, goal: str, scope: str, directory: Path, *options: str) -> None:
    command = ["mvn", "--batch-mode", "--quiet", "--strict-checksums", "--file", str(pom)]
    try:
        done = subprocess.run(
            [*command, goal, scope, f"-DoutputDirectory={directory}", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise JarsUnavailableError("Maven did not fetch the jars in time") from None
    if done.returncode != 0:
        errors = [line for line in done.stdout.splitlines() if "ERROR" in line]
        raise JarsUnavailableError(f"Maven cannot fetch the jars: {' '.join(errors[:1])}")
