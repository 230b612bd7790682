"""Configurations as text."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from bridge.config import loader as config
from bridge.config.settings import Place, Section, Settings
from bridge.errors import ConfigError

SECRET = "s3cr3t-Value"

ENDPOINT = {
    "name": "main",
    "path": "/webhook",
    "source": "urn:example:sms:main",
    "timezone": "UTC",
    "auth": "none",
}
EVENTS = "events: {type_prefix: com.example.messaging}\n"
REQUIRED = f"endpoints: [{ENDPOINT}]\n{EVENTS}"


def parse(text: str, environ: Mapping[str, str] | None = None) -> Settings:
    return config.parse(text, file="F", environ=environ or {})


def problems(
    text: str, environ: Mapping[str, str] | None = None, *, placeholders: bool = False
) -> list[str]:
    """Return the lines of the error, or none where the text is accepted."""
    try:
        config.parse(text, file="F", environ=environ or {}, placeholders=placeholders)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def messages(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the problems without their positions."""
    return [line.split(": ", 1)[1] for line in problems(text, environ)]


def endpoint(**changes: Any) -> str:
    """Return a file whose only endpoint has some settings changed."""
    return f"endpoints: [{ENDPOINT | changes}]\n{EVENTS}"


def two_endpoints(second: dict[str, Any], rest: str = "") -> str:
    """Return a file of two endpoints that differ in everything but what `second` says."""
    other = {"name": "other", "path": "/other", "source": "urn:example:sms:other"}
    return f"endpoints: {[ENDPOINT, ENDPOINT | other | second]}\n{EVENTS}{rest}"


def leaves(section: type[Section], place: Place = ()) -> Iterator[Place]:
    """Every setting of a section; of a list or mapping of sections, those of one."""
    for name, setting in section.model_fields.items():
        here = (*place, name)
        parts = [setting.annotation, *get_args(setting.annotation)]
        inner = next((p for p in parts if isinstance(p, type) and issubclass(p, Section)), None)
        if inner is None:
            yield here
        else:
            steps: dict[Any, Place] = {tuple: (0,), Mapping: ("accepted",)}
            step = steps.get(get_origin(setting.annotation), ())
            yield from leaves(inner, (*here, *step))


LEAVES = list(leaves(Settings))


def put(tree: Any, place: Place, value: object) -> Any:
    """Copy `tree` with a value at a place, making the sections on the way."""
    if not place:
        return value
    step, *rest = place
    if isinstance(step, int):
        return [put(tree[0] if isinstance(tree, list) else {}, tuple(rest), value)]
    tree = tree if isinstance(tree, dict) else {}
    return {**tree, step: put(tree.get(step), tuple(rest), value)}


def at(tree: Any, place: Place) -> Any:
    for step in place:
        tree = tree[step]
    return tree
