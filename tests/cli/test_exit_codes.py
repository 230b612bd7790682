"""Exit codes, of every command: 0 done, 1 failed, 2 usage, 78 bad configuration.

130, of what is interrupted, is in test_interrupts.py.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli.main import COMMANDS, main

# Kafka and provider refuse connections at this port; no command waits for long.
CONFIG = """\
server: {{host: 127.0.0.1, port: {taken}}}
admin: {{host: 127.0.0.1, port: 0}}
kafka: {{bootstrap_servers: "127.0.0.1:9"}}
endpoints:
  - name: main
    path: /webhook
    source: urn:test
    timezone: UTC
    auth: none
    provider: {{url: "http://127.0.0.1:9/xml", token: t}}
events: {{type_prefix: com.example}}
"""
DONE = {
    "check": ["check", "--config", "{good}"],
    "convert": ["convert", "{body}", "--config", "{good}"],
    "dead-letters": ["dead-letters", "--help"],
    "demo": ["demo", "--help"],
    "find": ["find", "--help"],
    "reconcile": ["reconcile", "--help"],
    "schema": ["schema", "status"],
    "serve": ["serve", "--help"],
    "simulate": ["simulate", "--help"],
    "tail": ["tail", "--help"],
}
# Where Kafka, the gateway or the provider is away, a port is taken, or a body is none.
FAILED = {
    "check": ["check", "--config", "{good}", "--connect"],
    "check --provider": ["check", "--config", "{good}", "--provider"],
    "convert": ["convert", "{good}", "--config", "{good}"],
    "dead-letters list": ["dead-letters", "list", "--config", "{good}"],
    "dead-letters replay": ["dead-letters", "replay", "--config", "{good}"],
    "demo": ["demo", "--directory", "{good}/below-a-file"],
    "find": ["find", "42", "--config", "{good}"],
    "reconcile": ["reconcile", "{ids}", "--config", "{good}"],
    "serve": ["serve", "--config", "{good}"],
    "simulate": [
        *("simulate", "--url", "http://127.0.0.1:9/", "--messages", "1"),
        *("--attempts", "1", "--retry-seconds", "0"),
    ],
    "tail": ["tail", "--config", "{good}"],
}
USAGE = {
    **{f"{name} --nonsense": [name, "--nonsense"] for name in COMMANDS},
    "nothing of the kind": ["nonsense"],
    "check --no-env --connect": ["check", "--config", "{good}", "--no-env", "--connect"],
    "convert --endpoint": ["convert", "{body}", "--config", "{good}", "--endpoint", "other"],
    "convert of no file": ["convert", "{good}-missing"],
    "dead-letters replay --since": ["dead-letters", "replay", "--since", "soon"],
    "demo --messages": ["demo", "--messages", "0"],
    "demo --port": ["demo", "--port", "65535"],
    "find of nothing": ["find"],
    "find --since": ["find", "42", "--since", "soon"],
    "reconcile of nothing": ["reconcile", "--config", "{good}"],
    "reconcile --since": ["reconcile", "{ids}", "--since", "7d"],
    "schema": ["schema"],
    "simulate": ["simulate", "--messages", "1"],
    "simulate --api-timezone": [
        *("simulate", "--messages", "1"),
        *("--serve-api", "127.0.0.1:0", "--api-timezone", "Mars"),
    ],
    "tail --max": ["tail", "--max", "0"],
    "tail --since": ["tail", "--since", "soon"],
}
BAD_CONFIGURATION = {
    "check": ["check", "--config", "{bad}"],
    "convert": ["convert", "{body}", "--config", "{bad}"],
    "dead-letters list": ["dead-letters", "list", "--config", "{bad}"],
    "dead-letters replay": ["dead-letters", "replay", "--config", "{bad}"],
    "find": ["find", "42", "--config", "{bad}"],
    "reconcile": ["reconcile", "{ids}", "--config", "{bad}"],
    "serve": ["serve", "--config", "{bad}"],
    "tail": ["tail", "--config", "{bad}"],
}
NO_CONFIGURATION = {"demo", "schema", "simulate"}  # of theirs, that is


@pytest.fixture
def files(tmp_path: Path) -> Iterator[dict[str, Path]]:
    files = {name: tmp_path / name for name in ("good", "bad", "body", "ids")}
    files["bad"].write_text("kafka: {}\n")
    files["body"].write_text('<response><state id_sms="42" time="">send</state></response>')
    files["ids"].write_text("42\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        files["good"].write_text(CONFIG.format(taken=taken.getsockname()[1]))
        yield files


TABLE = [
    pytest.param(call, status, id=f"{status} {name}")
    for status, calls in ((0, DONE), (1, FAILED), (2, USAGE), (78, BAD_CONFIGURATION))
    for name, call in calls.items()
]


@pytest.mark.parametrize(("call", "status"), TABLE)
def test_a_command_ends_with_the_documented_status(
    call: list[str], status: int, files: dict[str, Path]
) -> None:
    """What fails says why, and has no traceback."""
    result = CliRunner().invoke(main, [argument.format(**files) for argument in call])

    assert result.exit_code == status, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.output
    assert "Traceback" not in result.output


def test_the_table_has_every_command() -> None:
    """Each with each status that it can end with."""
    assert {call[0] for call in DONE.values()} == set(COMMANDS)
    assert {call[0] for call in FAILED.values()} == {*COMMANDS} - {"schema"}
    assert {call[0] for call in USAGE.values()} >= set(COMMANDS)
    assert {call[0] for call in BAD_CONFIGURATION.values()} == {*COMMANDS} - NO_CONFIGURATION
