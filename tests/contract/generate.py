"""Writes the contract's documents into the package, and their page into docs/ and the chart.

Their source is the program. `make schema` runs this; a test holds that nothing is stale.
"""

import json
import sys
from pathlib import Path

from bridge.contract.asyncapi import asyncapi_document
from bridge.contract.documents import DOCUMENTS
from tests.contract.page import page

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "bridge/documents"
PAGES = (ROOT / "docs/events.md", ROOT / "helm/docs/events.md")
NAMES = tuple(name for name in DOCUMENTS if name != "config")
"""The documents of the events: the configuration's is of no use to subscribers."""


def documents() -> dict[Path, str]:
    """Each generated file's text."""
    texts = {
        PACKAGE / f"{name}.json": json.dumps(DOCUMENTS[name](), indent=2, ensure_ascii=False) + "\n"
        for name in NAMES
    }
    return texts | dict.fromkeys(PAGES, page(asyncapi_document()))


def main() -> None:
    """Write what is stale, and say so."""
    for path, text in documents().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
