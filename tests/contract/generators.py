"""The types that generators make of the schemas, by the commands of docs/types.md, compiled."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cache import kept
from tests.support.maven import JarsUnavailableError, copied_libraries
from tests.support.npm import Packages, packages

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "types"
PINS = [HERE / name for name in ("package.json", "package-lock.json")]
TIMEOUT_SECONDS = 300
_ROW = re.compile(r"^\| ([A-Z]\w+) \| (\S+) (\S+) \| `([^`]+)` \| `([^`]+)` \|$", re.MULTILINE)


class CompilerUnavailableError(Exception):
    """This machine cannot compile a language: the text says what it lacks."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A row of docs/types.md: how a language's types are made, and what it calls `final`."""

    generator: str
    version: str
    command: str
    final: str


def advice() -> dict[str, Advice]:
    """The rows of docs/types.md, by language."""
    text = (ROOT / "docs/types.md").read_text(encoding="utf-8")
    return {language: Advice(*rest) for language, *rest in _ROW.findall(text)}


def installed() -> Packages:
    """The generators that npm has. NpmUnavailableError says why they cannot be."""
    return packages("types", PINS)


def generate(npm: Packages, command: str, directory: Path) -> None:
    """Run a generator's command, on files of a directory."""
    name, *arguments = shlex.split(command)
    places = (npm.directory / "node_modules/.bin", Path(sys.executable).parent)
    _run([*_program(name, *places), *arguments], directory)


def refused_by_typescript(
    npm: Packages, types: Path, events: Sequence[dict[str, Any]], scratch: Path
) -> list[str]:
    """What the compiler says when events are declared to be of a type in `types`."""
    shutil.copytree(types, scratch)
    program = (HERE / "read.ts").read_text("utf-8")
    return npm.compile(program.replace("/* events */", json.dumps(events)[1:-1]), scratch)


def _java(directory: Path, scratch: Path) -> list[str]:
    pom = HERE / "pom.xml"
    try:
        jars = kept("types-java", pom.read_bytes(), lambda _, made: copied_libraries(pom, made))
    except JarsUnavailableError as exc:
        raise CompilerUnavailableError(str(exc)) from exc
    sources = [*map(str, directory.glob("*.java")), str(HERE / "Read.java")]
    _run([*_program("javac"), "-Xlint:all", "-cp", f"{jars}/*", "-d", str(scratch), *sources])
    return [*_program("java"), "-cp", f"{scratch}:{jars}/*", "Read"]


def _go(directory: Path, scratch: Path) -> list[str]:
    (scratch / "go.mod").write_text("module types\n\ngo 1.21\n")
    shutil.copy(HERE / "read.go", scratch)
    shutil.copytree(directory, scratch / "statuses")
    go = _program("go")
    _run([*go, "vet", "./..."], scratch)
    _run([*go, "build", "-o", "read", "."], scratch)
    return [str(scratch / "read")]


def _rust(directory: Path, scratch: Path) -> list[str]:
    for file in (HERE / "Cargo.toml", HERE / "Cargo.lock"):
        shutil.copy(file, scratch)
    (scratch / "src").mkdir()
    shutil.copy(HERE / "read.rs", scratch / "src/main.rs")
    for file in directory.glob("*.rs"):
        shutil.copy(file, scratch / "src")
    build = [*_program("cargo"), "build", "--quiet", "--locked"]

    def compile_libraries(_: Path, made: Path) -> None:
        _run([*build, "--target-dir", str(made)], scratch)

    pins = _run([build[0], "--version"]) + (HERE / "Cargo.lock").read_text("utf-8")
    target = kept("types-rust", pins.encode(), compile_libraries)
    shutil.copytree(target, scratch / "target")
    _run(build, scratch)
    return [str(scratch / "target/debug/types")]


_COMPILERS: dict[str, Callable[[Path, Path], list[str]]] = {"Java": _java, "Go": _go, "Rust": _rust}
COMPILED = tuple(_COMPILERS)


@dataclass(frozen=True, slots=True)
class Reader:
    """A program that reads events as generated types, and writes them again."""

    command: Sequence[str]

    def __call__(self, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """What it makes of each event."""
        lines = "".join(f"{json.dumps(event)}\n" for event in events)
        return [json.loads(line) for line in _run(self.command, given=lines).splitlines()]


def compiled(language: str, directory: Path, scratch: Path) -> Reader:
    """The program of a language, with the types in a directory."""
    return Reader(_COMPILERS[language](directory, scratch))


def _program(name: str, *places: Path) -> list[str]:
    found = next((p for place in places if (p := place / name).exists()), shutil.which(name))
    if found is None:
        raise CompilerUnavailableError(f"there is no {name} on this machine")
    return [str(found)]


def _run(command: Sequence[str], directory: Path | None = None, given: str = "") -> str:
    done = subprocess.run(
        command,
        cwd=directory,
        input=given,
        env={**os.environ, "GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
