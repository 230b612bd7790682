"""The gateway as a process that dies and comes back on its ports, and what it costs meanwhile.

It knows no faults: who ends it, and why, is not its business.
"""

import asyncio
import http.client
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bridge.demo.child import HOST, Child
from bridge.demo.processes import bridge
from tests.chaos.sentinel import WAKE_SECONDS, Stall
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


class Program(Child):
    """`sms-bridge serve`, one run after the other; all of them write one log.

    `package` is the directory that holds the `bridge` to run, or None for the present one.
    """

    def __init__(
        self, directory: Path, config: Mapping[str, Any], *, package: Path | None = None
    ) -> None:
        file = directory / "bridge.yaml"
        file.write_text(yaml.safe_dump(dict(config)))
        # Without the second the working directory's own package would come first.
        environ = {"PYTHONPATH": str(package), "PYTHONSAFEPATH": "1"} if package else {}
        command = bridge("serve", "--config", str(file))
        super().__init__("the gateway", *command, log=directory / "gateway.log", environ=environ)
        self._admin_port = int(config["admin"]["port"])
        self.samples: list[Sample] = []

    def wait_ready(self) -> None:
        """Wait until `/readyz` says so; BridgeError with its log where it ends instead."""
        self.wait_until(self._ready, "the gateway to be ready")

    def _ready(self) -> bool:
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
        if not self.running:
            return None
        try:
            found = _sample(self.process.pid)
        except OSError:  # it has ended at this very moment
            return None
        self.samples.append(found)
        return found

    def rebuilds(self) -> Counter[str]:
        """How often the producer was replaced, by cause."""
        return Counter(
            str(line.get("cause")) for line in self._lines() if "replacing" in line["event"]
        )

    def surprises(self) -> list[str]:
        """What should not be in the log: anything but JSON, and anything with a traceback."""
        odd = [line for line in self.output.splitlines() if not line.startswith("{")]
        return odd + [
            f"{line['event']}: {line['exception'].splitlines()[-1]}"
            for line in self._lines()
            if line.get("exception")
        ]

    def _lines(self) -> list[dict[str, Any]]:
        lines = self.output.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line[-1] == "}"]


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
