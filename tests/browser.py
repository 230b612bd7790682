"""Takes the screenshots of docs/ anew: `python -m tests.browser`."""

import sys
from pathlib import Path

from bridge.demo.embedded_broker import EmbeddedBroker
from tests.support.browser import Watched, inspected, launched_chromium, play
from tests.support.gateway import Gateway

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Take the screenshots."""
    with (
        EmbeddedBroker("sms.status", "sms.status.rejected") as broker,
        Gateway(inspected(broker, "sms.status")) as gateway,
        launched_chromium() as browser,
    ):
        play(gateway, broker)
        for scheme, path, name in (
            ("light", "", "inspector-documents.png"),
            ("light", "documents/8", "inspector-document.png"),
            ("dark", "", "inspector-dark.png"),
        ):
            watched = Watched(browser, color_scheme=scheme)
            watched.page.goto(gateway.inspector_url + path)
            if not path:
                watched.page.wait_for_selector("#live[data-state=on]")
                watched.page.wait_for_function("document.querySelector('.refused')")
            if not path and scheme == "light":
                watched.page.click(".refused summary")
            watched.page.screenshot(path=DOCS / name, full_page=True, animations="disabled")
            watched.check()
            watched.close()
            sys.stdout.write(f"wrote docs/{name}\n")


if __name__ == "__main__":
    main()
