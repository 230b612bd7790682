"""Validates custom resources with the models of them that npm has, in Node.

The models know types, patterns and words, but take unknown keys, and have nothing of Strimzi's:
those are the business of tests/helm/custom.py. They are fetched once, into the user's cache.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helm.cache import kept

SCRIPT = Path(__file__).parent / "validate.mjs"
PINS = [Path(__file__).parent / "models" / name for name in ("package.json", "package-lock.json")]
INSTALL_TIMEOUT_SECONDS = 300
VALIDATION_TIMEOUT_SECONDS = 60
# The lock is written anew, without addresses, by:
# npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts
INSTALL = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]


class ModelsUnavailableError(Exception):
    """This machine cannot have the models: no Node, or npm's registry is out of reach."""


@dataclass(frozen=True, slots=True)
class Models:
    """The installed models."""

    node: str
    directory: Path

    def problems(self, objects: Sequence[dict[str, Any]]) -> list[list[str] | None]:
        """What is wrong with each object, in their order; None where there is no model of it.

        One process for all: starting it is what takes time.
        """
        # As text, since Node looks for the packages of a file beside that file.
        done = subprocess.run(
            [self.node, "--input-type=module", "--eval", SCRIPT.read_text(encoding="utf-8")],
            cwd=self.directory,
            input=json.dumps(list(objects)),
            capture_output=True,
            text=True,
            check=False,
            timeout=VALIDATION_TIMEOUT_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        found: list[list[str] | None] = json.loads(done.stdout)
        assert len(found) == len(objects)
        return found


def models() -> Models:
    """The models, installed. ModelsUnavailableError says why they cannot be."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise ModelsUnavailableError("there is no Node with npm on this machine")

    def install(_: Path, directory: Path) -> None:
        directory.mkdir()
        for file in PINS:
            shutil.copy(file, directory)
        _install(npm, directory)

    return Models(node, kept("models", b"".join(file.read_bytes() for file in PINS), install))


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
        raise ModelsUnavailableError(f"their packages cannot be had: {reason}") from exc
    except subprocess.TimeoutExpired as exc:
        raise ModelsUnavailableError("their packages do not come in time") from exc
