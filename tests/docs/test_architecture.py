"""CONTRIBUTING.md, docs/architecture.md and docs/glossary.md are held against the tree."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.model import Result

ROOT = Path(__file__).parents[2]
MAP = ROOT / "docs/architecture.md"
PAGES = (ROOT / "CONTRIBUTING.md", MAP, ROOT / "docs/glossary.md")
BUILT = "dist/"  # by make, and in no checkout
OUTSIDE = ("bridge/", "benchmarks/", "compose/", "config/", "docs/", "helm/", "tests/")


def words(page: Path) -> list[str]:
    """What stands in backticks."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`]+)`", prose)


def files(page: Path) -> Iterator[Path]:
    """Each file that a page names: from the root, or on the map from `bridge/`."""
    for word in words(page):
        name = word.partition(":")[0]
        if name != BUILT and re.fullmatch(r"[a-z_./]+\.(py|md|yaml|json)|[a-z_]+/", name):
            from_root = name.startswith(OUTSIDE) and not (ROOT / "bridge" / name).exists()
            yield ROOT / name if from_root else ROOT / "bridge" / name


def test_the_map_has_every_module_and_package() -> None:
    parts = {path for path in (ROOT / "bridge").iterdir() if path.name.strip("_") == path.name}
    there = {p for p in parts if p.suffix == ".py" or (p.is_dir() and p.name != "__pycache__")}
    assert there - set(files(MAP)) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    assert [file for file in files(page) if not file.exists()] == []


def test_every_name_on_a_request_s_way_exists() -> None:
    """Classes, methods and functions, so that a renamed one is followed here."""
    way = MAP.read_text("utf-8").partition("## One request's way")[2].partition("\n## ")[0]
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "bridge").rglob("*.py"))
    named = re.findall(r"`(?:[\w/]+\.py: )?(?:\w+\.)?([A-Za-z_]+)`", way.replace(".py`", ""))
    assert {"Webhook", "prepare", "accept", "acknowledged"} <= set(named)
    for name in {*named} - {*Result}:
        assert re.search(rf"(class|def) {name}\b", source), name
