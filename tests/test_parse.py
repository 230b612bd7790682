import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import DocumentError
from bridge.event import event_id
from bridge.model import MEANINGS, WORDS, Document, InvalidState, Received, State
from bridge.parse import is_blank, limits, parse, received
from bridge.parse.states import CHANNELS

ANY = 1_000_000


def one(attributes: str = 'id_sms="1"', text: str = "read") -> State | InvalidState:
    """The one state of a document."""
    body = f"<response><state {attributes}>{text}</state></response>"
    (only,) = parse(body.encode(), max_states=ANY).states
    return only


def valid(attributes: str = 'id_sms="1"', text: str = "read") -> State:
    state = one(attributes, text)
    assert isinstance(state, State), state
    return state


def reason(attributes: str = 'id_sms="1"', text: str = "read") -> str:
    state = one(attributes, text)
    assert isinstance(state, InvalidState), state
    return state.reason


def refusal(body: bytes) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        parse(body, max_states=ANY)
    return caught.value


def ids(document: Document) -> list[str]:
    return [state.id_sms for state in document.states]


# --- limits ------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    """Elements within each other, the root counted."""
    return b"<response>" + b"<a>" * (depth - 1) + b"</a>" * (depth - 1) + b"</response>"


def test_depth_at_the_limit_and_one_beyond() -> None:
    assert parse(nested(limits.MAX_DEPTH), max_states=ANY).states == ()
    assert refusal(nested(limits.MAX_DEPTH + 1)).reason == "too_deep"


def test_elements_at_the_limit_and_one_beyond() -> None:
    """The root is one of them."""
    at_limit = b"<response>" + b"<a/>" * (limits.MAX_ELEMENTS - 1)

    assert parse(at_limit + b"</response>", max_states=ANY).states == ()
    assert refusal(at_limit + b"<a/></response>").reason == "too_many_elements"


def test_deep_nesting_is_refused_before_it_costs_anything() -> None:
    assert refusal(b"<response>" + b"<a>" * 1_000_000).reason == "too_deep"


def test_attributes_at_the_limit_and_one_beyond() -> None:
    """The id is one of them."""
    at_limit = 'id_sms="1" ' + " ".join(f'a{n}="x"' for n in range(limits.MAX_ATTRIBUTES - 1))

    assert len(valid(at_limit).values) == limits.MAX_ATTRIBUTES - 1
    assert reason(at_limit + ' b=""') == "too_many_attributes"


def test_an_attributes_name_at_the_limit_and_one_beyond() -> None:
    name = "n" * limits.MAX_NAME_CHARACTERS

    assert valid(f'id_sms="1" {name}="x"').values == {name: "x"}
    assert reason(f'id_sms="1" {name}n="x"') == "attribute_too_long"
    assert reason(f'id_sms="1" xmlns:{name}="x"') == "attribute_too_long"


@pytest.mark.parametrize("name", ["note", "time", "sms"])
def test_an_attributes_value_at_the_limit_and_one_beyond(name: str) -> None:
    value = "ї" * limits.MAX_VALUE_CHARACTERS

    assert valid(f'id_sms="1" {name}="{value}"').element[f"@{name}"] == value
    assert reason(f'id_sms="1" {name}="{value}ї"') == "attribute_too_long"


def test_a_text_at_the_limit_and_one_beyond() -> None:
    text = "read".center(limits.MAX_VALUE_CHARACTERS)

    assert valid(text=text).status == "read"
    assert reason(text=text + " ") == "text_too_long"


def test_an_id_at_the_limit_and_one_beyond() -> None:
    assert valid(f'id_sms="{"9" * 64}"').id_sms == "9" * 64
    assert reason(f'id_sms="{"9" * 65}"') == "invalid_id"


def test_a_status_at_the_limit_and_one_beyond() -> None:
    assert valid(text="s" * 64).status == "s" * 64
    assert reason(text="s" * 65) == "invalid_status"


# --- encodings ---------------------------------------------------------------------------

CODECS = {
    **dict.fromkeys(("utf-8", "UTF-8", "utf8", "UTF8", "utf_8"), "utf-8"),
    **dict.fromkeys(("us-ascii", "US-ASCII", "ascii"), "ascii"),
    **{f"ISO-8859-{n}": f"iso8859-{n}" for n in range(1, 17) if n != 12},
    "latin1": "latin-1",
    **{f"windows-{n}": f"cp{n}" for n in range(1250, 1259)},
    "Windows-1251": "cp1251",
    "cp1251": "cp1251",
    "CP1251": "cp1251",
    "KOI8-R": "koi8-r",
    "koi8-u": "koi8-u",
    "cp866": "cp866",
    "IBM866": "cp866",
}


def declared(encoding: str, note: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="{encoding}"?>'
        f'<response><state id_sms="1" note="{note}">read</state></response>'
    )


def beyond_ascii(codec: str) -> str:
    """Every character of the upper half that XML can hold."""
    if codec == "ascii":
        return "plain"
    if codec == "utf-8":
        return "Їжак 😀"
    decoded = bytes(range(0xA0, 0x100)).decode(codec, "ignore")
    return "".join(c for c in decoded if c > "\x9f")


@pytest.mark.parametrize(("name", "codec"), CODECS.items())
def test_an_accepted_encoding_is_read_as_declared(name: str, codec: str) -> None:
    note = beyond_ascii(codec)

    (state,) = parse(declared(name, note).encode(codec), max_states=ANY).states

    assert isinstance(state, State)
    assert state.values == {"note": note.strip()}


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("around", ["", "\0", "\r\n ", "\0\n\0"])
@pytest.mark.parametrize("name", ["UTF-16", "utf-16le", "UTF-16BE", "utf16"])
def test_utf_16_is_read_in_both_orders(codec: str, mark: str, around: str, name: str) -> None:
    """With a mark or without, and with what senders leave around the document."""
    body = (mark + around + declared(name, "Їжак 😀") + around).encode(codec)

    (state,) = parse(body, max_states=ANY).states

    assert isinstance(state, State)
    assert state.values == {"note": "Їжак 😀"}


@pytest.mark.parametrize(
    "name",
    [
        *("unicode_escape", "raw_unicode_escape", "unicode-escape", "utf-7", "UTF-7"),
        *("idna", "punycode", "base64", "hex", "rot13", "rot_13", "zlib", "bz2", "quopri", "uu"),
        *("undefined", "mbcs", "utf-8-sig", "utf-32", "ucs-4", "utf-16-x", "cp037", "ebcdic"),
        *("big5", "gb18030", "shift_jis", "euc-jp", "iso-2022-jp", "iso-8859-12", "iso-8859-17"),
        *("windows-874", "windows-1249", "windows-1259", "cp65001", "x", "..", "none", ""),
    ],
)
def test_any_other_encoding_is_refused(name: str) -> None:
    """Python knows more codecs than XML has encodings."""
    assert refusal(declared(name).encode()).reason == "encoding"


@pytest.mark.parametrize("name", ["UTF-16", "utf-16le", "UTF-16BE", "utf16"])
def test_utf_16_that_is_not_is_refused(name: str) -> None:
    assert refusal(declared(name).encode()).reason == "encoding"


@pytest.mark.parametrize("name", ["utf-8", "windows-1251", "us-ascii"])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_another_encoding_that_is_utf_16_is_refused(name: str, codec: str, mark: str) -> None:
    assert refusal((mark + declared(name)).encode(codec)).reason == "encoding"


@pytest.mark.parametrize(
    "body",
    [
        declared("utf-8", "ї").encode("cp1251"),
        declared("us-ascii", "ї").encode(),
        b"<response>\xc0\xaf</response>",
        b"<response>\xed\xa0\x80</response>",
        b"<response>\xf5\x80\x80\x80</response>",
        b"\xff\xfe<\0r\0\x00\xd8",
        b"\xfe\xff\0<\0",
        declared("utf-16").encode("utf-32"),
    ],
)
def test_bytes_that_the_encoding_cannot_be_are_refused(body: bytes) -> None:
    assert refusal(body).reason in {"encoding", "not_xml"}


def test_a_detail_stays_short_whatever_was_sent() -> None:
    """It goes into the answer, the log and the dead letter, which has a limit."""
    for body in (
        declared("A" * 2_000_000).encode(),
        b"<" + b"r" * 2_000_000 + b"/>",
        b"<response>&" + b"e" * 2_000_000 + b";</response>",
    ):
        assert len(refusal(body).detail) < 500


def test_details_of_a_state_stay_short_whatever_was_sent() -> None:
    long = "n" * 100_000
    for state in (
        one(f'id_sms="1" {long}="x"'),
        one(f'id_sms="1" x="{long}"'),
        one(text=f"<{long}/>"),
        one(text=long),
        one(f'id_sms="{long}"'),
    ):
        assert isinstance(state, InvalidState)
        assert len(state.detail) < 500


# --- what no honest document holds -------------------------------------------------------


@pytest.mark.parametrize(
    "doctype",
    [
        "<!DOCTYPE response>",
        "<!DOCTYPE response []>",
        '<!DOCTYPE response SYSTEM "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE response PUBLIC "-//X//Y" "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE response SYSTEM "file:///etc/hostname" []>',
        '<!DOCTYPE response [<!ENTITY e "read">]>',
        '<!DOCTYPE response [<!ENTITY e SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE response [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p"> %p;]>',
        '<!DOCTYPE response [<!ATTLIST state id_sms CDATA "666">]>',
        "<!DOCTYPE response [<!ELEMENT response ANY>]>",
        '<!DOCTYPE response [<!NOTATION n SYSTEM "x">]>',
        "<!DOCTYPE html>",
    ],
)
def test_every_document_type_declaration_is_refused(doctype: str) -> None:
    body = f'<?xml version="1.0"?>\n{doctype}<response><state id_sms="1">read</state></response>'

    error = refusal(body.encode())

    assert error.reason == "doctype"
    assert error.line == 2


@pytest.mark.parametrize("name", ["e", "nbsp", "copy", "eacute"])
def test_an_entity_that_nobody_declared_is_refused(name: str) -> None:
    body = f'<response><state id_sms="1">read&{name};</state></response>'

    assert refusal(body.encode()).reason == "not_xml"


@pytest.mark.parametrize(
    "body",
    [
        b"<state/>",
        b"<other><state/></other>",
        b"<response><a><state/></a></response>",
        b"<response><state><state/></state></response>",
        b"<response><state><a><state/></a></state></response>",
    ],
)
def test_a_state_elsewhere_than_right_under_the_root_is_refused(body: bytes) -> None:
    assert refusal(body).reason in {"misplaced_state", "wrong_root"}


@pytest.mark.parametrize("root", ["response", "request"])
def test_both_roots_are_read(root: str) -> None:
    (state,) = parse(
        f'<{root}><state id_sms="1">read</state></{root}>'.encode(), max_states=1
    ).states

    assert state.id_sms == "1"


@pytest.mark.parametrize("root", ["responses", "Response", "x:response", "html", "a", "requests"])
def test_another_root_is_refused(root: str) -> None:
    assert refusal(f"<{root}/>".encode()).reason == "wrong_root"


@pytest.mark.parametrize("body", [b"<a/>", b"{}", b"id_sms=1", b"<response>", b"\x1f\x8b\x08"])
def test_a_refusal_says_what_was_expected(body: bytes) -> None:
    """It is in the answer and in the log: whoever looks need not know the contract."""
    assert "expected is XML with the root <response> or <request>" in str(refusal(body))


def test_a_refused_encoding_says_which_are_accepted() -> None:
    assert "expected is UTF-8, UTF-16" in str(refusal(declared("utf-7").encode()))


@pytest.mark.parametrize(
    "inner",
    [
        "<error>wrong login</error>",
        "<error/>",
        "ERROR 5",
        "<![CDATA[x]]>",
        "<a/><b/>",
        "<time>2012-12-17</time>\n",
    ],
)
def test_a_document_without_states_but_with_something_else_is_foreign(inner: str) -> None:
    for root in (f"<response>{inner}</response>", f"<request>{inner}</request>"):
        assert parse(root.encode(), max_states=ANY).is_foreign
    with_state = f'<response>{inner}<state id_sms="1">read</state></response>'
    assert not parse(with_state.encode(), max_states=ANY).is_foreign


@pytest.mark.parametrize(
    "body",
    [
        "<response/>",
        "<response>\n </response>",
        "<request xmlns='u' xml:lang='uk'><!-- --></request>",
    ],
)
def test_an_empty_document_is_not_foreign(body: str) -> None:
    assert not parse(body.encode(), max_states=ANY).is_foreign


def test_an_attribute_of_the_root_is_something_else() -> None:
    assert parse(b'<response status="error"/>', max_states=ANY).is_foreign


def test_a_refusal_names_the_line() -> None:
    assert refusal(b"<response>\n\n<a></response>").line == 3


def test_a_refusal_leaves_nothing_behind() -> None:
    """The next document is read as if there had been none."""
    for body in (nested(20), b"<!DOCTYPE response><response/>", b"<response>"):
        refusal(body)
    assert valid().id_sms == "1"


# --- namespaces, CDATA, comments ---------------------------------------------------------


def test_a_namespace_on_root_or_state_changes_nothing() -> None:
    body = b'<response xmlns="urn:a"><state xmlns:b="urn:b" id_sms="1">read</state></response>'

    (state,) = parse(body, max_states=ANY).states

    assert isinstance(state, State)
    assert (state.id_sms, state.values, state.channels) == ("1", {}, {})


def test_xml_and_xmlns_attributes_are_no_attributes_of_the_state() -> None:
    state = valid('id_sms="1" xmlns="urn:a" xmlns:b="urn:b" xml:lang="uk" xml:space="preserve"')

    assert state.values == {}


@pytest.mark.parametrize(
    "text",
    [
        "<![CDATA[read]]>",
        "re<![CDATA[ad]]>",
        "re<!-- a -->ad",
        "<?a b?>read<!-- > -->",
        "&#114;&#x65;ad",
        "<![CDATA[]]>read<![CDATA[\n]]>",
    ],
)
def test_the_text_is_one_however_it_is_cut(text: str) -> None:
    assert valid(text=text).status == "read"


def test_a_state_within_a_comment_or_cdata_is_none() -> None:
    body = b"<response><!-- <state/> --><![CDATA[<state/>]]><?state?></response>"

    assert parse(body, max_states=ANY).states == ()


# --- states ------------------------------------------------------------------------------


def test_the_words_of_the_providers_page_are_known() -> None:
    assert {"send", "not_deliver", "expired", "deliver", "read", "partly_deliver"} < set(MEANINGS)
    assert {"sms", "viber"} == CHANNELS


def test_values_are_trimmed_and_words_lower_cased() -> None:
    state = valid('id_sms=" a-B " time=" t " sms=" Odd " viber="READ" rcs=" Expired "', " Read ")

    assert (state.id_sms, state.status, state.raw_time) == ("a-B", "read", "t")
    assert state.channels == {"rcs": "expired", "sms": "odd", "viber": "read"}
    assert state.values == {"rcs": "Expired", "sms": "Odd", "viber": "READ"}


def test_the_received_values_are_untouched() -> None:
    state = valid('id_sms=" 1 " time=" " sms=" READ "', "\n Read ")

    assert received(state.element) == Received(
        {"id_sms": " 1 ", "time": " ", "sms": " READ "}, "\n Read "
    )


def test_id_and_time_are_never_channels() -> None:
    state = valid('id_sms="read" time="read"', "send")

    assert (state.channels, state.raw_time) == ({}, "read")


def test_an_unknown_attribute_with_an_unknown_word_is_no_channel() -> None:
    assert valid('id_sms="1" rcs="blocked"').values == {"rcs": "blocked"}
    assert reason('id_sms="1" rcs="blocked"', "") == "missing_status"


def test_which_words_are_known_decides_on_channels_and_on_nothing_else() -> None:
    """A word that is added to the configuration must not make other events of the same states."""
    body = b'<response><state id_sms="1" rcs="Seen" vk="read" note="seen">read</state></response>'

    (plain,) = parse(body, max_states=1).states
    (configured,) = parse(body, max_states=1, statuses=WORDS | {"seen"}).states

    assert isinstance(plain, State)
    assert isinstance(configured, State)
    assert plain.channels == {"vk": "read"}
    assert configured.channels == {"note": "seen", "rcs": "seen", "vk": "read"}
    assert configured._replace(channels=plain.channels) == plain
    assert event_id("urn:s", configured) == event_id("urn:s", plain)


@pytest.mark.parametrize("id_sms", ["a/b", "1 2", "№", "1\u200b", "a:b", "٣", "é"])
def test_other_ids_are_invalid_and_keep_their_trimmed_value(id_sms: str) -> None:
    state = one(f'id_sms=" {id_sms} "')

    assert isinstance(state, InvalidState)
    assert (state.id_sms, state.reason) == (id_sms, "invalid_id")


@pytest.mark.parametrize("status", ["not deliver", "read.", "deliver-ed", "читано", "ok!"])
def test_other_statuses_are_invalid(status: str) -> None:
    assert reason(text=status) == "invalid_status"


def test_the_id_of_an_invalid_state_is_kept_whatever_else_is_wrong() -> None:
    """It decides whether the other states of that id may be acknowledged."""
    for state in (one(text=""), one(text="<a/>"), one(text="a b"), one(text="s" * 5000)):
        assert isinstance(state, InvalidState)
        assert state.id_sms == "1"


# --- how many ----------------------------------------------------------------------------


def document(*id_sms: str) -> bytes:
    states = "".join(f'<state id_sms="{one_id}">read</state>' for one_id in id_sms)
    return f"<response>{states}</response>".encode()


def test_states_past_the_limit_leave_only_their_ids() -> None:
    parsed = parse(document("1", "2", "3", "2", " 4 "), max_states=2)

    assert ids(parsed) == ["1", "2"]
    assert parsed.unprocessed_ids == ("3", "2", "4")


def test_states_at_the_limit_are_all_processed() -> None:
    parsed = parse(document("1", "2"), max_states=2)

    assert ids(parsed) == ["1", "2"]
    assert parsed.unprocessed_ids == ()


def test_repeated_states_are_all_there_in_order() -> None:
    assert ids(parse(document("2", "1", "2"), max_states=ANY)) == ["2", "1", "2"]


# --- blank bodies ------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b" \r\n\t", b"\0", b"\xef\xbb\xbf", b"\n\xef\xbb\xbf\0 "])
def test_nothing_is_blank(body: bytes) -> None:
    assert is_blank(body)


@pytest.mark.parametrize("body", [b".", b"<response/>", b"\0x\0", b"\xef\xbb\xbf<"])
def test_something_is_not_blank(body: bytes) -> None:
    assert not is_blank(body)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\n\0", b"\xfe\xff\0 \0\n"])
def test_a_mark_of_utf_16_and_white_space_are_blank_too(body: bytes) -> None:
    assert is_blank(body)


@pytest.mark.parametrize("body", [b"\xbb", b"\xbf\xbf", b"\xef"])
def test_a_part_of_a_mark_is_not_blank(body: bytes) -> None:
    """Garbage is a body, to be kept for a look."""
    assert not is_blank(body)


# --- nothing else escapes ----------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        *(b"<response>", b"</response>", b"<state", b"<state>", b"</state>", b"/>", b">", b"<a>"),
        *(b' id_sms="1"', b' time=""', b' sms="read"', b" x='", b"read", b"&amp;", b"&x;", b"&#0;"),
        *(b"<!DOCTYPE response", b"[<!ENTITY e 'x'>]", b"<![CDATA[", b"]]>", b"<!--", b"-->"),
        *(b"<?xml version='1.0'", b" encoding='utf-16'", b" encoding='koi8-r'", b"?>", b"<?a?>"),
        *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\0", b"<\0", b"\xd8", b"\n", b"\xf0\x9f"),
    ]
)


def read(body: bytes) -> Document | DocumentError:
    try:
        return parse(body, max_states=3)
    except DocumentError as error:
        return error


@settings(deadline=None)  # a loaded machine is no failure
@given(st.one_of(st.binary(max_size=200), st.lists(FRAGMENTS, max_size=20).map(b"".join)))
def test_any_bytes_are_a_document_or_a_refusal(body: bytes) -> None:
    """No other error may escape: it would be a 500, without a dead letter."""
    result = read(body)

    if isinstance(result, Document):
        assert len(result.states) <= 3
    else:
        assert result.reason
        assert result.detail


@settings(deadline=None)  # a loaded machine is no failure
@given(
    st.sampled_from(["utf-8", "utf-16", "windows-1251", "koi8-r", "us-ascii", "iso-8859-8"]),
    st.binary(max_size=60),
)
def test_any_bytes_in_a_declared_document_are_a_document_or_a_refusal(
    encoding: str, content: bytes
) -> None:
    head = f'<?xml version="1.0" encoding="{encoding}"?><response><state id_sms="1">'

    assert isinstance(
        read(head.encode() + content + b"</state></response>"), Document | DocumentError
    )
