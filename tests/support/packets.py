"""A wire between two network namespaces that loses, repeats, delays and reorders packets.

`tc netem` does that where the kernel has it; this needs a TUN device and a network namespace of the
test's own (`unshare --net`). As a program it is the wire itself, and makes the far namespace.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from bridge.demo.child import Child

HERE, THERE = "10.99.0.1", "10.99.0.2"  # of namespaces that nothing else is in
PREFIX = "/30"
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x0001 | 0x1000
PACKET_BYTES = 65536
LOOK_SECONDS = 0.05  # at the conditions


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to packets, by default nothing.

    `lost` and `repeated` are parts of 1. Each packet, and each repetition, takes `seconds` and up
    to `jitter_seconds` more, each by itself, so that they overtake each other.
    """

    lost: float = 0.0
    repeated: float = 0.0
    seconds: float = 0.0
    jitter_seconds: float = 0.0


class Wire(Child):
    """From HERE, this process's namespace, to THERE, a new one; programs enter it by `prefix`.

    Only packets from or to the `ports` feel the weather.
    """

    here, there = HERE, THERE

    def __init__(self, directory: Path, ports: Collection[int]) -> None:
        self._weather = directory / "weather"
        self._counts = directory / "counts"
        self.turn(Weather())
        arguments = (str(self._weather), str(self._counts), *map(str, ports))
        module = ("-m", "tests.support.packets")
        super().__init__("the wire", sys.executable, *module, *arguments, log=directory / "wire")

    def start(self) -> None:
        """Start it and wait until packets pass."""
        super().start()
        self.wait_until(self._counts.exists, "the wire")

    @property
    def prefix(self) -> tuple[str, ...]:
        """A command that becomes another in the far namespace."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net")

    def turn(self, weather: Weather) -> None:
        """Let another weather hold."""
        new = self._weather.with_suffix(".new")
        new.write_text(json.dumps(asdict(weather)))
        new.rename(self._weather)

    def counts(self) -> dict[str, int]:
        """How many packets there were in the weather, how many of them were lost and repeated."""
        told: dict[str, int] = json.loads(self._counts.read_text())
        return told


class Ends:
    """The two devices, and the packets that are on their way between them."""

    def __init__(self, weather: Path, counts: Path, ports: Collection[int]) -> None:
        self._files = weather, counts
        self._ports = frozenset(ports)
        self._weather = Weather()
        self._counts = {"packets": 0, "lost": 0, "repeated": 0, "overtaken": 0}
        self._due: list[tuple[float, int, int, bytes]] = []
        self._number = 0
        self._arrived = 0
        self._rng = random.Random(1)

    def carry(self, near: int, far: int) -> None:
        """Until whoever started this has gone."""
        parent = sys.stdin.fileno()
        looked = -LOOK_SECONDS
        while True:
            now = time.monotonic()
            if now - looked > LOOK_SECONDS:
                looked = now
                self.look()
            wait = min(self._due[0][0] - now, LOOK_SECONDS) if self._due else LOOK_SECONDS
            readable, _, _ = select.select([near, far, parent], [], [], max(0.0, wait))
            if parent in readable:
                return
            for end in readable:
                self.take(os.read(end, PACKET_BYTES), near if end == far else far)
            self.hand_over()

    def look(self) -> None:
        """Read what the weather is, and tell what it has done so far."""
        weather, counts = self._files
        self._weather = Weather(**json.loads(weather.read_text()))
        new = counts.with_suffix(".new")
        new.write_text(json.dumps(self._counts))
        new.rename(counts)

    def take(self, packet: bytes, to: int) -> None:
        """Send a packet on its way to a device, or lose it."""
        now, weather = time.monotonic(), self._weather
        if not self._feels(packet):
            self._send(now, to, packet)
            return
        self._counts["packets"] += 1
        if self._rng.random() < weather.lost:
            self._counts["lost"] += 1
            return
        times = 2 if self._rng.random() < weather.repeated else 1
        self._counts["repeated"] += times - 1
        for _ in range(times):
            self._send(
                now + weather.seconds + self._rng.random() * weather.jitter_seconds, to, packet
            )

    def _feels(self, packet: bytes) -> bool:
        if packet[0] >> 4 != 4:
            return False
        ports = struct.unpack_from("!HH", packet, (packet[0] & 15) * 4)
        return not self._ports.isdisjoint(ports)

    def _send(self, at: float, to: int, packet: bytes) -> None:
        self._number += 1
        heapq.heappush(self._due, (at, self._number, to, packet))

    def hand_over(self) -> None:
        """Write those that are due."""
        while self._due and self._due[0][0] <= time.monotonic():
            _, number, to, packet = heapq.heappop(self._due)
            self._counts["overtaken"] += number < self._arrived
            self._arrived = max(self._arrived, number)
            os.write(to, packet)


def _device(name: str, address: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))
    for command in (
        ("addr", "add", address + PREFIX, "dev", name),
        ("link", "set", name, "up"),
        ("link", "set", "lo", "up"),
    ):
        subprocess.run(["ip", *command], check=True)
    return device


def _leave_for_a_new_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.unshare comes with Python 3.12
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def main() -> None:
    """Be the wire: the files of the weather and of the counts, and the ports that feel it."""
    weather, counts, *ports = sys.argv[1:]
    near = _device("near", HERE)
    _leave_for_a_new_namespace()
    far = _device("far", THERE)
    Ends(Path(weather), Path(counts), [*map(int, ports)]).carry(near, far)


if __name__ == "__main__":
    main()
