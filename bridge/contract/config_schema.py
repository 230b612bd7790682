"""The JSON Schema of the configuration file.

It must not read files: what the settings are is in config/settings.py, and how they are checked in
config/loader.py.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from bridge.config.settings import Settings
from bridge.contract.event_schemas import Schema

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
    definitions = {name: _optional(_section(each)) for name, each in raw.pop("$defs").items()}
    definitions["Endpoint"]["properties"]["auth"] |= _either_open_or_not()
    definitions["Auth"] |= {
        "type": "object",
        "anyOf": [_holds_some(key) for key in ("tokens", "basic", "allow")],
    }
    definitions["Provider"]["allOf"] = _one_way_in()
    definitions["Security"]["allOf"] = _agreement()
    definitions["Tls"]["allOf"] = [
        _if_then(_given(key), _given(needed))
        for key, needed in (
            ("cert_file", "key_file"),
            ("key_file", "cert_file"),
            ("key_password", "key_file"),
        )
    ]
    return {
        "$schema": DRAFT,
        "title": "Configuration of sms-status-bridge",
        **_section(raw),
        "definitions": definitions,
    }


def _either_open_or_not() -> Schema:
    opened = {"type": "string", "anyOf": [{"enum": ["none"]}, _REFERENCE]}
    return {"anyOf": [opened, {"$ref": "#/definitions/Auth"}]}


def _holds_some(key: str) -> Schema:
    return {"required": [key], "properties": {key: {"minItems": 1}}}


def _one_way_in() -> list[Schema]:
    """Let an account be known by its token, or by login and password."""
    return [
        {"anyOf": [_given("token"), _given("login")]},
        _if_then(_given("token"), {"not": {"anyOf": [_given("login"), _given("password")]}}),
        _if_then(_given("login"), _given("password")),
        _if_then(_given("password"), _given("login")),
    ]


def _agreement() -> list[Schema]:
    """Let protocol, sasl and tls go together, as far as the protocol is written out."""
    login = {"enum": ["SASL_PLAINTEXT", "SASL_SSL"]}
    no_login, no_tls = ["PLAINTEXT", "SSL"], ["PLAINTEXT", "SASL_PLAINTEXT"]
    return [
        _if_then(_has("protocol", login), _given("sasl")),
        _if_then(_given("sasl"), _has("protocol", {"not": {"enum": no_login}})),
        _if_then(_given("tls"), _has("protocol", {"not": {"enum": no_tls}})),
    ]


def _if_then(condition: Schema, consequence: Schema) -> Schema:
    return {"anyOf": [{"not": condition}, consequence]}


def _given(key: str) -> Schema:
    return _has(key, {"not": {"type": "null"}})


def _has(key: str, what: Schema) -> Schema:
    return {"required": [key], "properties": {key: what}}


def _section(section: Schema) -> Schema:
    """Rewrite one mapping of the file."""
    properties = {name: _property(each) for name, each in section["properties"].items()}
    return {**_without_title(section), "properties": properties}


def _optional(section: Schema) -> Schema:
    """Let a section be left empty where nothing in it is required."""
    return section if "required" in section else {**section, "type": ["object", "null"]}


def _property(schema: Schema) -> Schema:
    written = _value(schema)
    if "$ref" not in written:
        return written
    # Beside a $ref this draft ignores everything else.
    return {**written, "allOf": [{"$ref": written.pop("$ref")}]}


def _value(schema: Schema) -> Schema:
    """Rewrite a value: any scalar may come as text, and any text as a reference."""
    schema = _without_title(schema)
    if "$ref" in schema:
        return {**schema, "$ref": schema["$ref"].replace("#/$defs/", "#/definitions/")}
    if "anyOf" in schema:
        return {**schema, "anyOf": [_value(branch) for branch in schema["anyOf"]]}
    if schema["type"] == "array":
        return {**schema, "items": _value(schema["items"])}
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
    return {**either, "anyOf": [*either["anyOf"], {"enum": [0, 1]}]}


_SCALARS: Final[Mapping[str, Callable[[Schema], Schema]]] = {
    "string": _text,
    "integer": _as_text_too(_WHOLE),
    "number": _as_text_too(_NUMBER),
    "boolean": _boolean,
    "null": dict,
}
