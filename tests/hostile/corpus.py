"""Hostile bodies and what each is answered: small ones by value, large ones made on demand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

LARGE_BYTES = 4 * 1024 * 1024  # the shipped `max_body_bytes`

STATE = '<state id_sms="1">read</state>'
DOCUMENT = f"<response>{STATE}</response>"
DECLARED = '<?xml version="1.0" encoding="{}"?>'


@dataclass(frozen=True, slots=True)
class Expected:
    """The answer's status and ids, with Kafka taking everything."""

    status: int
    ids: tuple[str, ...] = ()


REFUSED = Expected(400)
NOTHING = Expected(200)
ONE = Expected(200, ("1",))

Case = tuple[bytes, Expected]


def _state(id_sms: str, status: str = "read") -> bytes:
    return f'<response><state id_sms="{id_sms}">{status}</state></response>'.encode()


def _in(declared: str, codec: str, text: str = DOCUMENT) -> bytes:
    return (DECLARED.format(declared) + text).encode(codec)


def _with_doctype(subset: str, inner: str = STATE) -> bytes:
    return f"<!DOCTYPE response {subset}><response>{inner}</response>".encode()


LOL = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "lol"}">' for i in range(10))

DOCTYPES: Mapping[str, Case] = {
    "billion_laughs": (_with_doctype(f"[{LOL}]", "&l9;"), REFUSED),
    "quadratic_blowup": (_with_doctype(f'[<!ENTITY a "{"a" * 9000}">]', "&a;" * 900), REFUSED),
    "external_entity": (_with_doctype('[<!ENTITY x SYSTEM "file:///etc/passwd">]', "&x;"), REFUSED),
    "external_subset": (_with_doctype('SYSTEM "http://127.0.0.1:9/x.dtd"'), REFUSED),
    "public_subset": (_with_doctype('PUBLIC "-//X//X" "http://127.0.0.1:9/x.dtd"'), REFUSED),
    "parameter_entity": (_with_doctype('[<!ENTITY % p SYSTEM "file:///dev/zero">%p;]'), REFUSED),
    "attribute_list": (_with_doctype('[<!ATTLIST state id_sms CDATA "666">]', "<state/>"), REFUSED),
    "recursive_entity": (_with_doctype('[<!ENTITY a "&b;"><!ENTITY b "&a;">]', "&a;"), REFUSED),
    "empty_subset": (_with_doctype("[]"), REFUSED),
    "after_comment": (b"<!-- --><!DOCTYPE response><response/>", REFUSED),
    "lower_case": (b"<!doctype response><response/>", REFUSED),
    "within_root": (b"<response><!DOCTYPE x></response>", REFUSED),
    "in_utf_16": (_with_doctype(f"[{LOL}]", "&l9;").decode().encode("utf-16"), REFUSED),
    "html_entity": (b'<response><state id_sms="1">&nbsp;read</state></response>', REFUSED),
}

CHARACTERS: Mapping[str, Case] = {
    "nul_in_id": (_state("1\0"), REFUSED),
    "nul_in_text": (_state("1", "re\0ad"), REFUSED),
    "nul_in_tag": (b'<resp\0onse><state id_sms="1">read</state></response>', REFUSED),
    "nul_by_reference": (_state("1&#0;"), REFUSED),
    "control_character": (_state("1\x08"), REFUSED),
    "control_by_reference": (_state("1&#8;"), REFUSED),
    "surrogate_by_reference": (_state("&#xD83D;&#xDE00;"), REFUSED),
    "noncharacter_by_reference": (_state("&#xFFFF;"), REFUSED),
    "beyond_unicode": (_state("&#x110000;"), REFUSED),
    "huge_reference": (_state(f"&#{'9' * 5000};"), REFUSED),
    "delete_and_c1": (_state("\x7f\x9f"), Expected(200, ("\x7f\x9f",))),
    "overlong_slash": (b"<response>\xc0\xaf</response>", REFUSED),
    "overlong_less_than": (b'\xc0\xbcresponse><state id_sms="1">read</state></response>', REFUSED),
    "overlong_nul": (b'<response><state id_sms="1\xc0\x80">read</state></response>', REFUSED),
    "utf_8_surrogates": (b"<response>\xed\xa0\xbd\xed\xb8\x80</response>", REFUSED),
    "five_byte_utf_8": (b"<response>\xf8\x88\x80\x80\x80</response>", REFUSED),
    "beyond_unicode_bytes": (b"<response>\xf4\x90\x80\x80</response>", REFUSED),
    "cut_utf_8": (b"<response>\xe2\x82</response>", REFUSED),
    "lone_continuation": (b"<response>\x80</response>", REFUSED),
    "noncharacter": ("<response>\ufffe</response>".encode(), REFUSED),
}

ENCODINGS: Mapping[str, Case] = {
    "utf_7": (_in("utf-7", "utf-7"), REFUSED),
    "utf_7_undeclared": (f"+ADw-response+AD4-{STATE}".encode("ascii"), REFUSED),
    "utf_32": (_in("utf-32", "utf-32"), REFUSED),
    "utf_32_be": (_in("utf-32be", "utf-32-be"), REFUSED),
    "utf_32_undeclared": (DOCUMENT.encode("utf-32"), REFUSED),
    "ebcdic": (_in("cp037", "cp037"), REFUSED),
    "ebcdic_declared_in_ascii": (_in("ebcdic-cp-us", "ascii"), REFUSED),
    "unicode_escape": (_in("unicode_escape", "ascii"), REFUSED),
    "python_codec_rot13": (_in("rot13", "ascii"), REFUSED),
    "python_codec_zip": (_in("zip", "ascii"), REFUSED),
    "python_codec_undefined": (_in("undefined", "ascii"), REFUSED),
    "path_as_encoding": (_in("../../x", "ascii"), REFUSED),
    "long_encoding": (_in("a" * 100_000, "ascii"), REFUSED),
    "multibyte_gb18030": (_in("gb18030", "gb18030"), REFUSED),
    "shift_jis": (_in("shift_jis", "ascii"), REFUSED),
    "utf_16_lone_surrogate": (
        b"\xff\xfe" + "<response>".encode("utf-16-le") + b"\x3d\xd8" + b"<\0/\0",
        REFUSED,
    ),
    "utf_16_reversed_pair": (
        "<response>\udc00\ud800</response>".encode("utf-16", "surrogatepass"),
        REFUSED,
    ),
    "utf_16_odd_length": (DOCUMENT.encode("utf-16") + b"x", REFUSED),
    "utf_16_with_terminator": (DOCUMENT.encode("utf-16") + b"\0\0\0", ONE),
    "utf_16_mark_on_utf_8": (b"\xff\xfe" + DOCUMENT.encode(), REFUSED),
    "utf_8_mark_on_utf_16": (b"\xef\xbb\xbf" + DOCUMENT.encode("utf-16-le"), REFUSED),
    "both_marks": (b"\xff\xfe\xfe\xff" + DOCUMENT.encode("utf-16-le"), REFUSED),
    "two_utf_16_marks": (b"\xff\xfe\xff\xfe" + DOCUMENT.encode("utf-16-le"), ONE),
    "utf_16_declared_as_latin_1": (_in("iso-8859-1", "utf-16"), REFUSED),
    "latin_1_declared_as_utf_16": (_in("utf-16", "latin-1"), REFUSED),
    "ascii_that_is_not": (_in("us-ascii", "utf-8", f"<response>\u20ac{STATE}</response>"), REFUSED),
    "windows_1252_hole": (
        _in("windows-1252", "ascii", f"<response>%{STATE}</response>").replace(b"%", b"\x81"),
        REFUSED,
    ),
    "several_marks": (b"\xef\xbb\xbf\0\n\xef\xbb\xbf" + DOCUMENT.encode() + b"\0\xef\xbb\xbf", ONE),
    "marks_alone": (b"\xef\xbb\xbf\xff\xfe\xfe\xff\0 \n", REFUSED),
    "xml_1_1": (f'<?xml version="1.1"?>{DOCUMENT}'.encode(), ONE),
    "xml_2_0": (f'<?xml version="2.0"?>{DOCUMENT}'.encode(), ONE),
    "xml_1_1_control": (b'<?xml version="1.1"?><response>&#1;</response>', REFUSED),
    "two_declarations": (DECLARED.format("utf-8").encode() * 2 + b"<response/>", REFUSED),
    "declaration_upper_case": (b'<?XML version="1.0"?><response/>', REFUSED),
    "encoding_in_instruction": (f'<?xmlx encoding="rot13"?>{DOCUMENT}'.encode(), ONE),
    "encoding_in_comment": (f'<!--<?xml encoding="rot13"?>-->{DOCUMENT}'.encode(), ONE),
}

IDS: Mapping[str, Case] = {
    "markup": (
        _state("&lt;/id_sms&gt;&lt;id_sms&gt;2"),
        Expected(200, ("</id_sms><id_sms>2",)),
    ),
    "section_end": (_state("]]&gt;"), Expected(200, ("]]>",))),
    "section_end_unescaped": (b"<response><state>]]></state></response>", REFUSED),
    "carriage_return": (_state("a&#13;b"), Expected(200, ("a\rb",))),
    "line_feed": (_state("a&#10;b"), Expected(200, ("a\nb",))),
    "both_line_ends": (_state("a&#13;&#10;b"), Expected(200, ("a\r\nb",))),
    "literal_line_end": (_state("a\nb"), Expected(200, ("a b",))),
    "next_line": (_state("a&#133;b&#x2028;c"), Expected(200, ("a\x85b\u2028c",))),
    "white_space_by_reference": (_state("&#9;&#13;1&#10;&#32;"), ONE),
    "only_white_space_by_reference": (_state("&#9;&#13;&#xA0;"), NOTHING),
    "ampersand_twice": (_state("&amp;amp;"), Expected(200, ("&amp;",))),
    "quotes": (_state("'&quot;"), Expected(200, ("'\"",))),
    "right_to_left": (_state("\u202e1"), Expected(200, ("\u202e1",))),
    "zero_width": (_state("\u200b"), Expected(200, ("\u200b",))),
    "mark_within": (_state("1\ufeff"), Expected(200, ("1\ufeff",))),
    "other_digits": (_state("\u0661"), Expected(200, ("\u0661",))),
    "beyond_the_plane": (_state("\U0001f600"), Expected(200, ("\U0001f600",))),
    "long": (_state("9" * 256), Expected(200, ("9" * 256,))),
    "too_long_to_be_listed": (_state("9" * 257), NOTHING),
    "much_too_long": (_state(" " + "9" * 100_000), NOTHING),
    "long_by_white_space": (_state(" " * 300 + "9" * 256), Expected(200, ("9" * 256,))),
    "template": (_state("${HOME} %s {0} {{1}}"), Expected(200, ("${HOME} %s {0} {{1}}",))),
    "composed_and_decomposed": (
        (
            b'<response><state id_sms="\xc3\xa9">read</state>'
            b'<state id_sms="e\xcc\x81">read</state></response>'
        ),
        Expected(200, ("\u00e9", "e\u0301")),
    ),
}

STRUCTURES: Mapping[str, Case] = {
    "deep_nesting": (b"<response>" + b"<a>" * 500 + b"</a>" * 500 + b"</response>", REFUSED),
    "unclosed_nesting": (b"<response>" + b"<a>" * 500, REFUSED),
    "state_as_root": (STATE.encode(), REFUSED),
    "state_in_state": (
        b'<response><state id_sms="1"><state id_sms="2"/></state></response>',
        REFUSED,
    ),
    "state_under_another": (f"<response><a>{STATE}</a></response>".encode(), REFUSED),
    "other_root": (f"<responses>{STATE}</responses>".encode(), REFUSED),
    "answer_posted_back": (b"<response><id_sms>1</id_sms></response>", NOTHING),
    "soap": (
        b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"/>',
        REFUSED,
    ),
    "duplicated_attribute": (b'<response><state id_sms="1" id_sms="2"/></response>', REFUSED),
    "default_namespace": (f'<response xmlns="urn:x">{STATE}</response>'.encode(), ONE),
    "prefixed_state": (
        b'<response xmlns:p="urn:x"><p:state id_sms="1">read</p:state></response>',
        NOTHING,
    ),
    "prefixed_root": (b'<p:response xmlns:p="urn:x"/>', REFUSED),
    "unbound_prefix": (b'<response><q:a/><state id_sms="1">read</state></response>', ONE),
    "prefixed_id": (b'<response><state p:id_sms="1">read</state></response>', NOTHING),
    "reserved_prefix": (
        b'<response xmlns:xml="urn:x"><state id_sms="1" xml:id="2">read</state></response>',
        ONE,
    ),
    "other_case": (b'<response><STATE ID_SMS="1">read</STATE></response>', NOTHING),
    "state_in_comment": (f"<response><!--{STATE}--></response>".encode(), NOTHING),
    "state_in_section": (f"<response><![CDATA[{STATE}]]></response>".encode(), NOTHING),
    "state_in_instruction": (f"<response><?{STATE}?></response>".encode(), REFUSED),
    "state_as_text": (b"<response>&lt;state id_sms='1'/&gt;</response>", NOTHING),
    "status_in_section": (_state("1", "<![CDATA[read]]>"), ONE),
    "status_in_pieces": (_state("1", "re<!-- --><![CDATA[a]]><?x?>&#100;"), ONE),
    "instructions": (f"<?php x?><response><?a b?>{STATE}</response><?c?>".encode(), ONE),
    "stylesheet": (f'<?xml-stylesheet href="http://127.0.0.1:9"?>{DOCUMENT}'.encode(), ONE),
    "include": (
        (
            b'<response xmlns:xi="http://www.w3.org/2001/XInclude">'
            b'<xi:include href="/etc/passwd"/></response>'
        ),
        NOTHING,
    ),
    "comment_with_dashes": (b"<response><!-- -- --></response>", REFUSED),
    "unquoted_attribute": (b"<response><state id_sms=1>read</state></response>", REFUSED),
    "less_than_in_attribute": (b'<response><state id_sms="<">read</state></response>', REFUSED),
    "second_root": (f"{DOCUMENT}{DOCUMENT}".encode(), REFUSED),
    "text_after_the_end": (f"{DOCUMENT}x".encode(), REFUSED),
    "lone_end": (b"</response>", REFUSED),
    "lone_bracket": (b"<", REFUSED),
    "json": (b'{"id_sms": "1"}', REFUSED),
    "form": (b"xml=%3Cresponse%2F%3E", REFUSED),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", REFUSED),
    "zip": (b"PK\x03\x04\x14\x00\x00\x00", REFUSED),
}


def _item(*fields: str, id_sms: str = '"1"') -> bytes:
    """An array of one state with these fields, as written."""
    return ("[{" + ", ".join((f'"id_sms": {id_sms}', '"state": "read"', *fields)) + "}]").encode()


def _held(value: str) -> bytes:
    return _item(f'"note": {value}')


GOOD = '{"id_sms": "7", "state": "read"}'
SEVEN = Expected(200, ("7",))

JSON: Mapping[str, Case] = {
    "empty": (b"[]", NOTHING),
    "one": (f"[{GOOD}]".encode(), SEVEN),
    "marks_and_nuls_around": (b"\0\xef\xbb\xbf [" + GOOD.encode() + b"]\n\0\xef\xbb\xbf", SEVEN),
    "mark_within": (b"[\xef\xbb\xbf" + GOOD.encode() + b"]", REFUSED),
    "utf_16": (f"[{GOOD}]".encode("utf-16"), REFUSED),
    "utf_16_no_mark": (f"[{GOOD}]".encode("utf-16-le"), REFUSED),
    "utf_32": (f"[{GOOD}]".encode("utf-32-le"), REFUSED),
    "latin_1": (_held('"%"').replace(b"%", b"\xe9"), REFUSED),
    "surrogates_in_utf_8": (_held('"%"').replace(b"%", b"\xed\xa0\x80"), REFUSED),
    "overlong_quote": (_held('"%"').replace(b"%", b"\xc0\xa2"), REFUSED),
    "an_object": (GOOD.encode(), REFUSED),
    "a_text": (b'"read"', REFUSED),
    "two_arrays": (f"[{GOOD}][{GOOD}]".encode(), REFUSED),
    "lines_of_objects": (f"{GOOD}\n{GOOD}".encode(), REFUSED),
    "array_in_array": (f"[[{GOOD}], {GOOD}]".encode(), SEVEN),
    "xml_within": (f'["{STATE}", {GOOD}]'.replace('"1"', "1").encode(), SEVEN),
    "no_comma": (f"[{GOOD} {GOOD}]".encode(), REFUSED),
    "comma_at_the_end": (f"[{GOOD},]".encode(), REFUSED),
    "comma_at_the_beginning": (f"[,{GOOD}]".encode(), REFUSED),
    "commas_alone": (b"[,]", REFUSED),
    "comment": (f"[/* */{GOOD}]".encode(), REFUSED),
    "single_quotes": (f"[{GOOD}]".replace('"', "'").encode(), REFUSED),
    "names_without_quotes": (b'[{id_sms: "1", state: "read"}]', REFUSED),
    "cut_in_a_text": (f'[{GOOD}, {{"id_sms": "2'.encode(), REFUSED),
    "cut_after_an_escape": (b'[{"id_sms": "2\\', REFUSED),
    "cut_after_the_state": (f"[{GOOD}".encode(), REFUSED),
    "bracket_alone": (b"[", REFUSED),
    "brackets_at_the_end": (f"[{GOOD}]]]".encode(), REFUSED),
    "line_end_in_a_text": (_held('"a\nb"'), REFUSED),
    "tab_in_a_text": (_held('"a\tb"'), REFUSED),
    "nul_in_a_text": (_held('"a\0b"'), REFUSED),
    "unknown_escape": (_held(r'"\x41"'), REFUSED),
    "short_escape": (_held(r'"\u41"'), REFUSED),
    "escape_with_a_sign": (_held(r'"\u+041"'), REFUSED),
    "python_words": (_held("None"), REFUSED),
    "leading_zero": (_held("01"), REFUSED),
    "plus_sign": (_held("+1"), REFUSED),
    "number_without_a_fraction": (_held("1."), REFUSED),
    "hexadecimal": (_held("0x10"), REFUSED),
    "underscore": (_held("1_000"), REFUSED),
    "other_digits": (_held("\u0661"), REFUSED),
    "minus_alone": (_held("-"), REFUSED),
    "minus_nan": (_held("-NaN"), REFUSED),
    "depth_at_limit": (_held("[" * 6 + "]" * 6), ONE),
    "depth_beyond": (_held("[" * 7 + "]" * 7), REFUSED),
    "depth_of_objects_beyond": (_held('{"a":' * 7 + "1" + "}" * 7), REFUSED),
    "depth_in_a_field_that_is_overwritten": (
        _item('"note": ' + "[" * 7 + "]" * 7, '"note": 1'),
        REFUSED,
    ),
    "depth_beyond_in_an_item": (b"[" * 9 + b"]" * 9, REFUSED),
    "depth_bomb": (b"[" * 50_000 + b"]" * 50_000, REFUSED),
    "depth_bomb_of_objects": (b'[{"a":' + b'{"a":' * 50_000, REFUSED),
    "depth_bomb_unclosed": (b"[" * 90_000, REFUSED),
    "brackets_in_a_text": (_held('"' + "[{" * 2000 + '"'), ONE),
    "id_of_22_digits": (_item(id_sms="12345" * 4 + "67"), Expected(200, ("12345" * 4 + "67",))),
    "id_of_65_digits": (_item(id_sms="9" * 65), Expected(200, ("9" * 65,))),
    "id_of_5000_digits": (_item(id_sms="9" * 5000), NOTHING),
    "id_negative": (_item(id_sms="-5"), Expected(200, ("-5",))),
    "id_minus_zero": (_item(id_sms="-0"), Expected(200, ("-0",))),
    "id_with_a_fraction": (_item(id_sms="1.0"), Expected(200, ("1.0",))),
    "id_with_an_exponent": (_item(id_sms="1e400"), Expected(200, ("1e400",))),
    "id_nan": (_item(id_sms="NaN"), Expected(200, ("NaN",))),
    "id_true": (_item(id_sms="true"), Expected(200, ("true",))),
    "id_null": (_item(id_sms="null"), NOTHING),
    "id_array": (_item(id_sms="[1]"), NOTHING),
    "id_empty": (_item(id_sms='""'), NOTHING),
    "id_below_2_to_63": (_item(id_sms=f'"{2**63 - 1}"'), Expected(200, (str(2**63 - 1),))),
    "id_2_to_63": (_item(id_sms=f'"{2**63}"'), Expected(200, (str(2**63),))),
    "id_with_half_a_pair": (_item(id_sms=r'"1\ud800"'), NOTHING),
    "id_with_a_nul": (_item(id_sms=r'"1\u0000"'), NOTHING),
    "id_with_markup": (_item(id_sms='"</id_sms>"'), Expected(200, ("</id_sms>",))),
    "id_with_quotes": (_item(id_sms=r'"\"}]"'), Expected(200, ('"}]',))),
    "id_with_line_ends": (_item(id_sms=r'"a\r\nb"'), Expected(200, ("a\r\nb",))),
    "id_too_long_to_be_listed": (_item(id_sms=f'"{"x" * 257}"'), NOTHING),
    "id_twice": (_item('"id_sms": "2"'), REFUSED),
    "id_twice_the_same": (_item('"id_sms": "1"'), REFUSED),
    "id_twice_once_null": (_item('"id_sms": null'), REFUSED),
    "id_by_an_escaped_name": (_item(r'"\u0069d_sms": "2"'), REFUSED),
    "field_twice": (_item('"sms": "read"', '"sms": "send"'), ONE),
    "state_twice": (_item('"state": "send"'), ONE),
    "number_of_5000_digits": (_held("9" * 5000), ONE),
    "number_with_5000_digits_of_a_fraction": (_held("0." + "9" * 4000), ONE),
    "exponent_beyond_a_double": (_held("1e999999"), ONE),
    "nan": (_held("NaN"), ONE),
    "infinity": (_held("-Infinity"), ONE),
    "half_a_pair": (_held(r'"\ud83d"'), ONE),
    "reversed_pair": (_held(r'"\ude00\ud83d"'), ONE),
    "pair": (_held(r'"\ud83d\ude00"'), ONE),
    "half_a_pair_in_a_name": (_item(r'"\udead": "x"'), ONE),
    "nul": (_held(r'"\u0000"'), ONE),
    "noncharacter": (_held('"\uffff"'), ONE),
    "control": (_held(r'"\b\f\u001b"'), ONE),
    "delete_and_c1": (_held('"\x7f\x9f"'), ONE),
    "prototype": (_item('"__proto__": {"id_sms": "2"}', '"constructor": 1'), ONE),
    "text_as_a_name": (_item('"#text": "send"', '"@id_sms": "2"'), ONE),
    "empty_name": (_item('"": "x"'), ONE),
    "name_too_long": (_item(f'"{"n" * 257}": "x"'), ONE),
    "64_fields": (_item(*(f'"k{n}": "v"' for n in range(63))), ONE),
    "65_fields": (_item(*(f'"k{n}": "v"' for n in range(64))), ONE),
    "10000_fields": (_item(*(f'"k{n}": 1' for n in range(9_998))), ONE),
    "10001_fields": (_item(*(f'"k{n}": 1' for n in range(9_999))), REFUSED),
    "an_invalid_state_beside_a_good_one": (
        f'[{{"id_sms": "1", "state": "read", "note": NaN}}, {GOOD}]'.encode(),
        Expected(200, ("1", "7")),
    ),
    "an_invalid_state_of_the_same_id": (
        f'[{GOOD}, {{"id_sms": 7, "id_sms": 8, "state": "read"}}]'.encode(),
        REFUSED,
    ),
}

SMALL: Mapping[str, Case] = {
    f"{kind}-{name}": case
    for kind, cases in (
        ("doctype", DOCTYPES),
        ("characters", CHARACTERS),
        ("encoding", ENCODINGS),
        ("id", IDS),
        ("structure", STRUCTURES),
        ("json", JSON),
    )
    for name, case in cases.items()
}

# --- large -------------------------------------------------------------------------------


def _flood(unit: bytes, before: bytes = b"<response>", after: bytes = b"</response>") -> bytes:
    """One thing again and again, up to the limit on a body."""
    return before + unit * ((LARGE_BYTES - len(before) - len(after)) // len(unit)) + after


def _numbered(unit: str, before: bytes = b"<response>", after: bytes = b"</response>") -> bytes:
    """The same, each with a number of its own in hexadecimal."""
    units: list[bytes] = []
    left = LARGE_BYTES - len(before) - len(after)
    while left >= 0:
        units.append((unit % len(units)).encode())
        left -= len(units[-1])
    return before + b"".join(units[:-1]) + after


def _elements(count: int, unit: str) -> bytes:
    """So many elements, each padded so that together they fill a body."""
    room = (LARGE_BYTES - 30) // count
    made = [(unit % number).encode() for number in range(count)]
    return b"<response>" + b"".join(m.ljust(room)[:room] for m in made) + b"</response>"


def _attributes(each: int, value: str = "") -> bytes:
    """States with so many attributes each, in all a body full."""
    names = "".join(f' {chr(97 + n % 26)}{n // 26:x}="{value}"' for n in range(each))
    return _flood(f"<state{names}/>".encode())


def _flood_json(unit: bytes, before: bytes = b"[", after: bytes = b"]") -> bytes:
    return _flood(unit, before, after)


def _objects(count: int, unit: str) -> bytes:
    """So many items, each padded so that together they fill a body."""
    room = (LARGE_BYTES - 30) // count - 1
    made = [(unit % number).encode() for number in range(count)]
    return b"[" + b",".join(m.ljust(room)[:room] for m in made) + b"]"


_ONE_ITEM = b'[{"id_sms":"1","state":"'
_END_ITEM = b'"}]'
_ONE_STATE = b'<response><state id_sms="1">'
_TIME = 'time="2011-01-01 12:57:46"'
_END_STATE = b"</state></response>"

# Within every limit: the most work that one document may ask for.
FULL = frozenset(
    {
        "bad_ids",
        "full_states",
        "invalid_states",
        "most_invalid_states",
        "most_names",
        "most_states",
        "states_of_one_id",
        "json_flawed_states",
        "json_full_states",
        "json_invalid_states",
        "json_most_fields",
        "json_most_states",
    }
)

LARGE: Mapping[str, tuple[Callable[[], bytes], int]] = {
    "blanks": (lambda: b" " * LARGE_BYTES, 400),
    "nuls": (lambda: b"\0" * LARGE_BYTES, 400),
    "marks": (lambda: _flood(b"\xef\xbb\xbf", b"", b""), 400),
    "marks_of_utf_16": (lambda: _flood(b"\xff\xfe", b"", b""), 400),
    "marks_before": (lambda: _flood(b"\xef\xbb\xbf", b"", b"<response/>"), 200),
    "marks_after": (lambda: _flood(b"\xef\xbb\xbf", b"<response/>", b""), 200),
    "marks_and_blanks_before": (lambda: _flood(b" \xef\xbb\xbf\0", b"", b"<response/>"), 200),
    "blanks_before": (lambda: _flood(b"\n", b"", b"<response/>"), 200),
    "blanks_after": (lambda: _flood(b"\n", b"<response/>", b""), 200),
    "white_space": (lambda: _flood(b"\n"), 200),
    "text": (lambda: _flood(b"x"), 200),
    "emoji": (lambda: _flood("\U0001f600".encode()), 200),
    "utf_16": (
        lambda: ("<response>" + "\U0001f600" * 1_048_500 + "</response>").encode("utf-16"),
        200,
    ),
    "windows_1251": (lambda: _flood(b"\xcf", _in("windows-1251", "ascii", "<response>")), 200),
    "comments": (lambda: _flood(b"a<!---->"), 200),
    "one_comment": (lambda: _flood(b"-a", b"<response><!--", b"--></response>"), 200),
    "sections": (lambda: _flood(b"<![CDATA[a]]>b"), 200),
    "instructions": (lambda: _flood(b"a<?a?>"), 200),
    "references": (lambda: _flood(b"&amp;"), 200),
    "references_in_a_status": (lambda: _flood(b"&#9;", _ONE_STATE, _END_STATE), 200),
    "references_in_an_id": (
        lambda: _flood(b"&#x9;", b'<response><state id_sms="a', b'b"/></response>'),
        200,
    ),
    "escapes_in_an_id": (
        lambda: _flood(b"&#34;", b'<response><state id_sms="', b'"/></response>'),
        200,
    ),
    "one_attribute": (
        lambda: _flood(b"v", b'<response><state id_sms="1" a="', b'">read</state></response>'),
        200,
    ),
    "one_name": (lambda: _flood(b"n", b"<", b"/>"), 400),
    "one_attribute_name": (
        lambda: _flood(b"n", b'<response><state id_sms="1" ', b'="">read</state></response>'),
        200,
    ),
    "one_status": (lambda: _flood(b"s", _ONE_STATE, _END_STATE), 200),
    "brackets": (lambda: _flood(b"<"), 400),
    "unclosed": (lambda: _flood(b"<a>", after=b""), 400),
    "nested": (lambda: b"<response>" + b"<a>" * 599_180 + b"</a>" * 599_180 + b"</response>", 400),
    "declarations": (lambda: _flood(b"encoding ", b"<?xml ", b""), 400),
    "declared_equals": (lambda: _flood(b"encoding = '", b"<?xml ", b""), 400),
    "doctype": (lambda: _flood(b"<!ENTITY a 'b'>", b"<!DOCTYPE r [", b"]><response/>"), 400),
    "cut": (lambda: _flood(STATE.encode(), after=b""), 400),
    "empty_elements": (lambda: _flood(b"<a/>"), 400),
    "empty_states": (lambda: _flood(b"<state/>"), 400),
    "states": (lambda: _numbered('<state id_sms="%x">read</state>'), 400),
    "most_elements": (lambda: _elements(99_999, '<a b="%x"/>'), 200),
    "most_states": (lambda: _elements(99_999, '<state id_sms="%x">read</state>'), 200),
    "most_invalid_states": (lambda: _elements(99_999, '<state id_sms="%x" a="" b="" c=""/>'), 200),
    "most_names": (lambda: _elements(99_999, '<a%x b="" c="" d=""/>'), 200),
    "most_children": (
        lambda: (
            _ONE_STATE + _elements(99_998, '<a%x b="" c=""/>')[10:-11][: LARGE_BYTES - 60] + b"<"
        ),
        400,
    ),
    "full_states": (
        lambda: _numbered(f'<state id_sms="%07x" {_TIME} sms="read" viber="deliver">read</state>'),
        200,
    ),
    "invalid_states": (
        lambda: _numbered('<state id_sms="%07x" time="2011-01-01 12:57:46" sms="%%"></state>'),
        200,
    ),
    "states_of_one_id": (
        lambda: _numbered('<state id_sms="1" time="%x" sms="read">read</state>'),
        200,
    ),
    "bad_ids": (
        lambda: _numbered('<state id_sms="&lt;&#13;%x" time="" sms="read">read</state>'),
        200,
    ),
    "attributes_20": (lambda: _attributes(20), 400),
    "attributes_64": (lambda: _attributes(64), 400),
    "attributes_400": (lambda: _attributes(400), 400),
    "attributes_10000": (lambda: _attributes(10_000), 400),
    "attributes_of_one": (
        lambda: _numbered(' b%x=""', b"<response><state", b"/></response>"),
        400,
    ),
    "json_blanks": (lambda: _flood_json(b" "), 200),
    "json_brackets": (lambda: _flood_json(b"["), 400),
    "json_nested": (lambda: b"[" * 50_000 + b"]" * 50_000, 400),
    "json_nested_objects": (lambda: _flood_json(b'{"a":', b"[")[: 5 * 99_000], 400),
    "json_empty_objects": (lambda: _flood_json(b"{},", after=b"{}]"), 400),
    "json_empty_arrays": (lambda: _flood_json(b"[],", after=b"[]]"), 400),
    "json_most_empty_objects": (lambda: b"[" + b"{}," * 99_998 + b"{}]", 200),
    "json_numbers": (lambda: _flood_json(b"1,", after=b"1]"), 400),
    "json_numbers_for_states": (lambda: b"[" + b"1," * 249_999 + b"1]", 400),
    "json_most_numbers": (
        lambda: b'[{"id_sms":"1","state":"read","a":[' + b"1," * 249_990 + b"1]}]",
        200,
    ),
    "json_fields_of_one": (lambda: _numbered('"%x":1,', b"[{", b'"":1}]'), 400),
    "json_one_field_again": (lambda: b"[{" + b'"a":1,' * 249_999 + b'"a":1}]', 400),
    "json_most_states": (lambda: _objects(99_999, '{"id_sms":"%x","state":"read"}'), 200),
    "json_most_fields": (
        lambda: _objects(60_000, '{"id_sms":"%x","state":"read","a":"","b":"","c":1,"d":""}'),
        200,
    ),
    "json_flawed_states": (
        lambda: _objects(49_999, '{"id_sms":"%x","state":"read","sms":"read","a":[1,"2"]}'),
        200,
    ),
    "json_invalid_states": (lambda: _objects(99_999, '{"id_sms":"%x","a":1,"b":2,"c":3}'), 200),
    "json_full_states": (
        lambda: _objects(
            33_000,
            '{"id_sms":"%07x","time":"2011-01-01 12:57:46","sms":"read","viber":"deliver",'
            '"state":"read"}',
        ),
        200,
    ),
    "json_items_that_are_none": (lambda: b"[" + b"[]," * 99_998 + b"1]", 200),
    "json_one_text": (lambda: _flood_json(b"s", _ONE_ITEM, _END_ITEM), 200),
    "json_one_name": (
        lambda: _flood_json(b"n", b'[{"id_sms":"1","state":"read","', b'":1}]'),
        200,
    ),
    "json_emoji": (lambda: _flood_json("\U0001f600".encode(), _ONE_ITEM, _END_ITEM), 200),
    "json_escaped_emoji": (
        lambda: _flood_json(rb"\ud83d\ude00", _ONE_ITEM, _END_ITEM),
        200,
    ),
    "json_half_pairs": (lambda: _flood_json(rb"\ud83d", _ONE_ITEM, _END_ITEM), 200),
    "json_escapes": (lambda: _flood_json(rb"\u0041", _ONE_ITEM, _END_ITEM), 200),
    "json_backslashes": (lambda: _flood_json(b"\\\\", _ONE_ITEM, _END_ITEM), 200),
    "json_commas_in_a_text": (lambda: _flood_json(b",", _ONE_ITEM, _END_ITEM), 400),
    "json_brackets_in_a_text": (lambda: _flood_json(b"[", _ONE_ITEM, _END_ITEM), 400),
    "json_unclosed_text": (lambda: _flood_json(b"s", _ONE_ITEM, b""), 400),
    "json_one_number": (lambda: _flood_json(b"9", b'[{"state":"read","id_sms":', b"}]"), 200),
    "json_one_fraction": (lambda: _flood_json(b"9", b'[{"state":"read","id_sms":0.', b"}]"), 200),
    "json_one_exponent": (lambda: _flood_json(b"9", b'[{"state":"read","id_sms":1e', b"}]"), 200),
    "json_cut": (lambda: _objects(60_000, '{"id_sms":"%x","state":"read"}')[:-1], 400),
    "json_values_4096": (
        lambda: _flood_json(
            b'{"id_sms":"1","state":"read",'
            + b",".join(b'"k%d":"%b"' % (n, b"v" * 4096) for n in range(9))
            + b"},",
            after=b"{}]",
        ),
        200,
    ),
    "values_4096": (lambda: _attributes(60, "v" * 4096), 200),
    "emoji_values": (lambda: _attributes(60, "\U0001f600" * 4096), 200),
    "quotes_in_values": (lambda: _attributes(60, "&#34;" * 4096), 200),
}
