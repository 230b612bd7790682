"""A page that can be read in one go is read; the others say here why they are longer."""

from pathlib import Path

import pytest

from tests.docs.test_links import PAGES, prose

MOST_WORDS = 1500
# Words of text, commands and blocks of YAML left out. The numbers are no goals: a page may shrink.
LONGER = {
    "README.md": (2200, "the whole of what a newcomer needs, in the order in which it is needed"),
    "CHANGELOG.md": (None, "it grows with each version, and is read from the one that one has"),
    "docs/deploy.md": (2200, "one way from nothing to the first status, then a section a need"),
    "docs/deploy-kafka.md": (1600, "its tables have a row for each fault of a login"),
    "docs/events.md": (2600, "a reference, generated: a row a field"),
    "docs/metrics.md": (1900, "a reference: a row a metric"),
    "docs/reconcile.md": (1700, "its table has a row for each fault of the provider's API"),
    "docs/reliability.md": (2300, "the promise and its proof: parts of it alone would mislead"),
    "docs/runbook.md": (3700, "a section an alert, of which one is read at a time"),
    "docs/subscribers.md": (2500, "one page for whoever writes a subscriber, as a contract is"),
    "docs/findings.md": (None, "evidence: tables of figures, a section a search"),
    "helm/README.md": (4800, "a reference, generated for the most part: a row a value"),
    "helm/docs/events.md": (2600, "the chart's copy of docs/events.md"),
    "benchmarks/README.md": (2300, "how each figure is measured, and what was concluded"),
    "benchmarks/figures.md": (None, "tables that the benchmark writes"),
}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_is_short_or_says_why_not(page: Path) -> None:
    most, _ = LONGER.get(page.as_posix(), (MOST_WORDS, ""))
    assert most is None or len(prose(page).split()) <= most, "part it, or give a reason in LONGER"


@pytest.mark.parametrize("name", LONGER)
def test_an_exception_is_needed(name: str) -> None:
    assert len(prose(Path(name)).split()) > MOST_WORDS
