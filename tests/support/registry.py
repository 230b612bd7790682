"""Apicurio's schema registry for the tests, with its memory for a store."""

import json
import tarfile
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from bridge.demo.child import HOST, STOP_SECONDS, Child, free_ports
from tests.support.cache import kept
from tests.support.maven import copied_libraries

POM = Path(__file__).parents[1] / "registry/pom.xml"
START_SECONDS = 180.0


class SchemaRegistry(Child):
    """One run of it, on loopback. JarsUnavailableError says why it cannot be had."""

    def __init__(self) -> None:
        home = kept("registry", POM.read_bytes(), _unpack)
        self._directory = tempfile.TemporaryDirectory(prefix="sms-registry-")
        (port,) = free_ports(1)
        self._address = f"http://{HOST}:{port}"
        options = ("-Xmx384m", f"-Dquarkus.http.host={HOST}", f"-Dquarkus.http.port={port}")
        (jar,) = home.glob("*-runner.jar")
        log = Path(self._directory.name) / "log"
        super().__init__("Apicurio", "java", *options, "-jar", jar, log=log, cwd=home)

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        self.wait_until(self._answers, "the registry answers", START_SECONDS)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End it, and its files with it."""
        super().stop(seconds)
        self._directory.cleanup()

    @property
    def url(self) -> str:
        """Where it speaks Confluent's API."""
        return f"{self._address}/apis/ccompat/v7"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """What it answers to a request of that API."""
        request = urllib.request.Request(
            f"{self.url}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def _answers(self) -> bool:
        try:
            self.call("GET", "subjects")
        except OSError:
            return False
        return True


def _unpack(scratch: Path, made: Path) -> None:
    copied_libraries(POM, scratch / "archive")
    (archive,) = (scratch / "archive").iterdir()
    with tarfile.open(archive) as files:
        files.extractall(made, filter="data")
