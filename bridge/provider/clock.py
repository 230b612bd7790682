"""Compares an account's clock with an endpoint's time zone. No I/O, and nothing is concluded.

A clock shows an offset, which many zones share, some of them for half of the year.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from bridge.errors import Fault, ProviderError

COMMON_ZONES = (
    *("UTC", "Europe/London", "Europe/Berlin", "Europe/Warsaw", "Europe/Kyiv", "Europe/Chisinau"),
    *("Europe/Istanbul", "Europe/Minsk", "Europe/Moscow", "Europe/Samara", "Asia/Tbilisi"),
    *("Asia/Yerevan", "Asia/Baku", "Asia/Dubai", "Asia/Yekaterinburg", "Asia/Tashkent"),
    *("Asia/Almaty", "Asia/Karachi", "Asia/Kolkata", "Asia/Dhaka", "Asia/Bangkok"),
    *("Asia/Novosibirsk", "Asia/Shanghai", "Asia/Singapore", "Asia/Tokyo", "Asia/Vladivostok"),
    *("Australia/Sydney", "America/Sao_Paulo", "America/New_York", "America/Los_Angeles"),
)
_DAY = timedelta(days=1)
_QUARTER = timedelta(minutes=15)  # every zone of today is so many of them from UTC
_HALF_YEAR = timedelta(days=182)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An account's clock beside a time zone's.

    `ahead` is how far the clock is ahead of the zone's local time. `offset` is the clock's from
    UTC, in whole quarters of an hour, `skew` what is left of it. `zones` are the common ones that
    have this offset now.
    """

    ahead: timedelta
    offset: timedelta
    skew: timedelta
    zones: Sequence[str]

    @property
    def fits(self) -> bool:
        """Whether the clock has the zone's offset."""
        return abs(self.ahead) <= _QUARTER / 2


def compare(text: str, timezone: tzinfo, now: datetime) -> Comparison:
    """Compare what the provider's clock says, with or without a date, with a zone's time.

    `now` is in UTC. Raises ProviderError if it is not a time.
    """
    expected = now.astimezone(timezone).replace(tzinfo=None)
    ahead = _ahead(text, expected)
    offset = expected + ahead - now.replace(tzinfo=None)
    quarters = round(offset / _QUARTER) * _QUARTER
    zones = [zone for zone in COMMON_ZONES if _offset(zone, now) == quarters]
    return Comparison(ahead, quarters, offset - quarters, zones)


def _ahead(text: str, expected: datetime) -> timedelta:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S") - expected  # noqa: DTZ007 - local
    except ValueError:
        pass
    try:
        time = datetime.strptime(text, "%H:%M:%S").time()  # noqa: DTZ007 - local
    except ValueError:
        what = f"the account's clock says {text!r:.64}, which is no time"
        raise ProviderError(Fault.FOREIGN, what) from None
    # Without a date it may be that of the day before or after.
    ahead = datetime.combine(expected.date(), time) - expected
    return (ahead + _DAY / 2) % _DAY - _DAY / 2


def _offset(zone: str, now: datetime) -> timedelta | None:
    return now.astimezone(ZoneInfo(zone)).utcoffset()


def differing(zones: Sequence[str], timezone: str, now: datetime) -> list[str]:
    """Those zones whose clocks agree with the endpoint's now, and not in half a year."""
    later = (now + _HALF_YEAR).astimezone(UTC)
    return [zone for zone in zones if _offset(zone, later) != _offset(timezone, later)]
