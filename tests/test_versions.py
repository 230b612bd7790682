"""One version everywhere: package, changelog, chart and image."""

import re
import tomllib
from pathlib import Path

import yaml

from bridge import __version__

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
