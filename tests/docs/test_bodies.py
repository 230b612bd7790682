"""The page on what the provider posts: its examples and tables are what the parser says."""

import re
from pathlib import Path

import pytest

from bridge.model import InvalidState, State
from bridge.parse import parse

PAGE = (Path(__file__).parents[2] / "docs/bodies.md").read_text("utf-8")


def rows(header: str) -> list[tuple[str, str]]:
    table = PAGE.partition(f"| {header} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(.+)` \| (.+) \|$", table, re.MULTILINE)


VALUES = rows("a field holds")
IDS = rows("`id_sms` holds")


def said(state: State | InvalidState, value: str | None) -> str:
    """What the page says of a state."""
    if isinstance(state, InvalidState):
        return f"invalid: `{state.reason}`"
    return "none" if value is None else f"`{value}`"


def test_the_examples_of_both_forms_are_the_same_states() -> None:
    in_xml, in_json = (
        parse(re.findall(rf"```{form}\n(.+?)```", PAGE, re.DOTALL)[0].encode(), max_states=9)
        for form in ("xml", "json")
    )

    assert [state.id_sms for state in in_xml.states] == ["3234", "3235"]
    for one, other in zip(in_xml.states, in_json.states, strict=True):
        assert isinstance(one, State)
        assert isinstance(other, State)
        assert one._replace(element={}) == other._replace(element={})


def test_the_tables_are_there() -> None:
    assert len(VALUES) > 10
    assert len(IDS) > 4


@pytest.mark.parametrize(("written", "expected"), VALUES)
def test_a_value_is_what_the_table_says(written: str, expected: str) -> None:
    body = f'[{{"id_sms": "1", "state": "read", "x": {written}}}]'.encode()
    (state,) = parse(body, max_states=1).states

    value = state.values.get("x") if isinstance(state, State) else None
    assert said(state, value) == expected


@pytest.mark.parametrize(("written", "expected"), IDS)
def test_an_id_is_what_the_table_says(written: str, expected: str) -> None:
    (state,) = parse(f'[{{"id_sms": {written}, "state": "read"}}]'.encode(), max_states=1).states

    assert said(state, state.id_sms) == expected
