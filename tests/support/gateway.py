"""The program as its users run it: `sms-bridge serve`, in a process of its own."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import xmltodict
import yaml

from tests.support.brokers import wait_until

HOST = "127.0.0.1"


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


class Gateway:
    """One run of the program; its ports are read from its log.

    `prefix` is a command that becomes it, such as `prlimit` with its options; `environment` is
    laid over that of the tests.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        wait_ready: bool = True,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = {**os.environ, **(environment or {})}
        self._directory = tempfile.TemporaryDirectory(prefix="sms-bridge-test-")
        self._log = Path(self._directory.name) / "log"
        self._config = Path(self._directory.name) / "bridge.yaml"
        self._config.write_text(yaml.safe_dump(dict(config)))
        self._wait_ready = wait_ready
        self._prefix = prefix
        self._addresses: dict[str, str] = {}
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *self._prefix,
                    *(sys.executable, "-m", "bridge", "serve", "--config", str(self._config)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )
        try:
            wait_until(self._is_listening, "the gateway listens")
            if self._wait_ready:
                wait_until(lambda: self.admin("/readyz").status == 200, "the gateway is ready")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            sys.stderr.write(self._log.read_text()[-5000:])
        self.stop()

    def stop(self) -> None:
        """End it at once, if it has not ended by itself, and its files with it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._directory.cleanup()

    @property
    def url(self) -> str:
        return f"http://{self._addresses['server']}/webhook"

    @property
    def server_address(self) -> tuple[str, int]:
        host, port = self._addresses["server"].rsplit(":", 1)
        return host.strip("[]"), int(port)

    @property
    def output(self) -> str:
        """All that it has written so far, wherever to."""
        return self._log.read_text(errors="replace")

    @property
    def inspector_url(self) -> str:
        return f"http://{self._addresses['inspector']}/"

    def logs(self) -> list[dict[str, Any]]:
        """Every complete line of the log so far; a last word to a person is none."""
        lines = self._log.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def post(
        self, body: bytes, *, path: str = "/webhook", headers: Mapping[str, str] | None = None
    ) -> Answer:
        return self._request("server", "POST", path, body, headers or {})

    def admin(self, path: str) -> Answer:
        return self._request("admin", "GET", path)

    def terminate(self, timeout: float = 30) -> int:
        """End it as Kubernetes does; the exit status."""
        os.kill(self.process.pid, signal.SIGTERM)
        return self.process.wait(timeout)

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
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway has ended: {self._log.read_text()}")
        for line in self.logs():
            if line["event"] == "listening":
                listeners = ("server", "admin", "inspector")
                self._addresses = {name: line[name] for name in listeners if name in line}
        return bool(self._addresses)
