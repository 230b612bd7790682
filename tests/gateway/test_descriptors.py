"""Few open files: what the gateway does with 64, and what it says of fewer than it needs."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from confluent_kafka import Producer

from bridge.demo.child import HOST, free_ports, wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from tests.observability.test_log_writer import COMMAND, acknowledged, exchange, is_ready
from tests.support.gateway import configuration


def started(limit: int, config: Path) -> subprocess.Popen[bytes]:
    """The gateway, which may have so many open files: no less and no more can be asked for."""
    command = ["sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", *COMMAND, str(config)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_64_open_files_are_enough(
    new_embedded: type[EmbeddedBroker], topic: str, tmp_path: Path
) -> None:
    """All three listeners, and a producer that is replaced, which doubles its connections."""
    server, admin, inspector = free_ports(3)
    config = tmp_path / "bridge.yaml"
    with new_embedded() as broker:
        for name in (topic, f"{topic}.rejected"):
            Producer({"bootstrap.servers": broker.bootstrap_servers}).list_topics(name, 10)
        whole = configuration(
            broker.bootstrap_servers,
            topic,
            server={"host": HOST, "port": server},
            admin={"host": HOST, "port": admin},
            inspector={"port": inspector},
            kafka={"publish_timeout_seconds": 1},
        )
        config.write_text(yaml.safe_dump(whole))
        with started(64, config) as program:
            try:
                wait_until(lambda: is_ready(admin), "the gateway is ready")
                assert acknowledged(server, 1)
                broker.freeze()
                assert not acknowledged(server, 2)
                wait_until(lambda: b'cause="stalled"} 1' in metrics(admin), "it is replaced")
                broker.thaw()
                wait_until(lambda: acknowledged(server, 2), "it is connected again")
                assert is_ready(admin)
                program.terminate()
                _, said = program.communicate(timeout=30)
            finally:
                program.kill()
    assert program.returncode == 0
    assert b"open files" not in said


def metrics(port: int) -> bytes:
    return exchange(port, "GET", "/metrics")[1]


@pytest.mark.parametrize("limit", [8, 16, 24])
def test_too_few_open_files_are_told_as_such(limit: int, tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text(yaml.safe_dump(configuration("127.0.0.1:9", "any")))
    with started(limit, config) as program:
        try:
            _, said = program.communicate(timeout=30)
        finally:
            program.kill()
    assert program.returncode == 1
    assert f"sms-bridge: only {limit} open files are allowed, too few" in said.decode()


# Every name that is accepted, read where no file can be opened.
EACH_ENCODING = """
import resource
from bridge.parse import parse
from bridge.parse.xml_form import _EIGHT_BIT
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
document = '<?xml version="1.0" encoding="{}"?><response><state id_sms="1">read</state></response>'
for name in _EIGHT_BIT:
    parse(document.format(name).encode(), max_states=1)
for codec in ("utf-16-le", "utf-16-be"):
    parse(document.format("utf-16").encode(codec), max_states=1)
"""


def test_no_encoding_needs_a_file_to_be_read() -> None:
    """Python reads a codec from a file at its first use: a document would be answered 500."""
    done = subprocess.run([sys.executable, "-c", EACH_ENCODING], timeout=30, check=False)
    assert done.returncode == 0
