"""The notes of a release: its section of the changelog."""

import re

from tests.release.artifacts import ROOT


class NotReleasedError(Exception):
    """The changelog has no such version, or no date for it."""


def notes(version: str, changelog: str | None = None) -> str:
    """The section of a version, without its heading. NotReleasedError says what is missing."""
    text = changelog or (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(
        rf"^## {re.escape(version)} \(([^)\n]+)\)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    if found is None:
        raise NotReleasedError(f"CHANGELOG.md has no section for {version}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", found[1]):
        raise NotReleasedError(f"CHANGELOG.md says {found[1]} for {version}: put the date there")
    return found[2].strip() + "\n"
