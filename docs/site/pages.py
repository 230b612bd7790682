"""Which files the site has: each Markdown file of the repository, and what these link to."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = ("*.md", "docs/*.md", "docs/examples/*.md", "helm/*.md", "benchmarks/*.md")
OWN = ("docs/site/site.css", "docs/site/favicon.svg")
DOCUMENTS = ("openapi.json", "asyncapi.json")
OPENAPI = """# HTTP interface

What the provider's posts and the probes get, as the program itself describes it:
[openapi.json](openapi.json), which `sms-bridge schema openapi` prints, too.

<swagger-ui src="openapi.json"/>
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the files from the repository's root, where MkDocs allows no docs_dir."""
    found = Files([file for file in files if file.src_dir != config.docs_dir])  # the theme's
    pages = sorted(path for pattern in PAGES for path in ROOT.glob(pattern))
    linked = {path for page in pages for path in _linked(page)}
    for path in sorted(linked | {*pages} | {ROOT / name for name in OWN}):
        found.append(_file(config, path))
    for name in DOCUMENTS:
        source = ROOT / "bridge/documents" / name
        found.append(File.generated(config, f"docs/{name}", abs_src_path=str(source)))
    found.append(File.generated(config, "docs/openapi.md", content=OPENAPI))
    return found


def _file(config: MkDocsConfig, path: Path) -> File:
    return File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path))


def _linked(page: Path) -> set[Path]:
    """The files beside it that a page links to."""
    targets = re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text("utf-8"))
    paths = {(page.parent / target).resolve() for target in targets}
    return {path for path in paths if path.is_relative_to(ROOT) and path.is_file()}
