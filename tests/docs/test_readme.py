"""The README is held against the program: every command, every block, every table."""

import json
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest
from click.testing import CliRunner

from bridge.cli import main as cli
from bridge.config import loader as config
from bridge.demo.child import Child, free_ports
from bridge.errors import ConfigError
from bridge.event import status_message
from bridge.model import MEANINGS, Route
from bridge.parse import parse
from tests.support.commands import command, names, options

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def rows(header: str) -> list[list[str]]:
    """The cells of the table that begins with this header."""
    table = README.split(f"| {header} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_yaml_block_is_a_valid_configuration(block: str) -> None:
    assert config.parse(block, file="README.md", environ={"WEBHOOK_TOKEN": "t"}).endpoints


def test_every_make_target_that_is_named_exists() -> None:
    named = set(re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE))
    assert named >= {"demo", "test", "run"}
    assert named <= set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE))


def commands() -> list[list[str]]:
    """Each call of the program in a shell block, or in the text."""
    calls = re.findall(r"^(?:\$ )?\.venv/bin/sms-bridge (.+)$", README, re.MULTILINE)
    calls += re.findall(r"`(?:\.venv/bin/)?sms-bridge ([^`]+)`", README)
    return [shlex.split(re.sub(r"\[(FILE)\]", r"\1", call)) for call in calls]


@pytest.mark.parametrize("call", commands(), ids=" ".join)
def test_every_command_and_option_exists(call: list[str]) -> None:
    called = command(*call[: 2 if call[0] == "dead-letters" else 1])
    named = {argument for argument in call if argument.startswith("--")}
    assert named <= options(called)


def test_the_table_of_commands_is_complete() -> None:
    named = {words(row[0])[0].split()[1] for row in rows("command | what it does")}
    assert named == names(cli.main)
    letters = [words(row[0])[0].split() for row in rows("command | what it does")]
    commands_of_letters = {call[2] for call in letters if call[1] == "dead-letters"}
    assert commands_of_letters == names(command("dead-letters"))


def test_convert_of_the_provider_s_sample_works_as_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (call,) = [
        call for call in commands() if call[0] == "convert" and len(call) > 1 and call[1] != "FILE"
    ]
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(cli.main, call)
    assert result.exit_code == 0
    assert "com.example.messaging" in result.output


def test_the_example_of_a_wrong_configuration_is_the_program_s_own_words() -> None:
    (shown,) = blocks("console")
    _, text, said = re.split(r"^\$ .*\n", shown, flags=re.MULTILINE)
    with pytest.raises(ConfigError) as raised:
        config.parse(text, file="broken.yaml", environ={})
    assert str(raised.value) == said.strip()


def test_the_example_of_an_event_is_what_the_program_writes() -> None:
    (block,) = blocks("json")
    expected = json.loads(block)
    body = (
        b'<response><state id_sms="3234" time="2011-01-01 12:57:46" sms="deliver" viber="read">'
        b"read</state></response>"
    )
    (state,) = parse(body, max_states=1).states
    route = Route(
        "main",
        expected["source"],
        ZoneInfo("Europe/Kyiv"),
        "t",
        None,
        "com.example.messaging",
        "structured",
    )
    received = datetime(2026, 11, 23, 9, 15, 2, 123456, tzinfo=UTC)
    assert orjson.loads(status_message(route, state, received).value) == expected  # type: ignore[arg-type]


def test_the_table_of_statuses_is_the_program_s() -> None:
    said = {
        word: (outcome.strip("`"), final, rank)
        for status, outcome, final, rank in rows("`status` | `outcome` | `final` | `rank`")
        for word in words(status)
    }
    assert said == {
        word: (meaning.outcome, str(meaning.final).lower(), str(meaning.rank))
        for word, meaning in MEANINGS.items()
    }


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_a_page_with_a_bare_command_says_where_the_program_is(page: Path) -> None:
    """Who reads it in a checkout has no such program on the PATH; in a pod there is one."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    bare = [b for b in blocks if re.search(r"^(?:\$ )?\s*sms-bridge ", b, re.MULTILINE)]
    outside = [block for block in bare if not re.search(r"kubectl|docker|helm", block)]
    assert not outside or "`.venv/bin/sms-bridge`" in text


@pytest.mark.embedded
def test_the_commands_after_make_run_work_as_typed(tmp_path: Path) -> None:
    """In another terminal, with the ports and the place that make gives the demo."""
    run = re.search(
        r"^run:.*\n\t@\$\(VENV\)/bin/sms-bridge (.*) \$\(ARGS\)$", MAKEFILE, re.MULTILINE
    )
    assert run is not None
    port = free_ports(1)[0]

    def here(text: str) -> str:
        return text.replace(".cache/run", str(tmp_path)).replace("8080", str(port))

    after = README.split("make run\n", 1)[1].split("```sh\n", 1)[1].split("```", 1)[0].splitlines()
    simulate = next(
        line for line in README.splitlines() if "sms-bridge simulate --url http" in line
    )
    log = tmp_path / "demo.log"
    call = [*shlex.split(here(run[1])), "--messages", "20"]
    with Child("demo", sys.executable, "-m", "bridge", *call, log=log) as demo:
        demo.wait_until(lambda: "Still running" in demo.output, "the demo's end", 120)
        for line in map(here, [*after, simulate]):
            command = line.replace(".venv/bin/sms-bridge", f"{sys.executable} -m bridge")
            done = subprocess.run(
                command, shell=True, capture_output=True, text=True, check=False, cwd=ROOT
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    first = demo.output.splitlines()[:5]
    assert [line.split()[0] for line in first] == [
        *("Kafka", "gateway", "health", "inspector", "settings")
    ]
    assert f"http://127.0.0.1:{port}/webhook" in first[1]
