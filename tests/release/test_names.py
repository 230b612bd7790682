"""Nothing tells anybody to install by a name that is not the project's on the public index."""

import re
from pathlib import Path

from tests.release.artifacts import ROOT, tracked

INSTALLED = r"(?<![./\w-])sms[-_]status[-_]bridge(?!-)"  # no path, and no file's name
BY_NAME = re.compile(rf"\b(?:pipx?|uv|uvx)\b[^\n]*\binstall\b[^\n]*{INSTALLED}")
SEARCHED = {".md", ".py", ".yaml", ".yml", ".toml", ".txt", ".json", ".tpl", ""}


def found(text: str) -> list[str]:
    """The lines that install by name, other than from a directory of built wheels."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [line for line in lines if BY_NAME.search(line) and "--no-index" not in line]


def test_what_is_looked_for_is_found() -> None:
    """The search itself: as the documents and the program once said it."""
    quoted = "pip install 'sms-status-bridge[otel]'"
    assert found(f"opentelemetry is not installed: {quoted}")
    assert found("python -m pip install \\\n    --upgrade sms-status-bridge")
    assert not found("pip install --no-deps ./sms_status_bridge-0.1.0-py3-none-any.whl")
    assert not found("pip install --no-index --find-links /dist sms-status-bridge")


def test_nothing_says_to_install_it_by_name() -> None:
    """Whoever registered that name would be installed."""
    here = Path(__file__).relative_to(ROOT)
    files = [path for path in tracked() if path.suffix in SEARCHED and path != here]
    assert len(files) > 100
    assert {
        str(f): lines for f in files if (lines := found((ROOT / f).read_text("utf-8", "replace")))
    } == {}
