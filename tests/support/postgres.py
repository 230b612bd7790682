"""PostgreSQL on a directory of its own, one script at a time: no server, no port."""

import csv
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

TIMEOUT_SECONDS = 60

Value = str | int | bool | None


class PostgresUnavailableError(Exception):
    """This machine has no PostgreSQL."""


class Postgres:
    """Runs scripts, each on an empty database."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self._directory = directory
        # It refuses to run as root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(directory, self._user)
        self._call("initdb", "--encoding=UTF8", "--locale=C", "--no-sync", str(directory / "data"))

    def rows(self, *statements: str) -> list[list[str]]:
        """What the last statement, a query, finds; null is an empty text."""
        found = self._directory / "rows.csv"
        *before, query = (statement.strip().removesuffix(";") for statement in statements)
        script = ["BEGIN", *before, f"COPY ({query}) TO '{found}' WITH (FORMAT csv)"]
        self._call(
            *("postgres", "--single", "-j", "-F", "-c", "exit_on_error=on"),
            *("-D", str(self._directory / "data"), "postgres"),
            script="".join(f"{statement};\n\n" for statement in script),  # never committed
        )
        with found.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))

    def _call(self, program: str, *arguments: str, script: str = "") -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
            user=self._user,
            cwd=self._directory,
        )
        assert done.returncode == 0, done.stderr


def bound(statement: str, values: Mapping[str, Value]) -> str:
    """The statement with a literal for each of its `:name`."""
    return re.sub(r":(\w+)", lambda name: _literal(values[name[1]]), statement)


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "NULL" if value is None else str(value)


@contextmanager
def new_postgres() -> Iterator[Postgres]:
    """Raises PostgresUnavailableError."""
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="sms-bridge-postgres-") as directory:
        yield Postgres(programs, Path(directory))


def _programs() -> Path:
    """Debian keeps the server's programs off the PATH, a directory for each version."""
    found = shutil.which("initdb")
    of_debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if found is None and not of_debian:
        raise PostgresUnavailableError("install Debian's package postgresql")
    return Path(found).parent if found else of_debian[-1]
