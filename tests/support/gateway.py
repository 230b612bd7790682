"""The program as its users run it: `sms-bridge serve`, in a process of its own."""

import http.client
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xmltodict
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bridge.demo.child import HOST, Child
from bridge.demo.processes import bridge


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ids(self) -> list[str]:
        """The acknowledged ids; fails on anything but a `<response>`."""
        response = xmltodict.parse(self.body, force_list=("id_sms",))["response"]
        return list(response["id_sms"]) if response else []


def configuration(
    bootstrap_servers: str, topic: str, dead_letter_topic: str | None = None, **sections: Any
) -> dict[str, Any]:
    """A whole configuration on free loopback ports; `sections` are merged into its own."""
    endpoint = {"name": "main", "path": "/webhook", "source": "urn:example:sms:main"}
    base: dict[str, Any] = {
        "server": {"host": HOST, "port": 0},
        "admin": {"host": HOST, "port": 0},
        "kafka": {
            "bootstrap_servers": bootstrap_servers,
            "topic": topic,
            "dead_letter_topic": dead_letter_topic or f"{topic}.rejected",
        },
        "endpoints": [endpoint | {"timezone": "UTC", "auth": "none"}],
        "events": {"type_prefix": "com.example.messaging"},
        "log": {"level": "info", "format": "json"},
    }
    for name, section in sections.items():
        base[name] = base.get(name, {}) | section if isinstance(section, dict) else section
    return base


class Gateway(Child):
    """One run of the program; its ports are read from its log.

    `options` are further ones of `serve`. `prefix` is a command that becomes it, such as `prlimit`
    with its options; `environment` is laid over that of the tests.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        options: Sequence[str] = (),
        wait_ready: bool = True,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="sms-bridge-test-")
        home = Path(self._directory.name)
        self.config_file = home / "bridge.yaml"
        self.config_file.write_text(yaml.safe_dump(dict(config)))
        command = [*prefix, *bridge("serve", "--config", str(self.config_file)), *options]
        super().__init__("the gateway", *command, log=home / "log", environ=environment or {})
        self._wait_ready = wait_ready
        self._addresses: dict[str, str] = {}

    def start(self) -> None:
        """Start it and wait until it listens, and is ready."""
        super().start()
        self.wait_until(self._is_listening, "the gateway listens")
        if self._wait_ready:
            self.wait_until(lambda: self.admin("/readyz").status == 200, "the gateway is ready")

    def __exit__(self, *how: object) -> None:
        if any(how):
            sys.stderr.write(self.output[-5000:])
        super().__exit__(*how)

    def stop(self, seconds: float = 0) -> None:
        """End it at once, if it has not ended by itself, and its files with it."""
        super().stop(seconds)
        self._directory.cleanup()

    @property
    def url(self) -> str:
        return f"http://{self._addresses['server']}/webhook"

    @property
    def server_address(self) -> tuple[str, int]:
        return self._address("server")

    @property
    def admin_address(self) -> tuple[str, int]:
        return self._address("admin")

    def _address(self, listener: str) -> tuple[str, int]:
        host, port = self._addresses[listener].rsplit(":", 1)
        return host.strip("[]"), int(port)

    @property
    def inspector_url(self) -> str:
        return f"http://{self._addresses['inspector']}/"

    def logs(self) -> list[dict[str, Any]]:
        """Every complete line of the log so far; a last word to a person is none."""
        lines = self.log_file.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def post(
        self, body: bytes, *, path: str = "/webhook", headers: Mapping[str, str] | None = None
    ) -> Answer:
        return self._request("server", "POST", path, body, headers or {})

    def admin(self, path: str) -> Answer:
        return self._request("admin", "GET", path)

    def value(self, name: str, **labels: str) -> float:
        """The sum of the series with these labels, without the prefix of their name."""
        text = self.admin("/metrics").body.decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"sms_bridge_{name}" and labels.items() <= sample.labels.items()
        )

    def line(self, event: str, **fields: Any) -> dict[str, Any]:
        """The last line of the log with that event and these fields, once there is one."""

        def found() -> list[dict[str, Any]]:
            named = [line for line in self.logs() if line["event"] == event]
            return [line for line in named if fields.items() <= line.items()]

        self.wait_until(lambda: bool(found()), f"a line {event!r} with {fields}")
        return found()[-1]

    def _request(
        self,
        listener: str,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection(self._addresses[listener], timeout=90)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def _is_listening(self) -> bool:
        for line in self.logs():
            if line["event"] == "listening":
                listeners = ("server", "admin", "inspector")
                self._addresses = {name: line[name] for name in listeners if name in line}
        return bool(self._addresses)
