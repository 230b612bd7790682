"""The wheel, installed as README says into an empty environment, away from the checkout."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge import __version__
from bridge.demo.child import wait_until
from tests.release.artifacts import ROOT

STOP_SECONDS = 30.0
BODY = '<response><state id_sms="1" time="2026-11-23 10:00:00">DELIVERED</state></response>'
CONFIGURATION = """\
server: {host: 127.0.0.1, port: 0}
admin: {host: 127.0.0.1, port: 0}
kafka: {bootstrap_servers: "127.0.0.1:1"}
endpoints:
  - {name: main, path: /webhook, source: "urn:test", timezone: UTC, auth: {allow: [127.0.0.1]}}
events: {type_prefix: com.example}
"""


def installed(wheel: Path, directory: Path) -> Path:
    """The interpreter of a new environment with the pinned requirements and the wheel, no pip."""
    python = directory / "bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python)]
    pip += ["install", "--no-deps"]
    requirements = ROOT / "requirements.txt"
    subprocess.run([*pip, "--require-hashes", "--requirement", requirements], check=True)
    subprocess.run([*pip, "--no-index", wheel], check=True)
    return python


def tried(python: Path, directory: Path) -> Iterator[str]:
    """Run what it has, in an empty directory: a line for each thing that it does as it should."""
    program = [python.with_name("sms-bridge")]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    def run(*arguments: str, status: int = 0, stdin: str = "") -> str:
        done = subprocess.run(
            [*program, *arguments],
            cwd=directory,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != status:
            raise RuntimeError(f"{arguments}: {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    _expect(f"version {__version__}", run("--version"))
    yield "--version"
    _expect("--config", run("check", status=78))
    yield "check without a configuration says how to name one"
    example = run("schema", "config", "--example")
    _expect((ROOT / "config/bridge.yaml").read_text(encoding="utf-8"), example)
    (directory / "example.yaml").write_text(example, encoding="utf-8")
    run("check", "--no-env", "--config", "example.yaml")
    yield "the example is a valid configuration"
    (directory / "bridge.yaml").write_text(CONFIGURATION, encoding="utf-8")
    _expect('"id_sms"', run("convert", "--config", "bridge.yaml", stdin=BODY))
    yield "convert"
    with _serving([*program, "serve", "--config", "bridge.yaml"], directory, environment) as admin:
        host, _, port = admin.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=STOP_SECONDS)
        connection.request("GET", "/livez")
        _expect("200", str(connection.getresponse().status))
        connection.close()
    yield "serve answers /livez, and ends with 0 on SIGTERM"


@contextmanager
def _serving(
    command: list[Path | str], directory: Path, environment: dict[str, str]
) -> Iterator[str]:
    log = directory / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=directory, env=environment, stderr=stderr)
    try:
        wait_until(
            lambda: '"listening"' in log.read_text() or process.poll() is not None,
            "the program listens or ends",
        )
        lines = [json.loads(line) for line in log.read_text().splitlines() if line[:1] == "{"]
        found = [line["admin"] for line in lines if line["event"] == "listening"]
        if not found:
            raise RuntimeError(log.read_text())
        yield found[0]
        process.send_signal(signal.SIGTERM)
        _expect("0", str(process.wait(STOP_SECONDS)))
    finally:
        process.kill()
        process.wait()


def _expect(what: str, text: str) -> None:
    if what not in text:
        raise RuntimeError(f"{what!r} is not in {text!r}")
