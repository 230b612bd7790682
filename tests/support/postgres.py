"""PostgreSQL on a directory of its own: one script at a time without a server, or a server."""

import csv
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge.demo.child import HOST, Child, free_ports

TIMEOUT_SECONDS = 60

Value = str | int | bool | None


class PostgresUnavailableError(Exception):
    """This machine has no PostgreSQL."""


class _Directory:
    """What `initdb` makes."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self._directory = directory
        # It refuses to run as root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(directory, self._user)
        options = ("--encoding=UTF8", "--locale=C", "--no-sync", "--username=postgres")
        self._call("initdb", *options, str(directory / "data"))

    def _call(self, program: str, *arguments: str, script: str = "") -> str:
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
        return done.stdout


class Postgres(_Directory):
    """Runs scripts, each on an empty database."""

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


class PostgresServer(_Directory):
    """A server on loopback, which anyone there may use; it keeps nothing when the machine fails."""

    def __init__(self, programs: Path, directory: Path) -> None:
        super().__init__(programs, directory)
        (self._port,) = free_ports(1)
        settings = {
            "listen_addresses": HOST,
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": "off",
        }
        options = [option for each in settings.items() for option in ("-c", "=".join(each))]
        become = ("setpriv", f"--reuid={self._user}", "--clear-groups") if self._user else ()
        command = (*become, programs / "postgres", "-D", directory / "data", *options)
        self.process = Child("PostgreSQL", *command, log=directory / "log", cwd=directory)

    def url(self, database: str) -> str:
        """The address of a database, as clients of all languages read it."""
        return f"postgresql://{HOST}:{self._port}/{database}?user=postgres"

    def accepts(self) -> bool:
        """Whether it can be used."""
        done = subprocess.run(
            [self._programs / "pg_isready", "--quiet", "--dbname", self.url("postgres")],
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
        return done.returncode == 0

    def run(self, database: str, script: str) -> None:
        """Run statements; the first that fails fails the test."""
        options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname")
        self._call("psql", *options, self.url(database), script=script)

    def rows(self, database: str, query: str) -> list[dict[str, Any]]:
        """What a query finds, each value as JSON has it."""
        script = f"SELECT coalesce(json_agg(found), '[]') FROM ({query}) AS found"
        options = (
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--dbname",
        )
        found: list[dict[str, Any]] = json.loads(
            self._call("psql", *options, self.url(database), script=script)
        )
        return found


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


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Raises PostgresUnavailableError."""
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="sms-bridge-postgres-") as directory:
        server = PostgresServer(programs, Path(directory))
        with server.process as process:
            process.wait_until(server.accepts, "PostgreSQL accepts connections")
            yield server


def _programs() -> Path:
    """Debian keeps the server's programs off the PATH, a directory for each version."""
    found = shutil.which("initdb")
    of_debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if found is None and not of_debian:
        raise PostgresUnavailableError("install Debian's package postgresql")
    return Path(found).resolve().parent if found else of_debian[-1]
