"""Packages of npm's that tests need: fetched once, into the user's cache, as a lock file says."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.cache import kept

INSTALL_TIMEOUT_SECONDS = 300
RUN_TIMEOUT_SECONDS = 300
# A lock is written anew, without addresses, by:
# npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts
INSTALL = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]


class NpmUnavailableError(Exception):
    """This machine cannot have the packages: no Node, or npm's registry is out of reach."""


@dataclass(frozen=True, slots=True)
class Packages:
    """A directory with installed packages, and the Node to run them."""

    node: str
    directory: Path

    def run(self, script: Path, given: str) -> str:
        """What a script writes that reads `given`; fails the test where the script fails."""
        # As text, since Node looks for the packages of a file beside that file.
        done = subprocess.run(
            [self.node, "--input-type=module", "--eval", script.read_text(encoding="utf-8")],
            cwd=self.directory,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_TIMEOUT_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def compile(self, source: str, directory: Path) -> list[str]:
        """What TypeScript's compiler has against a source that may import the packages."""
        (directory / "source.ts").write_text(source, encoding="utf-8")
        (directory / "node_modules").symlink_to(self.directory / "node_modules")
        tsc = self.directory / "node_modules/typescript/bin/tsc"
        options = ("--strict", "--noEmit", "--skipLibCheck", "--module", "preserve")
        done = subprocess.run(
            [self.node, tsc, *options, "source.ts"],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_TIMEOUT_SECONDS,
        )
        said = done.stdout.splitlines()
        assert (done.returncode == 0) == (not said), done.stderr
        return said


def packages(
    name: str, pins: Sequence[Path], finish: Callable[[str, Path], None] | None = None
) -> Packages:
    """What package.json and package-lock.json pin, installed.

    `finish` is called with npm and the directory, for what has to be compiled; what it makes is
    kept for each Node. NpmUnavailableError says why it cannot be.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NpmUnavailableError("there is no Node with npm on this machine")

    def install(_: Path, directory: Path) -> None:
        directory.mkdir()
        for file in pins:
            shutil.copy(file, directory)
        _install(npm, directory)
        if finish is not None:
            finish(npm, directory)

    pinned = b"".join(file.read_bytes() for file in pins)
    if finish is not None:
        pinned += subprocess.run([node, "--version"], capture_output=True, check=True).stdout
    return Packages(node, kept(name, pinned, install))


def _install(npm: str, directory: Path) -> None:
    """What the lock file says and with its hashes; scripts of packages never run."""
    try:
        subprocess.run(
            [npm, *INSTALL],
            cwd=directory,
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_SECONDS,
        )
    except subprocess.CalledProcessError as exc:
        said = [line for line in exc.stderr.splitlines() if line.startswith("npm error")]
        reason = "; ".join(said[:3]) or "npm failed"
        raise NpmUnavailableError(f"the packages cannot be had: {reason}") from exc
    except subprocess.TimeoutExpired as exc:
        raise NpmUnavailableError("the packages do not come in time") from exc
