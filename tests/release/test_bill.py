"""What is known against the dependencies: found, nothing, or nobody to ask."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.release.bill import AdvisoriesUnavailableError, vulnerabilities

KNOWN = {"id": "PYSEC-2027-1", "fix_versions": ["2.0"], "aliases": [], "description": ""}
CLEAN = {"name": "click", "version": "8.5.1", "vulns": []}
UNKNOWN = {"name": "click", "skip_reason": "Dependency not found on PyPI and could not be audited"}
OFFLINE = "requests.exceptions.ConnectionError: Failed to resolve 'index.example.com'"


def tools(directory: Path, *packages: dict[str, Any], complaint: str = "") -> Path:
    """An environment whose pip-audit says this."""
    program = directory / "bin/pip-audit"
    program.parent.mkdir()
    said = json.dumps({"dependencies": packages, "fixes": []}) if packages else ""
    lines = ["#!/bin/sh", f"cat <<'X'\n{said}\nX", f"cat >&2 <<'X'\n{complaint}\nX", "exit 1"]
    program.write_text("\n".join(lines))
    program.chmod(0o755)
    return directory


def found(directory: Path) -> list[str]:
    return list(vulnerabilities(directory, Path("requirements.txt")))


def test_what_is_known_is_said_with_the_version_that_fixes_it(tmp_path: Path) -> None:
    vulnerable = {"name": "x", "version": "1.0", "vulns": [KNOWN, KNOWN | {"fix_versions": []}]}
    assert found(tools(tmp_path, CLEAN, vulnerable)) == [
        "x 1.0: PYSEC-2027-1, fixed in 2.0",
        "x 1.0: PYSEC-2027-1, without a fix",
    ]


def test_nothing_known_is_nothing(tmp_path: Path) -> None:
    assert found(tools(tmp_path, CLEAN)) == []


def test_what_nobody_has_looked_at_is_not_clean(tmp_path: Path) -> None:
    """As behind a mirror of the index, which has no advisories."""
    with pytest.raises(AdvisoriesUnavailableError, match="1 of 2: Dependency not found"):
        found(tools(tmp_path, CLEAN, UNKNOWN))


def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(AdvisoriesUnavailableError, match="Failed to resolve"):
        found(tools(tmp_path, complaint=OFFLINE))


def test_any_other_failure_is_one(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="unrecognised"):
        found(tools(tmp_path, complaint="pip-audit: unrecognised arguments"))
