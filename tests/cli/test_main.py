import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bridge import __version__
from bridge.cli.main import COMMANDS, main
from bridge.versions import VERSIONS, expat_warning

ROOT = Path(__file__).parents[2]
CONFIG = """\
server: {{host: 127.0.0.1, port: {port}}}
admin: {{host: 127.0.0.1, port: 0}}
kafka: {{bootstrap_servers: "127.0.0.1:1"}}
endpoints:
  - {{name: main, path: /webhook, source: "urn:test", timezone: UTC, auth: none}}
  - {{name: shut, path: /shut, source: "urn:shut", timezone: UTC, auth: {{allow: ["::1"]}}}}
events: {{type_prefix: com.example}}
"""


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, arguments, **options)


def popen(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "bridge", *arguments], stderr=subprocess.PIPE, text=True
    )


def config(directory: Path, port: int = 0) -> str:
    file = directory / "bridge.yaml"
    file.write_text(CONFIG.format(port=port))
    return str(file)


# --- the group ---------------------------------------------------------------------------


def test_the_version_is_the_package_s() -> None:
    assert run("--version").stdout == f"sms-bridge, version {__version__}\n"


def test_help_names_every_command() -> None:
    shown = run("-h").stdout

    for command in ("serve", "demo", "convert", "check", "simulate", "tail", "dead-letters"):
        assert re.search(rf"^  {command} ", shown, re.MULTILINE)


SHOW_MODULES = """
import sys
from bridge.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*sys.modules)
"""


def imported_by(*arguments: str) -> set[str]:
    """The modules that the program, called so, has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW_MODULES, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_serve_imports_nothing_of_the_other_commands(tmp_path: Path) -> None:
    """It ends where it reads its configuration: all that it serves with is imported by then."""
    modules = imported_by("serve", "--config", str(tmp_path / "missing.yaml"))

    assert "bridge.gateway.server" in modules
    assert {name for name in modules if name.startswith("bridge.cli.")} == {
        *("bridge.cli.main", "bridge.cli.common", "bridge.cli.serve")
    }
    others = ("contract", "demo", "inspector", "replay", "simulate", "subscriber")
    assert not modules & {"cloudevents", *(f"bridge.{other}" for other in others)}


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"serve"}))
def test_the_other_commands_do_not_import_the_web_server(command: str) -> None:
    modules = imported_by(command, "--help")

    assert f"bridge.cli.{command.replace('-', '_')}" in modules
    assert not modules & {"starlette", "uvicorn", "bridge.gateway.server"}


@pytest.mark.parametrize("arguments", [["nonsense"], ["tail", "--max", "0"], ["simulate"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("command", ["serve", "check", "tail", "convert"])
def test_a_bad_configuration_ends_with_78_and_every_problem(command: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("server: {port: x}\nkafka: {tpic: a}\n")

    result = run(command, "--config", str(file), input="<response/>")

    assert result.exit_code == 78
    assert result.stdout == ""
    assert f"{file}:1:16: server.port: must be a whole number" in result.stderr
    assert f"{file}:2:9: kafka.tpic: unknown key" in result.stderr


def test_the_environment_names_the_configuration(tmp_path: Path) -> None:
    result = run("check", env={"SMS_BRIDGE_CONFIG": config(tmp_path)})

    assert result.exit_code == 0
    assert "bridge.yaml: ok" in result.stdout


def test_no_color_is_honoured() -> None:
    """On a terminal the answer's line is coloured, unless $NO_COLOR says otherwise."""
    body = "<response/>"

    coloured = run("convert", input=body, color=True, env={"NO_COLOR": None})
    plain = run("convert", input=body, color=True, env={"NO_COLOR": "1"})

    assert "\x1b[" in coloured.stdout
    assert "\x1b[" not in plain.stdout
    assert "answer: 200 OK" in plain.stdout


# --- serve -------------------------------------------------------------------------------


def test_serve_warns_of_endpoints_that_are_open_to_everyone(tmp_path: Path) -> None:
    """One warning for each endpoint with `auth: none`; SIGTERM then ends the gateway with 0."""
    gateway = popen("serve", "--config", config(tmp_path))
    with gateway:
        assert gateway.stderr is not None
        lines = []
        for line in gateway.stderr:
            lines.append(json.loads(line))
            if lines[-1]["event"] == "listening":
                gateway.send_signal(signal.SIGTERM)
    warnings = [line for line in lines if "auth is none" in line["event"]]

    assert gateway.returncode == 0
    assert [(line["endpoint"], line["level"]) for line in warnings] == [("main", "warning")]


def test_serve_logs_every_warning_of_check(tmp_path: Path) -> None:
    """The port is taken, so that it ends by itself."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = Path(config(tmp_path, taken.getsockname()[1]))
        text = file.read_text().replace("server: {", "server: {trusted_proxies: ['0.0.0.0/0'], ")
        file.write_text(f"{text}inspector: {{host: 0.0.0.0, port: 0}}\n")
        with popen("serve", "--config", str(file)) as gateway:
            _, stderr = gateway.communicate(timeout=30)
    logged = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    said = [line["event"] for line in logged if line["level"] == "warning"]
    printed = run("check", "--config", str(file)).stderr.splitlines()

    assert len(said) == len(printed) == 3 + (expat_warning() is not None)
    for what, line in zip(said, printed, strict=True):
        assert line.endswith(what)


def test_serve_ends_with_1_where_the_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with popen("serve", "--config", config(tmp_path, port)) as gateway:
            _, stderr = gateway.communicate(timeout=30)

    assert gateway.returncode == 1
    assert f"sms-bridge: cannot listen on 127.0.0.1:{port}" in stderr


def test_serve_begins_its_log_with_the_versions_of_what_runs(tmp_path: Path) -> None:
    """Expat's above all: it reads what strangers send. The port is taken: it ends by itself."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with popen("serve", "--config", config(tmp_path, port)) as gateway:
            _, stderr = gateway.communicate(timeout=30)
    logged = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]

    (line,) = [line for line in logged if line["event"] == "starting"]
    assert {name: line[name] for name in VERSIONS} == VERSIONS
    assert re.fullmatch(r"\d+\.\d+\.\d+", line["expat"])


# --- the configuration -------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "serve", "tail"])
def test_a_missing_configuration_file_says_how_to_name_one_and_to_begin_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """As after an installation, outside of a checkout."""
    monkeypatch.delenv("SMS_BRIDGE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)

    result = run(command)

    assert result.exit_code == 78
    first, hint = result.stderr.splitlines()
    assert first == "config/bridge.yaml: cannot be read: No such file or directory"
    assert "--config" in hint
    assert "$SMS_BRIDGE_CONFIG" in hint
    assert "`sms-bridge schema config --example`" in hint


def test_the_example_is_the_checkout_s_and_a_valid_configuration(tmp_path: Path) -> None:
    """As it is written, for people: with its comments."""
    printed = run("schema", "config", "--example").stdout
    file = tmp_path / "bridge.yaml"
    file.write_text(printed, encoding="utf-8")

    assert printed == (ROOT / "config/bridge.yaml").read_text(encoding="utf-8")
    assert run("check", "--no-env", "--config", str(file)).exit_code == 0


def test_only_the_configuration_has_an_example() -> None:
    result = run("schema", "status", "--example")
    assert result.exit_code == 2
    assert "--example is for config" in result.stderr


# --- simulate ----------------------------------------------------------------------------


@contextmanager
def receiver(listed: Callable[[list[str]], list[str]]) -> Iterator[str]:
    """Listen as a gateway that acknowledges what `listed` makes of each post's ids; the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            ids = listed(re.findall(r'id_sms="(\d+)"', body))
            answer = "".join(f"<id_sms>{i}</id_sms>" for i in ids)
            content = f"<response>{answer}</response>".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/webhook"
        finally:
            server.shutdown()
            thread.join()


def row(table: str, name: str) -> str:
    found = re.search(rf"^{name} +(.*)$", table, re.MULTILINE)
    assert found is not None, table
    return found[1]


def test_simulate_ends_with_0_once_all_is_acknowledged(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with receiver(lambda ids: ids) as url:
        result = run(
            *("simulate", "--url", url, "--messages", "25", "--per-post", "10"),
            *("--seed", "3", "--report", str(report)),
        )

    assert result.exit_code == 0
    assert row(result.stdout, "sent") == "25 of 25 states"
    assert row(result.stdout, "acknowledged") == "25"
    assert row(result.stdout, "unacknowledged") == "0"
    assert row(result.stdout, "answers") == "200: 3"
    assert re.fullmatch(r"p50 .* ms, p99 .* ms, max .* ms", row(result.stdout, "latency"))
    assert json.loads(report.read_text())["acknowledged_ids"][0] == "3000000001"
    assert "\x1b" not in result.output


def test_simulate_retries_what_was_not_listed() -> None:
    seen: set[str] = set()

    def at_second_sight(ids: list[str]) -> list[str]:
        again = [i for i in ids if i in seen]
        seen.update(ids)
        return again

    with receiver(at_second_sight) as url:
        result = run("simulate", "--url", url, "--messages", "7", "--retry-seconds", "0")

    assert result.exit_code == 0
    assert row(result.stdout, "retried") == "7"


def test_simulate_ends_with_1_where_a_state_stays_unacknowledged() -> None:
    with receiver(lambda ids: ids[1:]) as url:
        result = run(
            *("simulate", "--url", url, "--messages", "4"),
            *("--retry-seconds", "0", "--attempts", "1"),
        )

    assert result.exit_code == 1
    assert row(result.stdout, "unacknowledged") == "1"


def test_simulate_ends_with_1_where_a_foreign_id_is_listed() -> None:
    with receiver(lambda ids: [*ids, "666"]) as url:
        result = run("simulate", "--url", url, "--messages", "1")

    assert result.exit_code == 1
    assert row(result.stdout, "foreign ids") == "1: 666"


def test_simulate_takes_an_impossible_plan_for_wrong_usage() -> None:
    result = run("simulate", "--url", "http://127.0.0.1:1/", "--messages", "0")

    assert result.exit_code == 2
    assert "messages is not" in result.stderr


def test_simulate_interrupted_says_how_far_it_came() -> None:
    """The first post is answered, the second comes in a thousand seconds: SIGINT comes before."""
    answered = threading.Event()

    def listed(ids: list[str]) -> list[str]:
        answered.set()
        return ids

    with receiver(listed) as url:
        provider = subprocess.Popen(
            [
                *(sys.executable, "-m", "bridge", "simulate", "--url", url, "--messages", "2"),
                *("--per-post", "1", "--rate", "0.001"),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "NO_COLOR": "1"},
        )
        assert answered.wait(30)
        provider.send_signal(signal.SIGINT)
        stdout, _ = provider.communicate(timeout=30)

    assert provider.returncode == 130
    assert stdout.startswith("interrupted")
