"""The gateway as a process that dies and comes back on its ports, and what it costs meanwhile.

It knows no faults: who ends it, and why, is not its business.
"""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.chaos.sentinel import WAKE_SECONDS, Stall
from tests.support.brokers import wait_until
from tests.support.gateway import HOST
from tests.support.senders import queued_seconds

READY_SECONDS = 30.0
SAMPLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process held at a moment of the monotonic clock."""

    at: float
    pid: int
    sockets: int
    threads: int
    resident_bytes: int


class Program:
    """`sms-bridge serve`, one run after the other; all of them write one log.

    `package` is the directory that holds the `bridge` to run, or None for the present one.
    """

    def __init__(
        self, directory: Path, config: Mapping[str, Any], *, package: Path | None = None
    ) -> None:
        self._log = directory / "gateway.log"
        self._config = directory / "bridge.yaml"
        self._config.write_text(yaml.safe_dump(dict(config)))
        self._admin_port = int(config["admin"]["port"])
        self._package = package
        self._process: subprocess.Popen[bytes] | None = None
        self.samples: list[Sample] = []

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it; it is not ready yet."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bridge", "serve", "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
            )

    def _environment(self) -> dict[str, str]:
        if self._package is None:
            return dict(os.environ)
        # Without the second the working directory's own package would come first.
        return {**os.environ, "PYTHONPATH": str(self._package), "PYTHONSAFEPATH": "1"}

    def kill(self) -> None:
        """End it as a crash would (SIGKILL). A second call does nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def terminate(self, seconds: float) -> tuple[int | None, float]:
        """End it as Kubernetes does (SIGTERM): the exit status, and how long it took.

        The status is None where it was not gone in time, and had to be killed.
        """
        process, started = self._process, time.monotonic()
        if process is None:
            raise ValueError("the program does not run")
        process.send_signal(signal.SIGTERM)
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        self.kill()
        return status, time.monotonic() - started

    def wait_ready(self) -> None:
        """Wait until `/readyz` says so; RuntimeError with its log where it ends instead."""
        wait_until(self._ready, "the gateway to be ready", READY_SECONDS)

    def _ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the gateway has ended:\n{self._log.read_text()[-3000:]}")
        connection = http.client.HTTPConnection(HOST, self._admin_port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    async def watch(self) -> None:
        """Take a sample every second, for ever."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_SECONDS)

    def sample(self) -> Sample | None:
        """Note what it holds now; None while it does not run."""
        pid = self.pid
        try:
            found = None if pid is None else _sample(pid)
        except OSError:  # it has ended at this very moment
            return None
        if found is not None:
            self.samples.append(found)
        return found

    def rebuilds(self) -> Counter[str]:
        """How often the producer was replaced, by cause."""
        return Counter(
            str(line.get("cause")) for line in self._lines() if "replacing" in line["event"]
        )

    def surprises(self) -> list[str]:
        """What should not be in the log: anything but JSON, and anything with a traceback."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        odd = [line for line in text.splitlines() if not line.startswith("{")]
        return odd + [
            f"{line['event']}: {line['exception'].splitlines()[-1]}"
            for line in self._lines()
            if line.get("exception")
        ]

    def _lines(self) -> list[dict[str, Any]]:
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        complete = [line for line in text.splitlines() if line.startswith("{") and line[-1] == "}"]
        return [json.loads(line) for line in complete]


class Queues:
    """Notes how long processes were ready to run while others had the processors.

    A machine with much to do still wakes who sleeps: the sentinel does not see it. `pids` gives
    the processes through which a post goes at the moment; on an idle machine it is next to nothing.
    """

    def __init__(self, pids: Callable[[], Iterable[int | None]]) -> None:
        self._pids = pids
        self._queued: dict[int, float] = {}
        self.stalls: list[Stall] = []

    async def watch(self) -> None:
        """Look every now and then, for ever."""
        while True:
            self.look()
            await asyncio.sleep(WAKE_SECONDS)

    def look(self) -> None:
        """Note what has been added since the last look."""
        now = time.monotonic()
        for pid in self._pids():
            if pid is not None:
                queued = queued_seconds(pid)
                added = queued - self._queued.get(pid, queued)
                self._queued[pid] = queued
                if added > 0:
                    self.stalls.append(Stall(now - added, now))


def _sample(pid: int) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if "VmRSS" not in fields:  # it has ended, and nobody has asked for its status yet
        raise ProcessLookupError(pid)
    return Sample(
        at=time.monotonic(),
        pid=pid,
        sockets=open_sockets(pid),
        threads=int(fields["Threads"]),
        resident_bytes=int(fields["VmRSS"].split()[0]) * 1024,
    )


def open_sockets(pid: int) -> int:
    """How many sockets a process holds, those of its event loop included."""
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:  # closed since it was listed
            continue
    return sum(link.startswith("socket:") for link in links)
