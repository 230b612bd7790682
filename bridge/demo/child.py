"""Programs in processes of their own, for `demo`, the tests and the benchmarks."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from bridge.errors import BridgeError

HOST = "127.0.0.1"
STOP_SECONDS = 6.0
WAIT_SECONDS = 30.0
POLL_SECONDS = 0.05


class Child:
    """A program in a process of its own, which ends with the `with` block, whatever happens inside.

    `name` is what errors call it. What it writes is appended to `log`. Its standard input is a
    pipe that ends with this process.
    """

    def __init__(
        self,
        name: str,
        *command: str | Path,
        log: Path = Path(os.devnull),
        environ: Mapping[str, str] = MappingProxyType({}),
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log_file = log
        self._command = command
        self._environ = {**os.environ, **environ}
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process, in the place of one that is still there."""
        with self.log_file.open("ab") as log:
            self._spawn(log, log)

    def _spawn(self, stdout: Any, stderr: Any) -> None:
        self.kill()
        # In a thread: what a signal raises comes to the main one, and would lose the process where
        # it came between its start and its name.
        with ThreadPoolExecutor(1) as apart:
            apart.submit(self._open, stdout, stderr).result()

    def _open(self, stdout: Any, stderr: Any) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - no shell, and a command of our own
            self._command,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            # Ctrl-C in a terminal reaches the whole group: the parent decides the order.
            start_new_session=True,
            env=self._environ,
            cwd=self._cwd,
        )

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process that was started last; BridgeError if none was."""
        if self._process is None:
            raise BridgeError(f"{self.name} is not running")
        return self._process

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of the process; BridgeError if it is not running."""
        if not self.running:
            raise BridgeError(f"{self.name} is not running")
        return self.process.pid

    @property
    def output(self) -> str:
        """All that it has written."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def freeze(self) -> None:
        """Stop it in its tracks: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        # The signal is only on its way; a busy machine lets the program answer meanwhile.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if self._process is not None:
            with self._process as process:  # which closes the pipe, and waits
                process.kill()

    def terminate(self, seconds: float = WAIT_SECONDS) -> int:
        """End it in order (SIGTERM), frozen or not; its status, or TimeoutExpired."""
        self.process.terminate()
        self.process.send_signal(signal.SIGCONT)
        return self.process.wait(seconds)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End it, in order if it does so within the time. A second call does nothing."""
        try:
            if self.running:
                self.terminate(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def wait_until(
        self, condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS
    ) -> None:
        """Poll until the condition holds, as long as the process runs.

        Raises BridgeError if it does not, and TimeoutError if the time is over before.
        """
        try:
            wait_until(lambda: self.pid > 0 and condition(), what, seconds)
        except (BridgeError, TimeoutError) as exc:
            exc.add_note(self.output[-5000:])
            raise


def wait_until(condition: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Poll until the condition holds; raises TimeoutError if the time is over before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}: timed out")
        time.sleep(POLL_SECONDS)


def free_ports(count: int) -> list[int]:
    """Find loopback ports that nothing listens on, below those of outgoing connections.

    Who is started again must find its port free; and who dials a dead port from that very port
    is connected to itself.
    """
    ports: set[int] = set()
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        if is_free(port):
            ports.add(port)
    return sorted(ports)


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of the loopback address."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0
