"""The peers: how each is built, into the user's cache, and run; what of the bridge each has."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmarks.programs import Program, root_url
from bridge.demo.child import free_ports
from tests.support.cache import kept
from tests.support.npm import NpmUnavailableError, packages

HERE = Path(__file__).parent
BUILD_TIMEOUT_SECONDS = 600


class PeerUnavailableError(Exception):
    """A peer cannot be built here, or does not do what is compared: the text says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them. `build` returns its command, and `version` is what prints its runtime's.

    `has` says of partial acknowledgement, dead letters, stable ids, limits and supervision what
    there is of it.
    """

    name: str
    made_of: str
    has: tuple[str, str, str, str, str]
    build: Callable[[], tuple[str, ...]]
    version: tuple[str, ...]

    @property
    def topic(self) -> str:
        """What it publishes to."""
        return f"bench.{self.name}"

    def runtime(self) -> str:
        """The runtime's own word for its version."""
        return _said(self.version).decode().partition("\n")[0]


class Running(Program):
    """A peer that serves."""

    prefix: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        command: Sequence[str],
        bootstrap_servers: str,
        topic: str,
        cores: frozenset[int] | None = None,
    ) -> None:
        (port,) = free_ports(1)
        environ = {
            "PORT": str(port),
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "TOPIC": topic,
        }
        super().__init__(
            *command, port=port, ready_url=root_url(port), cores=cores, environ=environ
        )


def _go(directory: str) -> Callable[[], tuple[str, ...]]:
    source = HERE / directory

    def build() -> tuple[str, ...]:
        go = _found("go")

        def compile_into(_: Path, made: Path) -> None:
            made.mkdir()
            _run([go, "build", "-mod=readonly", "-o", str(made / "peer"), "."], source)

        made = kept(f"peer-{directory}", _contents(source) + _said(GO_VERSION), compile_into)
        return (str(made / "peer"),)

    return build


def _benthos() -> tuple[str, ...]:
    return *_go("benthos")(), "-c", str(HERE / "benthos/config.yaml")


def _node() -> tuple[str, ...]:
    pins = [HERE / "node" / name for name in ("package.json", "package-lock.json", "main.js")]
    try:
        installed = packages("peer-node", pins)
    except NpmUnavailableError as exc:
        raise PeerUnavailableError(str(exc)) from exc
    return installed.node, str(installed.directory / "main.js")


def _spring() -> tuple[str, ...]:
    source, maven = HERE / "spring", _found("mvn")
    java = f"{os.environ['JAVA_HOME']}/bin/java" if "JAVA_HOME" in os.environ else _found("java")

    def package(scratch: Path, made: Path) -> None:
        project = shutil.copytree(source, scratch / "project")
        _run([maven, "--batch-mode", "--quiet", "--strict-checksums", "package"], project)
        made.mkdir()
        shutil.copy(project / "target/peer.jar", made)

    made = kept("peer-spring", _contents(source), package)
    return java, "-Xmx512m", "-jar", str(made / "peer.jar")


def _found(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise PeerUnavailableError(f"there is no {name} on this machine")
    return path


def _contents(directory: Path) -> bytes:
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    return b"".join(file.read_bytes() for file in files)


def _run(command: Sequence[str], directory: Path) -> None:
    """Run a build. PeerUnavailableError, since what it needs may have to be fetched."""
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=BUILD_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as exc:
        raise PeerUnavailableError(f"{command[0]} does not end in time") from exc
    if done.returncode != 0:
        raise PeerUnavailableError(f"{command[0]} failed: {done.stdout[-2000:]}")


def _said(command: Sequence[str]) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


GO_VERSION = ("go", "version")
BRIDGE_HAS = (
    "yes",
    "yes",
    "yes",
    "bytes, states, requests in flight, time",
    "producer watched and replaced; readiness, drain, metrics",
)
PEERS = (
    Peer(
        "go",
        "net/http, encoding/xml, franz-go",
        ("no", "no", "no", "bytes, time", "retries of franz-go; drain"),
        _go("go"),
        GO_VERSION,
    ),
    Peer(
        "benthos",
        "Benthos core, a processor for XML and an output with franz-go",
        ("no", "no", "no", "time", "retries of franz-go; drain"),
        _benthos,
        GO_VERSION,
    ),
    Peer(
        "node",
        "Fastify, fast-xml-parser, @platformatic/kafka",
        ("no", "no", "no", "bytes", "retries of the client; drain"),
        _node,
        ("node", "--version"),
    ),
    Peer(
        "spring",
        "Spring Boot, Jackson, spring-kafka",
        ("no", "no", "no", "threads, time", "retries of the client; drain"),
        _spring,
        ("java", "--version"),
    ),
)
