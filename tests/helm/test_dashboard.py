"""The dashboard is what Grafana's own types say: its panels, their options, its variables.

Grafana itself is not run. That each query has data is seen in test_prometheus.py.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helm.conftest import GRAFANA
from tests.support.npm import Packages
from tests.support.prometheus import dashboard

KINDS = {"row", "stat", "table", "timeseries"}


def problems(types: Packages, written: dict[str, Any], directory: Path) -> list[str]:
    source = (GRAFANA / "dashboard.ts").read_text("utf-8")
    return types.compile(source.replace("{} /* dashboard */", json.dumps(written)), directory)


def panel(written: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in written["panels"] if each["type"] == kind)
    return found


def test_grafana_s_types_take_it(grafana_types: Packages, tmp_path: Path) -> None:
    assert {each["type"] for each in dashboard()["panels"]} == KINDS
    assert problems(grafana_types, dashboard(), tmp_path) == []


def with_an_option_of_none(written: dict[str, Any]) -> None:
    panel(written, "stat")["options"]["colourMode"] = "background"


def with_a_word_of_none(written: dict[str, Any]) -> None:
    panel(written, "timeseries")["options"]["legend"]["placement"] = "left"


def with_a_text_for_a_number(written: dict[str, Any]) -> None:
    panel(written, "table")["gridPos"]["w"] = "12"


def with_a_field_of_none(written: dict[str, Any]) -> None:
    panel(written, "timeseries")["fieldConfig"]["defaults"]["custom"]["lineColour"] = "red"


def with_a_panel_of_none(written: dict[str, Any]) -> None:
    panel(written, "stat")["type"] = "singlestat"


def with_a_variable_of_none(written: dict[str, Any]) -> None:
    written["templating"]["list"][0]["refresh"] = "always"


@pytest.mark.parametrize(
    "spoil",
    [
        with_an_option_of_none,
        with_a_word_of_none,
        with_a_text_for_a_number,
        with_a_field_of_none,
        with_a_panel_of_none,
        with_a_variable_of_none,
    ],
)
def test_grafana_s_types_refuse_what_is_wrong(
    grafana_types: Packages, tmp_path: Path, spoil: Callable[[dict[str, Any]], None]
) -> None:
    written = dashboard()
    spoil(written)

    assert problems(grafana_types, written, tmp_path)


def test_panels_have_places_and_ids_of_their_own() -> None:
    """Within the grid's 24 columns, none over another: Grafana would move them."""
    panels = dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    for each in panels:
        x, y, w, h = (each["gridPos"][name] for name in "xywh")
        cells = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert x + w <= 24
        assert not cells & taken, each["title"]
        taken |= cells

    assert len({each["id"] for each in panels}) == len(panels)
