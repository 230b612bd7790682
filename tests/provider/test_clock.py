"""The account's clock against an endpoint's time zone."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from bridge.errors import ProviderError
from bridge.provider.clock import COMMON_ZONES, compare, differing

WINTER = datetime(2026, 1, 15, 12, 0, 30, 500_000, tzinfo=UTC)
SUMMER = datetime(2026, 7, 15, 12, 0, 30, tzinfo=UTC)
MIDNIGHT = datetime(2026, 1, 15, 23, 59, 58, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "now", "fits", "hours"),
    [
        ("2026-01-15 14:00:30", "Europe/Kyiv", WINTER, True, 2),
        ("2026-07-15 15:00:29", "Europe/Kyiv", SUMMER, True, 3),
        ("2026-01-15 12:00:31", "Europe/Kyiv", WINTER, False, 0),
        ("2026-01-15 15:00:30", "Europe/Kyiv", WINTER, False, 3),
        ("2026-01-15 17:30:30", "Asia/Kolkata", WINTER, True, 5.5),
        ("2026-01-15 02:00:30", "Europe/Kyiv", WINTER, False, -10),
        ("14:00:30", "Europe/Kyiv", WINTER, True, 2),
        ("15:00:30", "Europe/Kyiv", WINTER, False, 3),
        ("00:00:01", "UTC", MIDNIGHT, True, 0),
        ("23:59:58", "UTC", MIDNIGHT + timedelta(seconds=4), True, 0),
        ("02:00:01", "Europe/Moscow", MIDNIGHT, False, 2),
    ],
)
def test_the_offset_is_found_with_and_without_a_date(
    text: str, zone: str, now: datetime, fits: bool, hours: float
) -> None:
    compared = compare(text, ZoneInfo(zone), now)
    assert compared.fits is fits
    assert compared.offset == timedelta(hours=hours)


def test_a_clock_that_is_a_little_off_still_fits() -> None:
    compared = compare("2026-01-15 14:03:30", ZoneInfo("Europe/Kyiv"), WINTER)
    assert compared.fits
    assert compared.skew == timedelta(minutes=3) - timedelta(milliseconds=500)


def test_zones_that_would_fit_are_named() -> None:
    zones = compare("2026-01-15 15:00:30", ZoneInfo("UTC"), WINTER).zones
    assert {"Europe/Istanbul", "Europe/Moscow", "Europe/Minsk"} == {*zones}


def test_zones_that_agree_today_alone_are_told_apart() -> None:
    """In summer Kyiv's clocks agree with Moscow's; in winter they do not."""
    fitting = compare("2026-07-15 15:00:30", ZoneInfo("Europe/Moscow"), SUMMER)
    assert fitting.fits
    assert "Europe/Kyiv" in differing(fitting.zones, "Europe/Moscow", SUMMER)
    assert "Europe/Minsk" not in differing(fitting.zones, "Europe/Moscow", SUMMER)


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01 00:00:00", "25:00:00", "12:00"])
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(ProviderError, match="is no time"):
        compare(text, ZoneInfo("UTC"), WINTER)


@pytest.mark.parametrize("zone", COMMON_ZONES)
def test_the_common_zones_exist(zone: str) -> None:
    assert ZoneInfo(zone).key == zone
