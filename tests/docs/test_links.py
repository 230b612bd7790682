"""Every link of every Markdown file leads to a file, and every anchor to a heading."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.release.artifacts import tracked

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in tracked() if path.suffix == ".md")
FENCED = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    return FENCED.sub("", (ROOT / page).read_text("utf-8"))


@cache
def anchors(page: Path) -> set[str]:
    """Those that GitHub gives the headings; the site's are the same (mkdocs.yml)."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        copies = sum(1 for anchor in found if re.fullmatch(rf"{re.escape(plain)}(-\d+)?", anchor))
        found.add(f"{plain}-{copies}" if copies else plain)
    return found


def faults(page: Path) -> list[str]:
    wrong = []
    for link in LINK.findall(prose(page)):
        if re.match(r"(https?|mailto):", link):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page.parent / name).resolve() if name else ROOT / page
        if not (target.is_relative_to(ROOT) and target.exists()) or (
            anchor and anchor not in anchors(target.relative_to(ROOT))
        ):
            wrong.append(link)
    return wrong


def test_pages_and_links_are_found() -> None:
    """Else what follows would hold for nothing."""
    assert {"README.md", "docs/deploy.md", "helm/README.md"} <= {p.as_posix() for p in PAGES}
    assert sum(len(LINK.findall(prose(page))) for page in PAGES) > 100


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert faults(page) == []
