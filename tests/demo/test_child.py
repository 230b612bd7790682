"""Programs in processes of their own, with a shell's script for a program."""

import signal
from pathlib import Path

import pytest

from bridge.demo.child import Child, free_ports, wait_until
from bridge.errors import BridgeError


def child(log: Path, script: str) -> Child:
    return Child("the script", "/bin/sh", "-c", script, log=log / "log")


def test_a_frozen_program_that_ignores_sigterm_ends_with_the_block(tmp_path: Path) -> None:
    with child(tmp_path, "trap '' TERM; echo ready; cat") as script:
        script.wait_until(lambda: script.output == "ready\n", "its word")
        script.freeze()
        script.stop(0)

    assert script.process.returncode == -signal.SIGKILL
    with pytest.raises(BridgeError, match="the script is not running"):
        script.thaw()


def test_sigterm_ends_a_program_in_order_even_if_it_is_frozen(tmp_path: Path) -> None:
    with child(tmp_path, "trap 'exit 3' TERM; echo ready; read line") as script:
        script.wait_until(lambda: script.output == "ready\n", "its word")
        script.freeze()

        assert script.terminate() == 3


def test_a_program_that_ends_while_it_is_waited_for_is_an_error_with_its_log(
    tmp_path: Path,
) -> None:
    with (
        child(tmp_path, "echo no such luck; exit 1") as script,
        pytest.raises(BridgeError, match="not running\nno such luck"),
    ):
        script.wait_until(lambda: False, "what never comes")


def test_it_can_be_started_again_and_its_log_goes_on(tmp_path: Path) -> None:
    with child(tmp_path, "echo once") as script:
        script.process.wait()
        script.start()
        script.process.wait()

    assert script.output == "once\nonce\n"


def test_a_wait_ends_with_its_time() -> None:
    with pytest.raises(TimeoutError, match="waited 0 s for what never comes"):
        wait_until(lambda: False, "what never comes", 0)


def test_free_ports_are_distinct_and_below_those_of_outgoing_connections() -> None:
    ports = free_ports(20)

    assert len(set(ports)) == 20
    assert max(ports) < 32_768
