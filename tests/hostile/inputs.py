"""Inputs for the fuzzer: documents from a grammar, and mutations of the recorded samples.

Each comes from a `random.Random` alone, so that a seed and a number name it for good.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from xml.sax.saxutils import quoteattr

_SAMPLES = Path(__file__).parent.parent / "samples"
SAMPLES = tuple(path.read_bytes() for path in sorted(_SAMPLES.glob("*.xml")))
JSON_SAMPLES = tuple(path.read_bytes() for path in sorted(_SAMPLES.glob("*.body")))

WORDS = (
    "send", "partly_deliver", "deliver", "not_deliver", "expired", "read", "DELIVRD", "undeliv",
)  # fmt: skip
STATUSES = (
    *WORDS, *WORDS, " Read\n", "DELIVER", "seen", "new_word_2", "", " ", "a" * 64, "a" * 65,
    "doručeno", "two words", "\u0130", "\u212aelvin", "read\u00a0", "%s", "null", "0",
)  # fmt: skip
IDS = (
    "1", "2", "3", "3234", "3235", "0042", " 42 ", "42", "\t43\r\n", "", " ", "a" * 64, "a" * 65,
    "A.b_c-d", "<id_sms>9</id_sms>", "]]>", "&amp;", "1&2", "a\rb", "a\nb", "\u0661", "\u00a07",
    "x" * 300, "\U0001f600", "\u202e", "'\"", "\u0085", "9" * 20, "\u00e9", "e\u0301", "-", ".",
)  # fmt: skip
TIMES = (
    "2011-01-01 12:57:46", "2011-01-01 12:57:46", "", " ", "2026-03-29 03:30:00",
    "2026-10-25 03:30:00", "0001-01-01 00:00:00", "9999-12-31 23:59:59", "2011-13-01 00:00:00",
    "2011-02-29 00:00:00", "2011-01-01T12:57:46Z", "0000-00-00 00:00:00", "1293886666", "now",
    "2011-01-01 24:00:00", " 2011-01-01 12:57:46 ", "\u0662011-01-01 12:57:46",
)  # fmt: skip
NAMES = (
    "sms", "viber", "sms", "viber", "whatsapp", "rcs", "x", "SMS", "ID_SMS", "xml:lang",
    "xmlns:p", "xmlns", "xmlnsx", "p:q", "_", "\u00e9", "n" * 256, "n" * 257, ":", "status",
)  # fmt: skip
NOISE = (
    ".", "\n  ", "text", "<!-- c -->", "<!-- <state id_sms='666'/> -->", "<?php echo 1; ?>",
    "&#65;", "<![CDATA[<state id_sms='667'>read</state>]]>", "<other>1</other>",
    "<id_sms>668</id_sms>", "<a><b><c/></b></a>", "<p:state id_sms='669'>read</p:state>",
    "<State id_sms='670'/>", "&#x9;",
)  # fmt: skip
POISON = (
    "<!DOCTYPE response>", "<!DOCTYPE r [<!ENTITY x 'y'>]>", "&x;", "&#0;", "&#xD800;", "&#xFFFE;",
    "<state", "</state>", "</response>", "<a><state id_sms='1'>read</state></a>", "]]>", "<!--",
    "<![CDATA[", "&", "<", "\0", "\x01", "\ufffe", "<a>" * 9 + "</a>" * 9, "<?xml version='1.0'?>",
)  # fmt: skip
DECLARED = (
    "utf-8", "utf-8", "utf-8", "UTF8", "us-ascii", "windows-1251", "koi8-r", "utf-16", "cp866",
    "iso-8859-2", "us-ascii", "windows-1252", "iso-8859-1", "iso-8859-5", "ISO_8859-15", "cp1251",
    "windows-1257", "koi8-u", "ibm866", "utf-16le", "utf-16be", "utf-7", "utf-32", "cp037",
    "unicode_escape", "rot13", "idna", "iso-8859-12", "gb18030", "shift_jis", "", "utf-8 ",
)  # fmt: skip
SIGNS = ('id_sms="', "'", '"', "=", "/>", ">")
TOKENS = (
    *(
        text.encode("utf-8", "surrogatepass")
        for text in (
            *NOISE,
            *POISON,
            *IDS[:20],
            *STATUSES[:12],
            'id_sms="',
            "'",
            '"',
            "=",
            "/>",
            ">",
        )
    ),
    *(
        b"\xff\xfe",
        b"\xfe\xff",
        b"\xef\xbb\xbf",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf8\x88",
        b"\0\0",
    ),
)
AROUND = (b"", b"", b"", b"\n", b"\0", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n\xef\xbb\xbf", b" \r\n\0\0")


def body(rng: Random) -> bytes:
    """One input: half in JSON; of each half, half documents of the grammar, or else samples."""
    makers: Sequence[Callable[[Random], bytes]] = (document, soft, rough)
    in_json: Sequence[Callable[[Random], bytes]] = (json_document, soft_json, rough_json)
    (maker,) = rng.choices((*makers, *in_json), (55, 33, 12, 60, 25, 15))
    made = maker(rng)
    return _roughened(rng, made) if rng.random() < 0.03 else made


# --- grammar -----------------------------------------------------------------------------


def document(rng: Random) -> bytes:
    """A document that is mostly well-formed, of values that are mostly odd."""
    inner = "".join(_piece(rng) for _ in range(_count(rng)))
    if rng.random() < 0.06:
        inner += rng.choice(POISON)
    attributes = ' xmlns="urn:x"' if rng.random() < 0.05 else ""
    root = "response" if rng.random() < 0.97 else rng.choice(("state", "Response", "r:response"))
    return _encoded(rng, f"<{root}{attributes}>{inner}</{root}>")


def _count(rng: Random) -> int:
    draw = rng.random()
    if draw < 0.0005:
        return rng.randint(500, 2500)
    return rng.randint(10, 60) if draw < 0.03 else rng.randint(0, 6)


def _piece(rng: Random) -> str:
    return rng.choice(NOISE) if rng.random() < 0.2 else _state(rng)


def _state(rng: Random) -> str:
    attributes = {"time": rng.choice(TIMES)} if rng.random() < 0.8 else {}
    for _ in range(rng.randint(0, 3)):
        attributes[rng.choice(NAMES)] = rng.choice(STATUSES)
    if rng.random() < 0.97:
        attributes["id_sms"] = rng.choice(IDS) if rng.random() < 0.5 else str(rng.randint(1, 12))
    if rng.random() < 0.02:
        attributes |= _many(rng)
    names = list(attributes)
    rng.shuffle(names)
    written = "".join(f" {name}={_quoted(attributes[name])}" for name in names)
    return f"<state{written}>{_content(rng)}</state>"


def _many(rng: Random) -> dict[str, str]:
    """Around the limits: on attributes, on their lengths, and (rarely) on a record."""
    draw = rng.random()
    if draw < 0.03:
        return {f"w{i}": "\U0001f600" * 4096 for i in range(60)}
    if draw < 0.05:
        return {f"m{i}": "" for i in range(rng.choice((9_990, 10_001)))}
    if draw < 0.5:
        return {f"k{i}": "v" for i in range(rng.randint(58, 66))}
    return {"long": "v" * rng.randint(4094, 4098)}


def _quoted(value: str) -> str:
    return quoteattr(value, {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})


def _content(rng: Random) -> str:
    status = rng.choice(WORDS) if rng.random() < 0.6 else rng.choice(STATUSES)
    draw = rng.random()
    if draw < 0.05:
        return f"<![CDATA[{status}]]>"
    if draw < 0.09:
        return f"{status}{rng.choice(NOISE)}"
    return "s" * rng.randint(4094, 4098) if draw < 0.095 else status


def _encoded(rng: Random, text: str) -> bytes:
    """In an encoding that is declared, most often truly; with what senders leave around it."""
    draw = rng.random()
    if draw < 0.45:
        whole = _declaration("utf-8" if draw < 0.3 else None) + text
        return _wrapped(rng, whole.encode("utf-8", "replace"))
    declared = rng.choice(DECLARED)
    actual = declared if draw < 0.92 else rng.choice(DECLARED[:23])
    whole = _declaration(declared) + text
    try:
        raw = whole.encode(actual.strip() or "utf-8", "xmlcharrefreplace")
    except (LookupError, UnicodeError):
        raw = whole.encode("utf-8", "replace")
    return raw if actual.startswith("utf-16") else _wrapped(rng, raw)


def _declaration(encoding: str | None) -> str:
    return "" if encoding is None else f'<?xml version="1.0" encoding="{encoding}"?>'


def _wrapped(rng: Random, raw: bytes) -> bytes:
    return rng.choice(AROUND) + raw + rng.choice(AROUND)


# --- the grammar of JSON -----------------------------------------------------------------

# As written: what Python's writer would not write, or not so.
JSON_VALUES = (
    "null", "true", "false", "0", "-0", "12", "0012", "-5", "1.0", "1e5", "1E+400", "0.550", "1.",
    "9223372036854775807", "9223372036854775808", "1234567890123456789012", "9" * 65, "NaN",
    "Infinity", "-Infinity", "-NaN", "[]", "{}", "[1,2.50]", '{"a":{"b":null}}', "[" * 6 + "]" * 6,
    "[" * 7 + "]" * 7, r'"\ud83d\ude00"', r'"\ud83d"', r'"\ude00\ud83d"', r'"\u0000"', r'"\b"',
    r'"\uFFFE"', r'"\/\"\\"', r'"\x"', r'"\u12"', '"a\tb"', '"', "", "read", r'"\u0072ead"', "\v1",
)  # fmt: skip
JSON_POISON = (
    "[" * 3000, "]", "}", ",", ":", "//", "/* */", "'", "\ufeff", "\0", "[[[[[[[[[[", "<response/>",
    '{"id_sms":', "\ud7ff", "\x7f", "\ufffe",
)  # fmt: skip
JSON_ITEMS = (
    "null",
    "1",
    '"read"',
    "[]",
    '[{"id_sms": "1", "state": "read"}]',
    "true",
    "NaN",
    "{}",
)


def json_document(rng: Random) -> bytes:
    """An array that is mostly well-formed, of states that are mostly odd."""
    items = [_item(rng) for _ in range(_count(rng))]
    between = rng.choice((",", ", ", ",\n  ", " ,"))
    text = rng.choice(("[", "[ ", "[\n")) + between.join(items) + rng.choice(("]", " ]", "\n]"))
    if rng.random() < 0.05:
        at = rng.randint(0, len(text))
        text = text[:at] + rng.choice(JSON_POISON) + text[at:]
    raw = text.encode("utf-8" if rng.random() < 0.98 else rng.choice(DECLARED[:20]), "replace")
    return _wrapped(rng, raw)


def _item(rng: Random) -> str:
    if rng.random() < 0.03:
        return rng.choice(JSON_ITEMS)
    fields = [("time", _json_text(rng.choice(TIMES)))] if rng.random() < 0.8 else []
    if rng.random() < 0.95:
        status = rng.choice(WORDS) if rng.random() < 0.7 else rng.choice(STATUSES)
        fields.append(("state", _json_text(status)))
    if rng.random() < 0.97:
        number = str(rng.randint(1, 12))
        written = rng.choice((number, f'"{number}"', _json_text(rng.choice(IDS))))
        fields.append(("id_sms", written))
    fields += [
        (rng.choice(NAMES), _json_text(rng.choice(STATUSES))) for _ in range(rng.randint(0, 3))
    ]
    if rng.random() < 0.15:
        name = rng.choice((*NAMES, "id_sms", "time", "state"))
        fields.append((name, rng.choice(JSON_VALUES)))
    if rng.random() < 0.02:
        fields += [(name, _json_text(value)) for name, value in _many(rng).items()]
    rng.shuffle(fields)
    colon = rng.choice((":", ": ", " : "))
    return "{" + ", ".join(f"{_json_text(name)}{colon}{value}" for name, value in fields) + "}"


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=len(text) % 2 == 0)


# --- mutation ----------------------------------------------------------------------------

_VALUE = re.compile(rb'"([^"<]*)"|>([^<]*)<')


def soft(rng: Random) -> bytes:
    """A sample with other values in its attributes and texts, or its states in disorder."""
    sample = rng.choice(SAMPLES)
    places = list(_VALUE.finditer(sample))
    if not places:
        return rough(rng)
    for place in sorted(rng.sample(places, min(len(places), rng.randint(1, 3))), key=_from_the_end):
        group = 1 if place[1] is not None else 2
        value = _quoted(rng.choice((*IDS, *STATUSES, *TIMES)))[1:-1].encode("utf-8", "replace")
        sample = sample[: place.start(group)] + value + sample[place.end(group) :]
    return _doubled_states(rng, sample) if rng.random() < 0.3 else sample


def _from_the_end(place: re.Match[bytes]) -> int:
    return -place.start()


def _doubled_states(rng: Random, sample: bytes) -> bytes:
    states = re.findall(rb"<state[^<]*</state>", sample)
    if not states:
        return sample
    extra = b"".join(rng.choice(states) for _ in range(rng.randint(1, 5)))
    return sample.replace(states[0], extra + states[0], 1)


_JSON_VALUE = re.compile(rb'(?<=:) *("[^"]*"|[-0-9.eE]+)')


def soft_json(rng: Random) -> bytes:
    """A sample in JSON with other values in its fields."""
    sample = rng.choice(JSON_SAMPLES)
    places = list(_JSON_VALUE.finditer(sample))
    for place in sorted(rng.sample(places, min(len(places), rng.randint(1, 3))), key=_from_the_end):
        text = _json_text(rng.choice((*IDS, *STATUSES, *TIMES)))
        value = (text if rng.random() < 0.7 else rng.choice(JSON_VALUES)).encode("utf-8", "replace")
        sample = sample[: place.start(1)] + value + sample[place.end(1) :]
    return sample


def rough_json(rng: Random) -> bytes:
    """A sample in JSON with its bytes in disorder."""
    return _disordered(rng, rng.choice(JSON_SAMPLES))


def rough(rng: Random) -> bytes:
    """A sample with its bytes in disorder."""
    return _disordered(rng, rng.choice(SAMPLES))


def _disordered(rng: Random, made: bytes) -> bytes:
    for _ in range(rng.randint(1, 4)):
        made = _roughened(rng, made)
    return made


def _roughened(rng: Random, raw: bytes) -> bytes:
    a, b = sorted((rng.randint(0, len(raw)), rng.randint(0, len(raw))))
    b = min(b, a + rng.choice((1, 4, 64, 4096)))
    kind = rng.randrange(8)
    if kind == 0:
        return raw[:a] + bytes((rng.randrange(256),)) + raw[a + 1 :]
    if kind == 1:
        return raw[:a] + raw[b:]
    if kind == 2:
        return raw[:b] + raw[a:b] * rng.choice((1, 2, 20)) + raw[b:]
    if kind == 3:
        return raw[:a] + rng.choice(TOKENS) + raw[a:]
    if kind == 4:
        return raw[:a] + rng.choice(TOKENS) + raw[b:]
    if kind == 5:
        other = rng.choice(SAMPLES)
        return raw[:a] + other[rng.randint(0, len(other)) :]
    if kind == 6:
        declared = rng.choice(DECLARED).encode()
        return re.sub(rb'encoding="[^"]*"', b'encoding="%b"' % declared, raw, count=1)
    return raw[:a]
