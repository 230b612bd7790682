"""The services of docs/examples/frameworks, made ready once."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge.demo.child import Child
from tests.subscribers.programs import HERE as EXAMPLES
from tests.subscribers.programs import RuntimeUnavailableError, build, found, go_program
from tests.support.cache import kept
from tests.support.npm import NpmUnavailableError, packages

HERE = EXAMPLES / "frameworks"
TABLES = (HERE / "tables.sql").read_text(encoding="utf-8")


def framework(name: str, scratch: Path) -> tuple[str, ...]:
    """The command of a framework's program; RuntimeUnavailableError where this machine cannot.

    What is fetched and compiled from elsewhere is kept in the user's cache.
    """
    return _COMMANDS[name](scratch)


def started(name: str, command: tuple[str, ...], log: Path, **environment: str) -> Child:
    """The program, to be started by `with`; `environment` as its page names it, in lower case."""
    environ = {variable.upper(): value for variable, value in environment.items()}
    return Child(name, *command, log=log, environ=environ, cwd=log.parent)


def environment(name: str, requirements: Sequence[str]) -> Path:
    """A virtualenv with these packages; RuntimeUnavailableError where they cannot be had."""

    def install(_: Path, directory: Path) -> None:
        build([sys.executable, "-m", "venv", "--without-pip", str(directory)], HERE)
        python = ("--python", str(directory / "bin/python"))
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", *python]
        build([*uv, *requirements], HERE)

    return kept(name, "\n".join([*requirements, sys.version]).encode(), install)


def _faststream(_: Path) -> tuple[str, ...]:
    lines = (HERE / "faststream/requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    program = ("-m", "faststream", "run", "--app-dir", str(HERE / "faststream"), "subscriber:app")
    return str(environment("example-faststream", pins) / "bin/python"), *program


def _spring(_: Path) -> tuple[str, ...]:
    sources = sorted(path for path in (HERE / "spring").rglob("*") if path.is_file())

    def package(scratch: Path, directory: Path) -> None:
        shutil.copytree(HERE / "spring", scratch / "spring")
        maven = [found("mvn"), "--batch-mode", "--quiet", "--strict-checksums", "package"]
        build(maven, scratch / "spring")
        directory.mkdir()
        shutil.copy(scratch / "spring/target/subscriber.jar", directory)

    jar = kept("example-spring", b"".join(path.read_bytes() for path in sources), package)
    java = f"{os.environ['JAVA_HOME']}/bin/java" if "JAVA_HOME" in os.environ else found("java")
    return java, "-XX:TieredStopAtLevel=1", "-Xmx256m", "-jar", str(jar / "subscriber.jar")


def _nestjs(_: Path) -> tuple[str, ...]:
    names = ("package.json", "package-lock.json", "tsconfig.json", "main.ts")

    def compiled(npm: str, directory: Path) -> None:
        build([npm, "run", "build"], directory)

    try:
        made = packages("example-nestjs", [HERE / "nestjs" / name for name in names], compiled)
    except NpmUnavailableError as exc:
        raise RuntimeUnavailableError(str(exc)) from exc
    return made.node, str(made.directory / "dist/main.js")


def _go(scratch: Path) -> tuple[str, ...]:
    return (go_program(HERE / "go", scratch),)


def _rust(_: Path) -> tuple[str, ...]:
    """Cargo itself keeps what it has compiled, in the cache beside the others."""
    target = kept("example-rust", b"", lambda _, directory: directory.mkdir())
    build(
        [found("cargo"), "build", "--quiet", "--locked", "--target-dir", str(target)], HERE / "rust"
    )
    return (str(target / "debug/subscriber"),)


_COMMANDS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "faststream": _faststream,
    "spring": _spring,
    "go": _go,
    "nestjs": _nestjs,
    "rust": _rust,
}
FRAMEWORKS = tuple(_COMMANDS)
LONG = ("rust",)  # its first build takes over a minute
