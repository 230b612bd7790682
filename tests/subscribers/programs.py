"""The programs of docs/examples, made ready once and run as a reader of their page would."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.support.cache import kept
from tests.support.maven import JarsUnavailableError, copied_libraries
from tests.support.npm import NpmUnavailableError, packages

HERE = Path(__file__).parents[2] / "docs/examples"
BUILD_TIMEOUT_SECONDS = 600
RUN_TIMEOUT_SECONDS = 300
CLIENT = "@confluentinc/kafka-javascript"

Event = dict[str, Any]
Row = dict[str, Any]


class RuntimeUnavailableError(Exception):
    """This machine cannot run the language's program: the text says what it lacks."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a run has printed: the events in order, and the table by (`source`, `id_sms`)."""

    events: list[Event]
    table: dict[tuple[str, str], Row]


@dataclass(frozen=True, slots=True)
class Program:
    """One language's program, ready to run."""

    language: str
    command: tuple[str, ...]

    def run(self, *arguments: str) -> Output:
        """Run it to the end of the topics; fails the test where the program fails."""
        with self.running(*arguments) as process:
            said, complaints = process.communicate(timeout=RUN_TIMEOUT_SECONDS)
        assert process.returncode == 0, complaints
        return output(said)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start it; it is killed at the end of the block if it still runs."""
        with subprocess.Popen(
            [*self.command, *arguments, "--until-end"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def output(text: str) -> Output:
    """Tell apart the events that a program has printed and its table."""
    # Not splitlines: U+2028 may stand in an event as it is.
    said = [json.loads(line) for line in text.split("\n")[:-1]]
    rows = [each["latest"] for each in said if "latest" in each]
    table = {(row["source"], row["id_sms"]): row for row in rows}
    assert len(table) == len(rows)
    return Output([each for each in said if "latest" not in each], table)


def program(language: str, scratch: Path) -> Program:
    """Make a language's program ready; RuntimeUnavailableError where this machine cannot.

    What is fetched and compiled from elsewhere is kept in the user's cache.
    """
    return Program(language, _COMMANDS[language](scratch))


def _python(_: Path) -> tuple[str, ...]:
    return sys.executable, str(HERE / "python/subscriber.py")


def _javascript(scratch: Path) -> tuple[str, ...]:
    pins = [HERE / "javascript" / name for name in ("package.json", "package-lock.json")]
    try:
        installed = packages("example-javascript", pins, finish=_build_client)
    except NpmUnavailableError as exc:
        raise RuntimeUnavailableError(str(exc)) from exc
    shutil.copy(HERE / "javascript/subscriber.js", scratch / "subscriber.mjs")
    (scratch / "node_modules").symlink_to(installed.directory / "node_modules")
    return installed.node, str(scratch / "subscriber.mjs")


def _build_client(npm: str, directory: Path) -> None:
    """Compile the Confluent client, against this machine's own libraries: nothing is downloaded.

    It takes a minute and a half on two cores.
    """
    node = Path(found("node")).resolve().parents[1]
    headers = {"npm_config_nodedir": str(node)} if (node / "include/node").is_dir() else {}
    source = {"npm_config_build_from_source": "true", "CKJS_LINKING": "dynamic"}
    build([npm, "rebuild", "--foreground-scripts", CLIENT], directory, source | headers)
    client = directory / "node_modules" / CLIENT
    for left_over in ("deps", "build/Release/obj.target"):
        shutil.rmtree(client / left_over)


def _java(_: Path) -> tuple[str, ...]:
    pom = HERE / "java/pom.xml"
    try:
        for needed in ("java", "mvn"):
            found(needed)
        jars = kept("example-java", pom.read_bytes(), lambda _, made: copied_libraries(pom, made))
    except JarsUnavailableError as exc:
        raise RuntimeUnavailableError(str(exc)) from exc
    java = f"{os.environ['JAVA_HOME']}/bin/java" if "JAVA_HOME" in os.environ else "java"
    return java, "-cp", f"{jars}/*", str(HERE / "java/Subscriber.java")


def _go(scratch: Path) -> tuple[str, ...]:
    return (go_program(HERE / "go", scratch),)


def go_program(source: Path, scratch: Path, package: str = ".") -> str:
    """Compile a directory's program, or one of a module that it pins.

    RuntimeUnavailableError says why it cannot be.
    """
    built = scratch / source.name
    build([found("go"), "build", "-mod=readonly", "-o", str(built), package], source)
    return str(built)


def found(name: str) -> str:
    """The path of a program; RuntimeUnavailableError where there is none."""
    path = shutil.which(name)
    if path is None:
        raise RuntimeUnavailableError(f"there is no {name} on this machine")
    return path


def build(
    command: Sequence[str], directory: Path, environment: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Run a command that installs or compiles.

    RuntimeUnavailableError where it fails, since what is to be compiled may have to be fetched.
    """
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=BUILD_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as exc:
        raise RuntimeUnavailableError(f"{command[0]} does not end in time") from exc
    if done.returncode != 0:
        raise RuntimeUnavailableError(f"{command[0]} failed: {done.stdout[-2000:]}")


_COMMANDS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "python": _python,
    "javascript": _javascript,
    "java": _java,
    "go": _go,
}
LANGUAGES = tuple(_COMMANDS)
