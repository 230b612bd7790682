"""What the wire of the chaos harness does to packets, without a device or a namespace."""

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from bridge.demo.child import wait_until
from tests.support.packets import Ends, Weather

PORT, OTHER = 9092, 8080


def packet(number: int, port: int = PORT) -> bytes:
    """IPv4 with the ports of TCP, and a number behind them."""
    return bytes([0x45]) + bytes(19) + struct.pack("!HHB", 50_000, port, number)


class Trial:
    """Ends in a weather, and what arrives at one of them: a pipe in a device's place."""

    def __init__(self, directory: Path) -> None:
        self._files = directory / "weather", directory / "counts"
        self.ends = Ends(*self._files, [PORT])
        self._arrived, self._device = os.pipe()
        os.set_blocking(self._arrived, False)

    def take(self, weather: Weather, *packets: bytes) -> None:
        self._files[0].write_text(json.dumps(asdict(weather)))
        self.ends.look()
        for each in packets:
            self.ends.take(each, self._device)

    def arrived(self) -> list[int]:
        """The numbers of those that have, in their order."""
        self.ends.hand_over()
        try:
            data = os.read(self._arrived, 65536)
        except BlockingIOError:
            return []
        return list(data[24::25])

    def counts(self) -> dict[str, int]:
        self.ends.look()
        told: dict[str, int] = json.loads(self._files[1].read_text())
        return told

    def close(self) -> None:
        os.close(self._arrived)
        os.close(self._device)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    made = Trial(tmp_path)
    yield made
    made.close()


def test_in_fair_weather_all_arrive_in_order(trial: Trial) -> None:
    trial.take(Weather(), *(packet(n) for n in range(9)))
    assert trial.arrived() == [*range(9)]
    assert trial.counts() == {"packets": 9, "lost": 0, "repeated": 0, "overtaken": 0}


def test_packets_are_lost_and_repeated_and_others_feel_nothing(trial: Trial) -> None:
    trial.take(Weather(lost=1.0), packet(1), packet(2, OTHER))
    assert trial.arrived() == [2]
    trial.take(Weather(repeated=1.0), packet(3), packet(4, OTHER))
    assert trial.arrived() == [3, 3, 4]
    assert trial.counts() == {"packets": 2, "lost": 1, "repeated": 1, "overtaken": 0}


def test_late_packets_arrive_later_and_out_of_order(trial: Trial) -> None:
    """Nothing is lost by it, and what feels no weather overtakes all that does."""
    trial.take(Weather(seconds=2, jitter_seconds=2), *(packet(n) for n in range(50)))
    trial.take(Weather(), packet(99, OTHER))
    seen = trial.arrived()
    assert seen[0] == 99

    def all_arrived() -> bool:
        seen.extend(trial.arrived())
        return len(seen) == 51

    wait_until(all_arrived, "all of them")
    assert sorted(seen) == [*range(50), 99]
    assert seen[1:] != [*range(50)]
    assert trial.counts()["overtaken"] > 0
