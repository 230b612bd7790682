"""The documents that are sent: the same for the same seed, and as the provider describes them."""

import json
import re
from itertools import islice, pairwise
from xml.etree import ElementTree as ET

from bridge.model import Form, State
from bridge.parse import parse
from bridge.simulate import (
    Plan,
    SentState,
    render,
    states,
)
from tests.simulate.receiver import plan


# The states.
def test_same_seed_gives_the_same_documents() -> None:
    first = render(states(plan("http://h/", 500)))
    assert first == render(states(plan("http://h/", 500)))
    assert first != render(states(plan("http://h/", 500, seed=8, first_id=7_000_000_001)))


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    shorter = list(states(plan("http://h/", 10)))
    assert shorter == list(islice(states(plan("http://h/", 99)), 10))


def test_different_seeds_share_no_id() -> None:
    """Not even neighbouring seeds with the longest runs."""
    longest = [Plan("http://h/", 10**9 - 1, seed=seed).ids for seed in (0, 1, 2, 2**32 - 1)]
    assert all(first.stop <= second.start for first, second in pairwise(longest))
    assert longest[-1].stop <= 2**63


def test_no_seed_draws_one_that_is_reported() -> None:
    drawn = Plan("http://h/", 3)
    assert drawn.seed is not None
    assert list(states(drawn)) == list(states(Plan("http://h/", 3, seed=drawn.seed)))
    assert drawn.ids != Plan("http://h/", 3).ids


def test_first_id_sets_the_ids_and_leaves_the_rest() -> None:
    moved = list(states(plan("http://h/", 3, first_id=40)))
    assert [state.id_sms for state in moved] == ["40", "41", "42"]
    assert [s.status for s in moved] == [s.status for s in states(plan("http://h/", 3))]


def test_states_are_what_the_provider_describes() -> None:
    """Statuses and times of provider-webhook, over SMS alone, Viber alone and both."""
    known = {"send", "not_deliver", "expired", "deliver", "read", "partly_deliver"}
    mix = list(states(plan("http://h/", 3000)))
    assert {state.status for state in mix} == known
    assert {(s.sms is None, s.viber is None) for s in mix} == {
        (False, True),
        (True, False),
        (False, False),
    }
    for state in mix:
        assert {state.sms, state.viber} <= known | {None}
        assert state.status in (state.sms, state.viber)
        assert (state.time == "") == (state.status == "send")
        assert re.fullmatch(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)?", state.time)


def test_states_are_made_one_by_one() -> None:
    """The first of a billion is there at once."""
    assert next(states(Plan("http://h/", 10**9 - 1, seed=3))).id_sms == "3000000001"


def test_render_is_the_providers_document() -> None:
    both = SentState("3234", "read", "2011-01-01 12:57:46", "deliver", "read")
    viber = SentState("3235", "send", "", None, "send")
    assert render([both, viber]) == (
        b'<?xml version="1.0" encoding="utf-8" ?>\n<response>\n'
        b'     <state id_sms="3234" time="2011-01-01 12:57:46" sms="deliver" viber="read">'
        b"read</state>\n"
        b'     <state id_sms="3235" time="" viber="send">send</state>\n'
        b"</response>\n"
    )


def test_render_in_json_is_the_providers_document() -> None:
    both = SentState("3234", "read", "2011-01-01 12:57:46", "deliver", "read")
    viber = SentState("3235", "send", "", None, "send")
    assert json.loads(render([both, viber], Form.JSON)) == [
        {
            "id_sms": "3234",
            "time": "2011-01-01 12:57:46",
            "sms": "deliver",
            "viber": "read",
            "state": "read",
        },
        {"id_sms": "3235", "time": "", "viber": "send", "state": "send"},
    ]


def test_both_forms_of_a_document_are_the_same_states() -> None:
    some = list(states(plan("http://h/", 200)))
    in_xml, in_json = (parse(render(some, form), max_states=200).states for form in Form)
    assert [s._replace(element={}) for s in in_xml if isinstance(s, State)] == [
        s._replace(element={}) for s in in_json if isinstance(s, State)
    ]
    assert len(in_xml) == 200


def test_render_escapes() -> None:
    odd = SentState("a\"'<&>é", "<&>é", "\"'", "<", "&")
    element = ET.fromstring(render([odd]))[0]
    assert element.attrib == {"id_sms": "a\"'<&>é", "time": "\"'", "sms": "<", "viber": "&"}
    assert element.text == "<&>é"
