"""The page on hosts is held against the program, and against the programs that read its files."""

import http.client
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from trustme import CA

from bridge import __version__
from bridge.config.loader import parse
from bridge.config.settings import Settings
from bridge.demo.embedded_broker import EmbeddedBroker
from tests.helm.chart import fenced
from tests.helm.readings import check_of
from tests.support.front_proxies import FrontProxy, Servers, is_nginx
from tests.support.gateway import Gateway, configuration
from tests.support.senders import LISTED, document

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/deploy-hosts.md").read_text(encoding="utf-8")
COMPOSE = ROOT / "compose"
SECURITY_THRESHOLD = 15
"""Tenths of systemd's exposure level: 0 is closed, 100 is open."""


def block(language: str) -> str:
    """The page's only block in a language."""
    (text,) = fenced(PAGE, language)
    return text


def command(word: str) -> str:
    """The page's only line of a shell block that has a word."""
    (line,) = [line for text in fenced(PAGE, "sh") for line in text.splitlines() if word in line]
    return line


UNIT = block("ini")


def directive(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return str(value)


def settings_of(text: str) -> Settings:
    return parse(text, file="f", environ={}, placeholders=True)


CONFIGURATIONS = {
    "service": block("yaml"),
    "compose": (COMPOSE / "bridge.yaml").read_text(encoding="utf-8"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_program_takes_the_configuration(name: str, tmp_path: Path) -> None:
    code, output = check_of(CONFIGURATIONS[name], tmp_path)
    assert code == 0, output
    assert "anyone who can reach it can post" not in output


# --- the service -------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit as a file, with the program that is installed here."""
    file = tmp_path / "sms-bridge.service"
    here = str(Path(sys.executable).with_name("sms-bridge"))
    file.write_text(UNIT.replace("/opt/sms-bridge/bin/sms-bridge", here), encoding="utf-8")
    return file


def test_systemd_finds_nothing_wrong_with_the_unit(systemd_analyze: str, unit: Path) -> None:
    said = run(systemd_analyze, "verify", unit)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    unit.write_text(UNIT.replace("RestartSec=2", "RestartSek=2"), encoding="utf-8")
    assert "RestartSek" in run(systemd_analyze, "verify", unit).stderr


def test_systemd_calls_the_unit_well_closed(systemd_analyze: str, unit: Path) -> None:
    threshold = f"--threshold={SECURITY_THRESHOLD}"
    said = run(systemd_analyze, "security", "--offline=yes", threshold, unit)
    assert said.returncode == 0, said.stdout
    unit.write_text(UNIT.replace("SystemCallFilter=@system-service", ""), encoding="utf-8")
    assert run(systemd_analyze, "security", "--offline=yes", threshold, unit).returncode != 0


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_unit_hands_over_the_file_that_the_configuration_reads() -> None:
    name, _, source = directive("LoadCredential").partition(":")
    assert "${file:/run/credentials/sms-bridge.service/" + name + "}" in CONFIGURATIONS["service"]
    assert command("openssl rand -hex 24 |").endswith(source)
    assert directive("ExecStart").endswith("--config /etc/sms-bridge/bridge.yaml")
    assert directive("ExecReload") == "/bin/kill -HUP $MAINPID"


def test_nothing_is_killed_before_it_is_done() -> None:
    """The service, the container, and the bridge of the compose file."""
    run_line = command("docker run")
    stop = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]["bridge"]
    given = {
        float(directive("TimeoutStopSec")),
        float(option(run_line, "--stop-timeout")),
        float(stop["stop_grace_period"].removesuffix("s")),
    }
    (seconds,) = given
    for text in CONFIGURATIONS.values():
        server = settings_of(text).server
        assert seconds >= server.drain_delay_seconds + server.shutdown_grace_seconds + 5


# --- containers --------------------------------------------------------------------------


def option(line: str, name: str) -> str:
    words = shlex.split(line)
    return words[words.index(name) + 1]


def test_a_container_is_started_by_one_line_that_docker_knows() -> None:
    line = command("docker run")
    assert line.endswith(f"/sms-status-bridge:{__version__}")
    assert "127.0.0.1:8081:8081" in line
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker: its options are not looked at")
    known = run(docker, "run", "--help").stdout
    assert [name for name in re.findall(r"--[a-z-]+", line) if name not in known] == []


def project(compose: str, *files: Path) -> dict[str, Any]:
    """What `docker compose` makes of the files."""
    environment = {**os.environ, "WEBHOOK_TOKEN": "a-token"}
    done = subprocess.run(
        [compose, *files], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode != 0:
        raise ValueError(done.stderr)
    return dict(json.loads(done.stdout))


def test_the_compose_file_is_one(compose: str) -> None:
    """With every file that it mounts, but for the one that a command writes."""
    services = project(compose, COMPOSE / "compose.yaml")["services"]
    assert set(services) == {"kafka", "bridge", "prometheus", "grafana"}
    assert {name for name in services if services[name].get("profiles")} == {
        "prometheus",
        "grafana",
    }
    mounts = [v["source"] for s in services.values() for v in s["volumes"] if v["type"] == "bind"]
    assert [m for m in mounts if not Path(m).is_file()] == [str(COMPOSE / "alerts.yaml")]
    assert "> compose/alerts.yaml" in command("printf 'groups")
    ports = [port for s in services.values() for port in s.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    image = services["bridge"]["image"]
    assert image.endswith(f":{__version__}")


def test_a_wrong_compose_file_is_refused(compose: str, tmp_path: Path) -> None:
    """What the test above would find."""
    text = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
    file = tmp_path / "compose.yaml"
    file.write_text(text.replace("read_only: true", "read_onyl: true"), encoding="utf-8")
    with pytest.raises(ValueError, match="read_onyl"):
        project(compose, file)


def test_the_bridge_of_the_compose_file_has_its_brokers_and_its_token(compose: str) -> None:
    services = project(compose, COMPOSE / "compose.yaml")["services"]
    settings = settings_of(CONFIGURATIONS["compose"])
    kafka = services["kafka"]["environment"]
    (server,) = settings.kafka.bootstrap_servers
    assert kafka["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{server}"
    assert settings.kafka.create_topics.replication_factor == 1
    references = set(re.findall(r"\$\{(\w+)\}", CONFIGURATIONS["compose"]))
    assert references == set(services["bridge"]["environment"])


def test_prometheus_takes_the_alerts_that_the_command_writes(promtool: str, tmp_path: Path) -> None:
    for name in ("prometheus.yaml",):
        shutil.copy(COMPOSE / name, tmp_path)
    line = command("printf 'groups").replace("compose/alerts.yaml", str(tmp_path / "alerts.yaml"))
    subprocess.run(["/bin/sh", "-ec", line], cwd=ROOT, check=True, timeout=60)
    said = run(promtool, "check", "config", tmp_path / "prometheus.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    rules = (tmp_path / "alerts.yaml").read_text(encoding="utf-8")
    assert "@" not in rules
    scraped = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())["scrape_configs"][0]
    assert f'job="{scraped["job_name"]}"' in rules
    assert f'namespace="{scraped["static_configs"][0]["labels"]["namespace"]}"' in rules


# --- proxies -----------------------------------------------------------------------------

PROVIDER, STRANGER = "127.0.0.5", "127.0.0.6"
TOKEN = "a-token-for-tests"
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Front:
    """A gateway with a proxy before it that has the page's own configuration, and TLS."""

    gateway: Gateway
    proxy: FrontProxy
    context: ssl.SSLContext

    def post(self, source: str, path: str, body: bytes, **headers: str) -> tuple[int, str, bytes]:
        """Status, type and body of the answer."""
        connection = http.client.HTTPSConnection(
            *self.proxy.address, context=self.context, source_address=(source, 0), timeout=30
        )
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        found = answer.status, answer.headers["Content-Type"], answer.read()
        connection.close()
        return found


def of_the_page(program: str, gateway: Gateway, ca: CA) -> Servers:
    """The page's block, with this machine's addresses and files."""
    cert = ca.issue_cert("127.0.0.1")
    text = block("nginx" if is_nginx(program) else "haproxy")

    def servers(home: Path, front: str) -> str:
        cert.private_key_and_cert_chain_pem.write_to_path(home / "both.pem")
        replaced = {
            "    listen [::]:443 ssl;\n": "",
            "listen 443 ssl": f"listen {front} ssl",
            "bind :443": f"bind {front}",
            "127.0.0.1:8080": "{}:{}".format(*gateway.server_address),
            "port 8081": f"port {gateway.admin_address[1]}",
            "/etc/ssl/statuses.example.com/fullchain.pem": f"{home}/both.pem",
            "/etc/ssl/statuses.example.com/privkey.pem": f"{home}/both.pem",
            "/etc/haproxy/certs/statuses.example.com.pem": f"{home}/both.pem",
            "/var/log/nginx": str(home),
        }
        found = text
        for here, there in replaced.items():
            found = found.replace(here, there)
        return found

    return servers


@pytest.fixture(scope="module", params=["haproxy", "nginx"])
def front(request: pytest.FixtureRequest, new_embedded: type[EmbeddedBroker]) -> Iterator[Front]:
    program = request.getfixturevalue(request.param)
    ca = CA()
    context = ssl.create_default_context()
    ca.configure_trust(context)
    endpoint = {"source": "urn:example:sms:main", "timezone": "UTC"}
    endpoints = [
        endpoint | {"name": "allowed", "path": "/allowed", "auth": {"allow": [PROVIDER]}},
        endpoint | {"name": "token", "path": "/token", "auth": {"tokens": [TOKEN]}},
    ]
    with new_embedded("hosts", "hosts.rejected") as broker:
        config = configuration(
            broker.bootstrap_servers,
            "hosts",
            server=settings_of(CONFIGURATIONS["service"]).server.model_dump(
                include={"trusted_proxies"}
            ),
            endpoints=endpoints,
        )
        with Gateway(config) as gateway:
            servers = of_the_page(program, gateway, ca)
            with FrontProxy(program, servers) as proxy:
                yield Front(gateway, proxy, context)


def test_a_status_arrives_over_tls(front: Front) -> None:
    status, kind, body = front.post(PROVIDER, f"/token?token={TOKEN}", document("1"))
    assert (status, kind) == (200, "text/xml; charset=utf-8")
    assert LISTED.findall(body) == [b"1"]


def test_the_bridge_knows_the_sender_s_address_and_believes_no_claim(front: Front) -> None:
    claim = {"X-Forwarded-For": PROVIDER}
    assert front.post(PROVIDER, "/allowed", document("2"))[0] == 200
    assert front.post(STRANGER, "/allowed", document("2"))[0] == 403
    assert front.post(STRANGER, "/allowed", document("2"), **claim)[0] == 403


def test_what_the_bridge_reads_passes_and_it_answers_itself_what_is_too_large(
    front: Front,
) -> None:
    """As the page's own look from outside has it: with nothing but zeros, which are no document."""
    (size,) = re.findall(r"head -c (\d+)", command("head -c"))
    assert 3.8 * MIB < int(size) < 4 * MIB
    url = f"/token?token={TOKEN}"
    assert front.post(PROVIDER, url, bytes(int(size)))[:2] == (400, "application/problem+xml")
    assert front.post(PROVIDER, url, bytes(5 * MIB))[:2] == (413, "application/problem+xml")
    assert "`400 application/problem+xml` is the bridge's own answer" in PAGE


def test_no_log_of_the_proxy_has_the_token(front: Front) -> None:
    """Not even where it says that something was too large."""
    front.post(PROVIDER, f"/token?token={TOKEN}", document("3"))
    with suppress(OSError):  # refused while it is being sent
        front.post(PROVIDER, f"/token?token={TOKEN}", bytes(9 * MIB))
    logs = [f for f in front.proxy.home.rglob("*") if f.suffix == ".log" or f.name == "log"]
    text = "".join(file.read_text(errors="replace") for file in logs)
    assert "POST" in text
    assert "/token" in text
    assert TOKEN not in text


NUMBERS = {
    "nginx": ("client_body_timeout", "proxy_read_timeout", "keepalive_timeout"),
    "haproxy": ("timeout client", "timeout server", "timeout http-keep-alive"),
    "caddyfile": (None, "response_header_timeout", "keepalive"),
}
"""What each calls its patience with a body, with the bridge, and with idle connections."""


@pytest.mark.parametrize("name", NUMBERS)
def test_timeouts_of_the_proxies_fit_those_of_the_bridge(name: str) -> None:
    settings = settings_of(CONFIGURATIONS["service"])
    server, text = settings.server, block(name)
    body, answer, idle = (
        int(re.findall(rf"{word} (\d+)s", text)[0]) if word else None for word in NUMBERS[name]
    )
    assert body is None or body > server.body_timeout_seconds
    assert answer is not None
    assert answer > server.body_timeout_seconds + settings.kafka.publish_timeout_seconds
    assert idle is not None
    assert idle < server.keep_alive_seconds
    for size in re.findall(r"(?:client_max_body_size|max_size) (\d+)M?i?[mB]", text):
        assert int(size) * MIB > server.max_body_bytes


def test_the_table_has_the_bridge_s_own_numbers() -> None:
    settings = settings_of(CONFIGURATIONS["service"])
    server = settings.server
    for name in ("body_timeout_seconds", "keep_alive_seconds"):
        assert f"`{name}` ({getattr(server, name)})" in PAGE.replace(".0", "")
    assert f"`kafka.publish_timeout_seconds` ({settings.kafka.publish_timeout_seconds:g})" in PAGE
    assert f"`server.max_body_bytes` ({server.max_body_bytes // MIB} MiB)" in PAGE


def test_every_link_leads_somewhere() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
