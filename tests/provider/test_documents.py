"""What is asked of the provider's API, and what its answers say of themselves."""

import json
import xml.etree.ElementTree as ET

import pytest

from bridge.config.settings import Provider
from bridge.errors import Fault, ProviderError
from bridge.parse import parse
from bridge.provider.documents import (
    clock_request,
    local_time,
    refusal,
    states_document,
    states_request,
)

URL = "https://provider.example.com/xml"
HOSTILE = "a\"b'c<d>e&f"


def account(**given: str) -> Provider:
    return Provider.model_validate({"url": URL} | given)


def test_it_asks_as_the_provider_documents_it() -> None:
    asked = states_request(account(token="t"), ["3234", "3235"])
    assert asked.decode() == (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<request><security><token value="t"/></security>'
        "<get_state><id_sms>3234</id_sms><id_sms>3235</id_sms></get_state></request>"
    )
    assert clock_request(account(login="l", password="p")).decode() == (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<request><security><login value="l"/><password value="p"/></security></request>'
    )


@pytest.mark.parametrize("given", [{"token": HOSTILE}, {"login": HOSTILE, "password": HOSTILE}])
def test_no_credential_can_end_its_attribute(given: dict[str, str]) -> None:
    root = ET.fromstring(states_request(account(**given), ["<1/>"]))
    security = root.find("security")
    assert security is not None
    assert {element.tag: element.get("value") for element in security} == given
    assert root.findtext("get_state/id_sms") == "<1/>"


def test_the_json_form_names_the_account_in_each_object() -> None:
    asked = json.loads(states_request(account(token="t", format="json"), ["3234", "0042", "a"]))
    assert asked == [
        {"token": "t", "id_sms": 3234, "detail": 0},
        {"token": "t", "id_sms": "0042", "detail": 0},
        {"token": "t", "id_sms": "a", "detail": 0},
    ]
    assert json.loads(clock_request(account(login="l", password="p", format="json"))) == {
        "login": "l",
        "password": "p",
    }


@pytest.mark.parametrize(
    ("id_sms", "written"),
    [("0", 0), (str(2**63 - 1), 2**63 - 1), (str(2**63), str(2**63)), ("9" * 22, "9" * 22)],
)
def test_an_id_is_a_number_where_that_is_the_same_id(id_sms: str, written: object) -> None:
    (asked,) = json.loads(states_request(account(token="t", format="json"), [id_sms]))
    assert asked["id_sms"] == written


@pytest.mark.parametrize(
    ("form", "body", "said"),
    [
        ("xml", b"<response><error>Incorrect login</error></response>", "Incorrect login"),
        ("xml", b"\n <?xml version='1.0'?><response><error/></response>", None),
        ("xml", b"<response><state id_sms='1'>read</state></response>", None),
        ("xml", b"<other><error>x</error></other>", None),
        ("xml", b"not XML", None),
        ("json", b'{"error": "Your account is locked"}', "Your account is locked"),
        ("json", b'[{"error": "Your account is locked"}]', "Your account is locked"),
        ("json", b'[{"id_sms": 1, "state": "read"}]', None),
        ("json", b"[]", None),
        ("json", b"null", None),
        ("json", b"[" * 100_000, None),
    ],
)
def test_a_refusal_is_found_where_the_provider_writes_it(
    form: str, body: bytes, said: str | None
) -> None:
    assert (refusal(form, body) or None) == said


def test_the_clock_s_time_is_found() -> None:
    xml = b"<response><time>2012-12-17 18:34:27</time></response>"
    assert local_time("xml", xml) == "2012-12-17 18:34:27"
    assert local_time("json", b'{"time": "15:34:05"}') == "15:34:05"
    with pytest.raises(ProviderError, match="there is no time in it") as caught:
        local_time("xml", b"<response/>")
    assert caught.value.fault is Fault.FOREIGN


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html/>", b"<!DOCTYPE html><html></html>", b"<response>"),
        b"<response><money>7</money></response>",
    ],
)
def test_what_is_not_the_provider_s_document_is_no_answer(body: bytes) -> None:
    with pytest.raises(ProviderError, match="not the provider's API in XML") as caught:
        states_document("xml", body)
    assert caught.value.fault is Fault.FOREIGN


def test_a_state_of_the_json_api_is_the_one_that_a_webhook_would_have_brought() -> None:
    """Its time has another name there, and a number's digits are part of an event's identity."""
    asked = b"""[{"id_sms": 82216, "time_change_state": "2021-04-26 15:15:03",
        "state": "deliver", "price": 10.6000000, "num_parts": 1}]"""
    posted = b"""[{"id_sms": "82216", "time": "2021-04-26 15:15:03",
        "state": "deliver", "price": 10.6000000, "num_parts": 1}]"""
    answered = parse(states_document("json", asked), max_states=10).states
    assert answered == parse(posted, max_states=10).states


def test_a_text_that_quotes_the_name_of_the_time_stays_as_it_is() -> None:
    body = rb'[{"id_sms": 1, "state": "send", "note": "\"time_change_state\": 1"}]'
    assert states_document("json", body) == body


def test_no_states_at_all_are_an_answer() -> None:
    assert states_document("xml", b"<response/>") == b"<response/>"
    assert states_document("json", b"[]") == b"[]"
