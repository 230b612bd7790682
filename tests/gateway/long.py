"""Runs that are short, or long with SMS_BRIDGE_LONG=1."""

import os
import sys
from collections.abc import Sequence

LONG = os.environ.get("SMS_BRIDGE_LONG", "") not in ("", "0")

MIB = 2**20


def long_or_short(long: int, short: int) -> int:
    return long if LONG else short


def say(**figures: object) -> None:
    """Leave the figures with the test's output."""
    words = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
    sys.stderr.write(", ".join(words) + "\n")


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))] if values else 0.0
