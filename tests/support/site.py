"""The site of the documents, built as `make docs` does, and what its pages refer to."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
SET_UP_TIMEOUT_SECONDS = 300
BUILD_TIMEOUT_SECONDS = 120


class SiteUnavailableError(Exception):
    """What builds it could not be installed; the text says why."""


def set_up() -> None:
    """Install what builds the site, once a checkout."""
    done = make(".venv-docs/.ready", timeout=SET_UP_TIMEOUT_SECONDS)
    if done.returncode:
        raise SiteUnavailableError(done.stdout[-500:] + done.stderr[-500:])


def make(*arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run make as a user does, also where make runs this."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", f"PYTHON={sys.executable}", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


class References(HTMLParser):
    """Of one page: its anchors, its links, and what the browser loads by itself."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sort the attributes that name something."""
        for name, value in attrs:
            if name in {"id", "name"} and value:
                self.anchors.add(value)
            if name == "href" and value and tag == "a":
                self.links.add(value)
            elif name in {"src", "href", "data"} and value:
                self.loaded.add(value)
