"""The system's Chromium for tests, and pages of it that tell what went wrong in them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Dialog, Page, ViewportSize, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from bridge.demo.embedded_broker import EmbeddedBroker
from tests.support.gateway import Gateway, configuration

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZE: ViewportSize = {"width": 1280, "height": 800}
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""


class ChromiumUnavailableError(Exception):
    """There is none on this machine, or it does not start; the text says why."""


@contextmanager
def launched_chromium() -> Iterator[Browser]:
    """Run it until the block ends. Nothing is downloaded."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise ChromiumUnavailableError("apt-get install chromium")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # it refuses to be root within one
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=sandbox)
        except PlaywrightError as exc:
            raise ChromiumUnavailableError(f"{found} does not start: {exc}") from exc
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page that keeps everything that must not happen in it."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(viewport=SIZE, **options)
        self.context.add_init_script(WATCH)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self._scripts = options.get("java_script_enabled", True)
        self.page.on("console", lambda m: self.faults.append(f"console: {m.type} {m.text}"))
        self.page.on("pageerror", lambda e: self.faults.append(f"error: {e}"))
        self.page.on("dialog", self._asked)
        self.page.on("requestfailed", self._failed)
        self.page.on("request", self._requested)
        self.requested: list[str] = []

    def _asked(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _failed(self, request: Any) -> None:
        # A stream that the page itself closes has "failed", too.
        if "/live" not in request.url:
            self.faults.append(f"failed: {request.url} {request.failure}")

    def _requested(self, request: Any) -> None:
        self.requested.append(request.url)

    def check(self) -> None:
        """Fail if anything went wrong on the page that is shown, or on those before it."""
        if self._scripts:
            self.faults += self.page.evaluate("window.violations")
        assert self.faults == []

    def close(self) -> None:
        self.context.close()


def document(*ids: int | str, status: str = "deliver") -> bytes:
    """A document as the provider's page shows one."""
    states = "".join(
        f'     <state id_sms="{id_sms}" time="2026-01-05 12:57:{n % 60:02d}" sms="{status}">'
        f"{status}</state>\n"
        for n, id_sms in enumerate(ids)
    )
    return f'<?xml version="1.0" encoding="utf-8" ?>\n<response>\n{states}</response>\n'.encode()


def inspected(broker: EmbeddedBroker, topic: str) -> dict[str, Any]:
    """A configuration with an open endpoint, one that wants a token, and the inspector."""
    config = configuration(
        broker.bootstrap_servers,
        topic,
        inspector={"host": "127.0.0.1", "port": 0},
        kafka={"publish_timeout_seconds": 1},
    )
    brand = {"name": "brand", "path": "/brand", "source": "urn:example:sms:brand"}
    config["endpoints"].append(brand | {"timezone": "UTC", "auth": {"tokens": ["a-s3cret"]}})
    return config


def play(gateway: Gateway, broker: EmbeddedBroker) -> None:
    """Something of everything that the inspector has colours for."""
    gateway.post(document(*range(48210, 48222)))
    gateway.post(document(3230, 3231, status="send"))
    gateway.post(document(*range(48210, 48222)))
    gateway.post(document(3230, "32 31", status="deliver"))
    gateway.post(b'<response>\n  <state id_sms="3232" time="">send</state>\n</respons>\n')
    gateway.post(b"<response/>")
    gateway.post(document(3233), path="/brand?token=wrong")
    gateway.post(document(3233), path="/webhooks")
    mixed = document(3234, 3235, "", status="read")
    broker.freeze()
    try:
        gateway.post(mixed)
    finally:
        broker.thaw()
    gateway.post(mixed)
    gateway.post(
        document(*range(77001, 77031), status="partly_deliver"), path="/brand?token=a-s3cret"
    )
    gateway.post(document(3230, status="read"))
