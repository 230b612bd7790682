"""The JSON Schema of the configuration file.

It must not read files: what the settings are is in config/settings.py, and how they are checked in
config/loader.py.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from bridge.config.conflicts import RULES, Needs, OnlyWith
from bridge.config.settings import Settings
from bridge.contract.event_schemas import Schema, title_of

DRAFT: Final = "http://json-schema.org/draft-07/schema#"
"""The newest that Helm 3, editors and every common validator read."""

_REFERENCE: Final[Schema] = {"pattern": r"\$\{"}
_WHOLE: Final = r"^\s*[+-]?[0-9][0-9_]*(\.0*)?\s*$"
_NUMBER: Final = r"^\s*[+-]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][+-]?[0-9]+)?\s*$"
_BOOL_WORDS: Final = ("true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "1", "0")
# At the start of a pattern, which is all that portable regular expressions can be spared.
_LOOKAHEAD: Final = re.compile(r"\^\(\?([!=])([^()]+)\)(.+)", re.DOTALL)


def config_schema() -> Schema:
    """Describe the configuration file, as it is before `${…}` is replaced.

    What this refuses, the program refuses too. It lets pass what only the program can tell:
    values behind a `${…}`, and settings that do not go together.
    """
    raw = Settings.model_json_schema()
    sections = raw.pop("$defs").items()
    definitions = {name: _optional(_section(each, name)) for name, each in sections}
    definitions["Endpoint"]["properties"]["auth"] |= _either_open_or_not()
    # Conditions, not alternatives: of each alternative generators would make a type.
    empty = {key: {"maxItems": 0} for key in ("tokens", "basic", "allow")}
    definitions["Auth"] |= {"type": "object", "not": {"properties": empty}}
    definitions["Provider"] |= _one_way_in()
    root = _section(raw, "Bridge")
    for rule in RULES:
        if isinstance(rule, Needs | OnlyWith) and _parent(rule.key) == _parent(rule.other):
            owner = _owner(rule.key, root, definitions)
            owner.setdefault("allOf", []).append(_implication(rule))
    return {
        "$schema": DRAFT,
        **root,
        "title": "Bridge configuration",
        "definitions": definitions,
    }


def _either_open_or_not() -> Schema:
    opened = {"title": "NoAuth", "enum": ["none"]}
    written = {"type": "string", "anyOf": [opened, _REFERENCE]}
    return {"anyOf": [written, {"$ref": "#/definitions/Auth"}]}


def _one_way_in() -> Schema:
    """With a token, or with login and password."""
    named = [_given(key) for key in ("login", "password")]
    return {
        "if": _given("token"),
        "then": {"allOf": [{"not": each} for each in named]},
        "else": {"allOf": named},
    }


def _owner(key: str, root: Schema, definitions: dict[str, Schema]) -> Schema:
    """The section that holds the last step of a key such as `kafka.security.tls`."""
    section = root
    for step in key.split(".")[:-1]:
        held = section["properties"][step]
        (name,) = [each["$ref"] for each in held.get("allOf") or held["anyOf"] if "$ref" in each]
        section = definitions[name.rpartition("/")[2]]
    return section


def _parent(key: str) -> str:
    return key.rpartition(".")[0]


def _implication(rule: Needs | OnlyWith) -> Schema:
    """A rule on two keys of one section, as far as both are written out."""
    key, other = (each.rpartition(".")[2] for each in (rule.key, rule.other))
    if isinstance(rule, OnlyWith):
        allowed: Schema = {"anyOf": [{"enum": list(rule.values)}, _REFERENCE]}
        return _if_then(_given(key), _has(other, allowed))
    when = _has(key, {"enum": list(rule.when)}) if rule.when else _given(key)
    return _if_then(when, _given(other))


def _if_then(condition: Schema, consequence: Schema) -> Schema:
    return {"if": condition, "then": consequence}


def _given(key: str) -> Schema:
    return _has(key, {"not": {"type": "null"}})


def _has(key: str, what: Schema) -> Schema:
    return {"required": [key], "properties": {key: what}}


def _section(section: Schema, name: str) -> Schema:
    """Rewrite one mapping of the file, with titles that say whose each setting is."""
    properties = {
        key: _property(each, f"{name}{title_of(key)}")
        for key, each in section["properties"].items()
    }
    return {**_without_title(section), "title": name, "properties": properties}


def _optional(section: Schema) -> Schema:
    """Let a section be left empty where nothing in it is required."""
    if section.keys() & {"required", "minProperties"}:
        return section
    return {**section, "type": ["object", "null"]}


def _property(schema: Schema, title: str) -> Schema:
    written = _value(schema)
    reference = written.pop("$ref", None)
    if reference is None:
        return {"title": title, **_with_words_titled(written, title)}
    # Beside a $ref this draft ignores everything else.
    return {**written, "allOf": [{"$ref": reference}]}


def _with_words_titled(schema: Schema, title: str) -> Schema:
    """Name each list of words after its setting: a generator would number them."""
    if "enum" in schema:
        return {"title": f"{title}Word", **schema}
    if "anyOf" in schema:
        return {**schema, "anyOf": [_with_words_titled(each, title) for each in schema["anyOf"]]}
    return schema


def _value(schema: Schema) -> Schema:
    """Rewrite a value: any scalar may come as text, and any text as a reference."""
    schema = _without_title(schema)
    if "$ref" in schema:
        return {**schema, "$ref": schema["$ref"].replace("#/$defs/", "#/definitions/")}
    if "anyOf" in schema:
        return {**schema, "anyOf": [_value(branch) for branch in schema["anyOf"]]}
    if schema["type"] == "array":
        return {**schema, "items": _value(schema["items"])}
    if "patternProperties" in schema:
        named = {word: _value(each) for word, each in schema["patternProperties"].items()}
        return {**schema, "patternProperties": named, "additionalProperties": False}
    if schema["type"] == "object":
        return {**schema, "additionalProperties": _value(schema["additionalProperties"])}
    return _SCALARS[schema["type"]](schema)


def _without_title(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "title"}


def _text(schema: Schema) -> Schema:
    rules = [_portable(schema["pattern"])] if "pattern" in schema else []
    rules += [{word: schema[word]} for word in ("enum", "const") if word in schema]
    rest = {key: value for key, value in schema.items() if key not in {"pattern", "enum", "const"}}
    return {**rest, "anyOf": [*rules, _REFERENCE]} if rules else rest


def _portable(pattern: str) -> Schema:
    """Say a pattern without the lookahead at its start, which Go's engine does not know."""
    match = _LOOKAHEAD.fullmatch(pattern)
    if match is None:
        return {"pattern": pattern}
    ahead, rest = {"pattern": f"^{match[2]}"}, {"pattern": f"^{match[3]}"}
    return {"allOf": [rest, {"not": ahead} if match[1] == "!" else ahead]}


def _as_text_too(pattern: str) -> Callable[[Schema], Schema]:
    """Take a number, or text that holds one."""

    def rewrite(schema: Schema) -> Schema:
        kept = ("description", "default", "examples", "enum")
        about: Schema = {key: schema[key] for key in kept if key in schema}
        plain = {key: value for key, value in schema.items() if key not in about}
        text = {"type": "string", "anyOf": [{"pattern": pattern}, _REFERENCE]}
        return {**about, "anyOf": [plain, text]}

    return rewrite


def _boolean(schema: Schema) -> Schema:
    words = "|".join(
        "".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in word) for word in _BOOL_WORDS
    )
    either = _as_text_too(f"^({words})$")(schema)
    return {**either, "anyOf": [*either["anyOf"], {"type": "integer", "minimum": 0, "maximum": 1}]}


_SCALARS: Final[Mapping[str, Callable[[Schema], Schema]]] = {
    "string": _text,
    "integer": _as_text_too(_WHOLE),
    "number": _as_text_too(_NUMBER),
    "boolean": _boolean,
    "null": dict,
}
