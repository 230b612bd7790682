"""The notes of a release are its section of the changelog, once that has a date."""

import re

import pytest

from bridge import __version__
from tests.release.artifacts import ROOT
from tests.release.changelog import NotReleasedError, notes

TEXT = """\
# Changelog

Words.

## 0.2.0 (2027-01-31)

- More.

### Upgrade

Nothing.

## 0.1.0 (2026-12-01)

- First.
"""


def test_the_notes_end_where_the_next_version_begins() -> None:
    assert notes("0.2.0", TEXT) == "- More.\n\n### Upgrade\n\nNothing.\n"
    assert notes("0.1.0", TEXT) == "- First.\n"


def test_a_version_without_a_section_or_a_date_is_not_released() -> None:
    with pytest.raises(NotReleasedError, match=r"no section for 0\.1"):
        notes("0.1", TEXT)
    with pytest.raises(NotReleasedError, match="put the date there"):
        notes("0.1.0", TEXT.replace("2026-12-01", "unreleased"))


def test_every_version_says_what_an_upgrade_needs() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    _, *sections = re.split(r"^## ", changelog, flags=re.MULTILINE)
    assert sections[0].startswith(__version__)
    for section in sections:
        assert re.search(r"^### Upgrade\n\n\S", section, re.MULTILINE), section.splitlines()[0]
