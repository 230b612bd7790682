"""The page on reconciling against the program: its commands, its lines, its numbers."""

import re
import shlex
from pathlib import Path

import pytest

from bridge.cli.reconcile import rows
from bridge.config import loader as config
from bridge.reconcile import asking
from bridge.reconcile.report import Report
from tests.support.commands import command, options

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs/reconcile.md", ROOT / "docs/runbook.md"]
PAGE = PAGES[0].read_text("utf-8")
WORDS = {3: "three", 7: "seven"}
FIRST = asking.Pace().pause_seconds(1)
LAST = asking.Pace().pause_seconds(asking.ATTEMPTS - 1)
PROSE = " ".join(PAGE.split())


def commands() -> list[list[str]]:
    text = "\n".join(page.read_text("utf-8") for page in PAGES).replace("\\\n", " ")
    calls = re.findall(r"^ *sms-bridge ((?:reconcile|check).*)$", text, re.MULTILINE)
    calls += re.findall(r"`sms-bridge ((?:reconcile|check)[^`]*)`", text)
    return [shlex.split(call.partition(" <")[0]) for call in calls]


@pytest.mark.parametrize("call", commands(), ids=" ".join)
def test_every_command_on_the_pages_can_be_called(call: list[str]) -> None:
    called = command(call[0])
    assert {each for each in call if each.startswith("--")} <= options(called)
    if call[0] == "reconcile" and len(call) > 1:
        known = [each for each in call[1:] if not each.endswith(".log")]
        called.make_context("reconcile", known)


def test_the_table_of_lines_is_that_of_the_report() -> None:
    section = PAGE.partition("| line |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    full = Report(
        unknown=["1"],
        unanswered=["1"],
        unpublished=["1"],
        rejected=["1"],
        foreign=["1"],
        invalid=["?"],
        unreadable_lines=[1],
        left_out={"main": 1},
        not_asked=1,
        missing_ids=1,
        dropped_lines=1,
    )
    assert named == [name for name, value in rows(full) if value]


@pytest.mark.parametrize(
    "said",
    [
        f"{asking.BATCH} messages a request (`--batch`)",
        f"and {asking.REQUESTS_PER_SECOND:g} requests a second (`--rate`) by default",
        f"The pauses double from {FIRST:g} to {LAST:g} seconds",
        f"after {WORDS[asking.ATTEMPTS]} failures",
        f"{WORDS[asking.ASKS]} times in all",
    ],
)
def test_the_numbers_on_the_page_are_the_program_s(said: str) -> None:
    assert said in PROSE


def test_the_endpoint_on_the_page_is_a_valid_one() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    whole = f"{block}events: {{type_prefix: com.example}}\n"
    parsed = config.parse(whole, file="reconcile.md", environ={"PROVIDER_TOKEN": "t"})
    assert parsed.endpoints[0].provider is not None
