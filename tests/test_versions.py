"""One version everywhere: package, changelog, chart and image; and the versions of what runs."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from bridge import __version__
from bridge.versions import VERSIONS, expat_warning
from tests.release.artifacts import tracked

ROOT = Path(__file__).parents[1]


def test_the_package_has_the_program_s_version() -> None:
    """The build reads it where the program does."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"] == {"path": "bridge/__init__.py"}


def test_the_changelog_begins_with_this_version() -> None:
    """A release has its date there; what is not released says so."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.findall(r"^## (.+)$", changelog, re.MULTILINE)[0]
    assert re.fullmatch(rf"{re.escape(__version__)} \((unreleased|\d{{4}}-\d\d-\d\d)\)", first)


def test_the_chart_deploys_this_version() -> None:
    about = yaml.safe_load((ROOT / "helm/Chart.yaml").read_text(encoding="utf-8"))
    assert about["appVersion"] == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", about["version"])


def test_the_image_is_labelled_with_this_version() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f'org.opencontainers.image.version="{__version__}"' in dockerfile
    assert f"sms-status-bridge:{__version__} ." in dockerfile


def test_every_image_and_wheel_that_is_named_is_of_this_version() -> None:
    """In documents, chart, compose file and Dockerfile: what a reader copies works."""
    named = {}
    for path in tracked():
        if path.parts[0] != "tests" and path.name != "CHANGELOG.md":
            text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
            found = re.findall(
                r"sms[-_]status[-_]bridge[:-]v?(\d+\.\d+\.\d+\S*?)(?=[\s`]|-py3)", text
            )
            if found:
                named[path.as_posix()] = set(found)
    assert named.keys() >= {
        "Dockerfile",
        "docs/deploy.md",
        "helm/Chart.yaml",
        "compose/compose.yaml",
    }
    assert {path: found for path, found in named.items() if found != {__version__}} == {}


@pytest.mark.parametrize("version", ["2.4.9", "2.6.4", "2.7.1"])
def test_an_expat_below_the_floor_is_a_warning_that_says_what_to_do(version: str) -> None:
    said = expat_warning(version)
    assert said is not None
    assert f"Expat {version}," in said
    assert "older than 2.7.2" in said
    assert "newer Python" in said


@pytest.mark.parametrize("version", ["2.7.2", "2.7.10", "2.8.0", "3.0.0"])
def test_an_expat_from_the_floor_on_is_not(version: str) -> None:
    """Compared as numbers: 2.7.10 is after 2.7.2."""
    assert expat_warning(version) is None


def test_the_floor_is_explained_for_those_who_read_the_warning() -> None:
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "2.7.2" in policy
    assert "CVE-2025-59375" in policy


def test_what_runs_is_known_by_version() -> None:
    assert VERSIONS.keys() == {"version", "python", "expat"}
    for version in VERSIONS.values():
        assert re.match(r"\d+\.\d+\.\d+", version)
