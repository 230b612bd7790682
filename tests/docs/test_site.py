"""The site of the documents: whole, searchable, and complete without a network."""

import functools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, ViewportSize

from tests.docs.test_links import PAGES
from tests.release.artifacts import copy_of_the_checkout
from tests.support.browser import Watched
from tests.support.site import BUILD_TIMEOUT_SECONDS, ROOT, References, make

READERS = ("Try", "Run", "Subscribe", "Maintain")
COPY = "helm/docs/events.md"  # the chart's, of docs/events.md
PHONE: ViewportSize = {"width": 390, "height": 844}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
        pass


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve a directory on loopback; yields its URL."""
    handler = functools.partial(Quiet, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def pages(site: Path) -> dict[Path, References]:
    """Those for readers: the answer to an unknown address has absolute links."""
    files = (file for file in site.rglob("*.html") if file.name != "404.html")
    return {file: References(file) for file in files}


def target(page: Path, link: str) -> Path:
    path = unquote(urlsplit(link).path)
    there = (page.parent / path).resolve() if path else page
    return there / "index.html" if there.is_dir() else there


def test_every_page_of_the_repository_is_in_it(site: Path) -> None:
    for page in PAGES:
        name = "index.html" if page.name == "README.md" else f"{page.stem}.html"
        assert (site / page).with_name(name).exists(), page


def test_every_link_of_it_leads_somewhere(site: Path) -> None:
    """Anchors as well: GitHub and the site make them of headings, each in its way."""
    found = pages(site)
    wrong = []
    for page, references in found.items():
        for link in references.links | references.loaded:
            if urlsplit(link).scheme:
                continue
            there, anchor = target(page, link), unquote(urlsplit(link).fragment)
            known = found[there].anchors if there in found else {anchor}
            if not there.exists() or (anchor and anchor not in known):
                wrong.append(f"{page.relative_to(site)}: {link}")
    assert len(found) > len(PAGES) / 2
    assert wrong == []


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page, references in pages(site).items():
        assert [what for what in references.loaded if urlsplit(what).netloc] == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style.read_text("utf-8"))


def test_readers_are_led_by_what_they_want(site: Path) -> None:
    tabs = (site / "index.html").read_text("utf-8").partition('class="md-tabs"')[2]
    shown = re.findall(r'class="md-tabs__link">\s*([^<]+?)\s*</a>', tabs.partition("</nav>")[0])
    assert tuple(shown) == READERS


def test_the_search_knows_every_page(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text("utf-8"))
    known = {entry["location"].partition("#")[0] for entry in index["docs"]}
    shown = {page.relative_to(site).as_posix() for page in pages(site)}
    assert {page for page in shown if "/swagger-" not in page} <= known | {"index.html"}


def test_diagrams_are_pictures(site: Path) -> None:
    sources = sum((ROOT / page).read_text("utf-8").count("```mermaid\n") for page in PAGES)
    texts = [page.read_text("utf-8") for page in pages(site)]
    assert sum(text.count('<div class="diagram"><svg') for text in texts) == sources > 0
    assert not any("sequenceDiagram" in text for text in texts)


def test_llms_txt_names_every_page_and_its_markdown(site: Path) -> None:
    text = (site / "llms.txt").read_text("utf-8")
    entries = re.findall(r"^- \[([^]]+)\]\(([^)]+)\)(: .+\.)?$", text, re.MULTILINE)
    assert text.startswith("# sms-status-bridge\n\n> ")
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == READERS
    assert {name for _, name, _ in entries} >= {p.as_posix() for p in PAGES} - {COPY}
    for title, name, sentence in entries:
        assert (site / name).exists()
        assert bool(sentence) is name.endswith(".md")
        if sentence:
            assert f"# {title}\n" in (site / name).read_text("utf-8")
    assert len(entries) == len(re.findall(r"^(?!#|>)..*$", text, re.MULTILINE))


def test_broken_links_end_the_build(site: Path, tmp_path: Path) -> None:
    """In a copy, since the site is that of the checkout."""
    assert site.exists()
    copy = copy_of_the_checkout(tmp_path)
    faults = ("page.md", "deploy.md#anchor", "file.json")
    with (copy / "docs/find.md").open("a") as page:
        page.writelines(f"\n[gone]({fault})\n" for fault in faults)
    config = f"ARGS=--config-file {copy / 'mkdocs.yml'}"
    done = make("docs", config, timeout=BUILD_TIMEOUT_SECONDS)
    assert done.returncode != 0
    assert [fault for fault in faults if fault not in done.stderr] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone_and_ask_nobody_else(site: Path, chromium: Browser, scheme: str) -> None:
    """The widest tables, a diagram, and the document that Swagger UI shows."""
    with served(site) as url:
        watched = Watched(chromium, color_scheme=scheme)
        watched.page.set_viewport_size(PHONE)
        for path in ("index.html", "docs/subscribers.html", "benchmarks/figures.html"):
            watched.page.goto(url + path)
            assert watched.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        watched.page.goto(url + "docs/openapi.html")
        shown = watched.page.frame_locator("iframe")
        shown.locator(".opblock-summary-path", has_text="/readyz").wait_for()
        watched.page.goto(url + "index.html")
        watched.page.click("label[for=__search]")
        for name in ("durability", "KafkaDown", "max_states"):  # whole names, and parts of some
            watched.page.locator(".md-search__input").fill("")
            watched.page.locator(".md-search__input").press_sequentially(name)
            watched.page.locator(".md-search-result__link", has_text="Runbook").first.wait_for()
        assert [asked for asked in watched.requested if not asked.startswith((url, "data:"))] == []
        # What a page still loads when the next one is opened is aborted: the search's index.
        assert [fault for fault in watched.faults if "ERR_ABORTED" not in fault] == []
        watched.close()
