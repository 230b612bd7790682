"""The gateway as a process that dies and comes back on its ports, and what it costs meanwhile.

It knows no faults: who ends it, and why, is not its business.
"""

import asyncio
import http.client
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from bridge.demo.child import Child
from bridge.demo.processes import bridge
from tests.chaos.sentinel import WAKE_SECONDS, Stall
from tests.support.senders import queued_seconds

LOST = "the brokers have lost acknowledged records"
SAMPLE_SECONDS = 1.0
CONNECTED = re.compile(rb'^sms_bridge_producer_state{state="connected"} (\d+)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process held at a moment of the monotonic clock; `tasks` in a calm run alone."""

    at: float
    pid: int
    sockets: int
    descriptors: int
    threads: int
    resident_bytes: int
    tasks: int | None


class Program(Child):
    """`sms-bridge serve`, one run after the other; all of them write one log.

    `package` is the directory that holds the `bridge` to run, or None for the present one. `prefix`
    is a command that becomes it, and `environ` is laid over that of this process.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        *,
        package: Path | None = None,
        prefix: Sequence[str] = (),
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        file = directory / "bridge.yaml"
        file.write_text(yaml.safe_dump(dict(config)))
        # Without the second the working directory's own package would come first.
        own = {"PYTHONPATH": str(package), "PYTHONSAFEPATH": "1"} if package else {}
        command = [*prefix, *bridge("serve", "--config", str(file))]
        log = directory / "gateway.log"
        super().__init__("the gateway", *command, log=log, environ={**environ, **own})
        self._tasks = environ.get("SMS_CHAOS_TASKS")
        self._admin_address = config["admin"]["host"], int(config["admin"]["port"])
        self.samples: list[Sample] = []

    def wait_ready(self) -> None:
        """Wait until `/readyz` says so; BridgeError with its log where it ends instead."""
        self.wait_until(self.is_ready, "the gateway to be ready")

    def is_ready(self) -> bool:
        """Whether `/readyz` says so."""
        return self._get("/readyz")[0] == 200

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self._admin_address, timeout=2)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def end(self, worker: int) -> None:
        """End one of its processes as a crash would."""
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)

    def wait_connected(self, count: int) -> None:
        """Wait until so many processes are connected to Kafka."""
        self.wait_until(lambda: self._connected() == count, f"{count} processes to be connected")

    def _connected(self) -> int:
        shown = CONNECTED.search(self._get("/metrics")[1])
        return int(shown[1]) if shown else 0

    async def watch(self) -> None:
        """Take a sample every second, for ever."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_SECONDS)

    def sample(self) -> Sample | None:
        """Note what each process holds now; of these, the one with most sockets, if any."""
        found = []
        for pid in self.pids if self.running else ():
            with suppress(OSError):  # it has ended at this very moment
                found.append(_sample(pid, self._tasks))
        self.samples += found
        return max(found, key=lambda sample: sample.sockets, default=None)

    @property
    def pids(self) -> list[int]:
        """The process that was started, and those that it has started; some may have ended."""
        return [self.process.pid, *self.workers]

    @property
    def workers(self) -> list[int]:
        """The processes that it has started to serve: none if it serves alone."""
        pid = self.process.pid
        try:
            pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return []
        return [int(each) for each in pids]

    def rebuilds(self) -> Counter[str]:
        """How often the producer was replaced, by cause."""
        return Counter(
            str(line.get("cause")) for line in self._lines() if "replacing" in line["event"]
        )

    def lost_records(self) -> int:
        """How many records it has said that the brokers have lost."""
        return sum(int(line["records"]) for line in self._lines() if line["event"] == LOST)

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


def _sample(pid: int, tasks: str | None) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if "VmRSS" not in fields:  # it has ended, and nobody has asked for its status yet
        raise ProcessLookupError(pid)
    return Sample(
        at=time.monotonic(),
        pid=pid,
        sockets=open_sockets(pid),
        descriptors=len([*Path(f"/proc/{pid}/fd").iterdir()]),
        threads=int(fields["Threads"]),
        resident_bytes=int(fields["VmRSS"].split()[0]) * 1024,
        tasks=_told(Path(f"{tasks}.{pid}")) if tasks else None,
    )


def _told(file: Path) -> int | None:
    return int(file.read_text()) if file.exists() else None


def open_sockets(pid: int) -> int:
    """How many sockets a process holds, those of its event loop included."""
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:  # closed since it was listed
            continue
    return sum(link.startswith("socket:") for link in links)
