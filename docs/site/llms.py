"""llms.txt (https://llmstxt.org): a sentence on each page, and beside the pages their Markdown."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

sources: dict[str, str] = {}  # Markdown, by the page's path
lines: list[str | Page] = []


def on_nav(nav: Navigation, config: MkDocsConfig, **_: object) -> None:
    """Begin anew: while the site is served, it is built again and again."""
    sources.clear()
    lines[:] = [f"# {config.site_name}", "", f"> {config.site_description}"]
    for part in nav.items:
        lines.extend(["", f"## {part.title}", ""])
        lines.extend(_pages(part))


def on_page_markdown(markdown: str, page: Page, **_: object) -> None:
    """Keep the source: mkdocs.yml has this hook before the one that draws diagrams."""
    sources[page.file.src_uri] = markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Write llms.txt, and each page's source."""
    site = Path(config.site_dir)
    for name, text in sources.items():
        (site / name).write_text(text, "utf-8")
    said = [line if isinstance(line, str) else _entry(config, line) for line in lines]
    (site / "llms.txt").write_text("\n".join(said) + "\n", "utf-8")


def _pages(part: object) -> list[Page]:
    if isinstance(part, Section):
        return [page for child in part.children for page in _pages(child)]
    return [part] if isinstance(part, Page) else []


def _entry(config: MkDocsConfig, page: Page) -> str:
    """A page's title and the first sentence of its first paragraph."""
    name = page.file.src_uri
    if name not in sources:  # a document for programs
        return f"- [{page.title}]({config.site_url or ''}{name})"
    text = re.sub(r"<!--.*?-->", "", sources[name], flags=re.DOTALL)
    _, title, body = re.split(r"^# (.+)$", text, maxsplit=1, flags=re.MULTILINE)
    first = next(p for p in re.split(r"\n\s*\n", body) if re.match(r"\s*(?!```)[\w`\[*]", p))
    plain = " ".join(re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", first).split())
    sentence = re.split(r"(?<=[.:])\s", plain)[0].rstrip(":.")
    return f"- [{title}]({config.site_url or ''}{name}): {sentence}."
