"""Mermaid's diagrams become pictures when the site is built: no script draws them later."""

import re

import mmdr

MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Draw each in its place. A diagram that cannot be drawn ends the build."""
    return MERMAID.sub(lambda found: _picture(found[1]), markdown)


def _picture(source: str) -> str:
    # One line: to Markdown a blank one would end the block of HTML.
    return f'<div class="diagram">{" ".join(mmdr.render(source).svg().split())}</div>'
