"""The bill of materials of the program as it is installed, and what is known against it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bridge import __version__
from tests.release.artifacts import ROOT, commit_time

UNREACHABLE = ("Failed to resolve", "Max retries exceeded", "Connection", "timed out")


class AdvisoriesUnavailableError(Exception):
    """The advisories cannot be had here; the text says why."""


def bill_of_materials(tools: Path, python: Path) -> dict[str, Any]:
    """CycloneDX 1.6, of the packages that an environment's interpreter finds."""
    done = subprocess.run(
        [
            *(tools / "bin/cyclonedx-py", "environment", "--pyproject", ROOT / "pyproject.toml"),
            *("--mc-type", "application", "--output-reproducible", python),
        ],
        env={"SOURCE_DATE_EPOCH": str(commit_time())},
        capture_output=True,
        check=True,
    )
    bill: dict[str, Any] = json.loads(done.stdout)
    bill["metadata"]["component"]["version"] = __version__
    return bill


def vulnerabilities(tools: Path, requirements: Path) -> Iterator[str]:
    """What is known against pinned requirements. AdvisoriesUnavailableError if nobody can say."""
    done = subprocess.run(
        [
            *(tools / "bin/pip-audit", "--requirement", requirements, "--require-hashes"),
            *("--disable-pip", "--format", "json", "--progress-spinner", "off"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        if any(word in last[0] for word in UNREACHABLE):
            raise AdvisoriesUnavailableError(last[0]) from None
        raise RuntimeError(done.stderr) from None
    skipped = [package for package in found if "skip_reason" in package]
    if skipped:
        raise AdvisoriesUnavailableError(
            f"{len(skipped)} of {len(found)}: " + skipped[0]["skip_reason"]
        )
    for package in found:
        for known in package["vulns"]:
            versions = ", ".join(known["fix_versions"])
            fix = f"fixed in {versions}" if versions else "without a fix"
            yield f"{package['name']} {package['version']}: {known['id']}, {fix}"
