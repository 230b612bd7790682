"""The jars that Maven fetches, with a script in Maven's place."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.brokers import POM, kafka_libraries
from tests.support.kafka_tools import POM as TOOLS
from tests.support.maven import JarsUnavailableError


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put an `mvn` that is the given shell script in the place of the real one."""

    def put(script: str) -> None:
        programs = tmp_path / "bin"
        programs.mkdir()
        for name, text in {"mvn": script, "java": "exit 0"}.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    return put


def test_a_repository_out_of_reach_makes_kafka_unavailable(
    maven: Callable[[str], None], tmp_path: Path
) -> None:
    """Maven's own reason is told, and no half-filled directory is taken for the jars."""
    maven("echo '[ERROR] Unknown host'; exit 1")

    with pytest.raises(JarsUnavailableError, match=r"Maven cannot fetch the jars: .*Unknown host"):
        kafka_libraries()

    assert [path.suffix for path in (tmp_path / "cache" / "sms-status-bridge").iterdir()] == [
        ".lock"
    ]


def test_jars_are_fetched_once(maven: Callable[[str], None], tmp_path: Path) -> None:
    maven(
        f"echo run >> {tmp_path}/runs\n"
        'for option; do case "$option" in -DoutputDirectory=*)\n'
        'mkdir -p "${option#*=}"; touch "${option#*=}/kafka.jar";; esac; done'
    )

    assert kafka_libraries() == kafka_libraries()
    assert [jar.name for jar in kafka_libraries().iterdir()] == ["kafka.jar"]
    assert (tmp_path / "runs").read_text() == "run\n"


def test_without_maven_kafka_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(JarsUnavailableError, match="java is not installed"):
        kafka_libraries()


def test_the_tools_are_of_the_brokers_version() -> None:
    """Each of them is fetched by itself, and upgraded by hand."""
    brokers, tools = (re.findall(r"version>([0-9][^<]+)<", p.read_text()) for p in (POM, TOOLS))
    assert brokers == tools
