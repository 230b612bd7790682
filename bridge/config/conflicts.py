"""Settings that are each valid and do not go together: the rules, and what breaks them.

A rule is a value and not code, so that the schema and the chart say the same: see RULES.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from bridge.config.settings import Place, Settings, dotted

_ANY_HOST: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound

FALLBACKS: Final = {"endpoints[].topic": "kafka.topic"}
"""The setting that stands in for one that is left out, by key."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Settings that are each valid and do not go together.

    `place` is the one to blame; `between` holds every place that the finding rests on.
    """

    place: Place
    what: str
    between: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Distinct:
    """No two values of these keys are the same; a port is another on another host."""

    keys: tuple[str, ...]

    def broken(self, settings: Settings) -> Iterator[Conflict]:
        """Yield each value that an earlier one has."""
        earlier: list[_Found] = []
        for found in (each for key in self.keys for each in _all(settings, key)):
            same = next((each for each in earlier if _meet(settings, each, found)), None)
            if same:
                yield found.conflict(f"must differ from {dotted(same.place)}", same)
            earlier.append(found)


@dataclass(frozen=True, slots=True)
class Differs:
    """The value of a key is none of the other key's."""

    key: str
    other: str

    def broken(self, settings: Settings) -> Iterator[Conflict]:
        """Yield the value once for each of the other key's that is the same."""
        found = _only(settings, self.key)
        for other in _all(settings, self.other):
            if found.value == other.value:
                yield found.conflict(f"must differ from {dotted(other.place)}", other)


@dataclass(frozen=True, slots=True)
class Decides:
    """Items of a list with one value of a key have one value of the other key."""

    key: str
    other: str

    def broken(self, settings: Settings) -> Iterator[Conflict]:
        """Yield each value that an earlier item has beside another value of the other key."""
        one, many = (key.rpartition(".")[2] for key in (self.key, self.other))
        pairs = list(zip(_all(settings, self.key), _all(settings, self.other), strict=True))
        for number, (found, other) in enumerate(pairs):
            for before, decided in pairs[:number]:
                if found.value == before.value and other.value != decided.value:
                    what = f"the same as {dotted(before.place)}, but with another {many}: "
                    what += f"one {one} must have one {many}"
                    yield found.conflict(what, before, decided, other)


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A number is not below another."""

    key: str
    other: str

    def broken(self, settings: Settings) -> Iterator[Conflict]:
        """Yield the number if it is below the other."""
        found, other = _only(settings, self.key), _only(settings, self.other)
        if found.value < other.value:
            yield found.conflict(f"must be at least {self.other}", other)


@dataclass(frozen=True, slots=True)
class Needs:
    """If a key has a value, or one of `when`, the other key has a value too."""

    key: str
    other: str
    when: tuple[str, ...] = ()

    def broken(self, settings: Settings) -> Iterator[Conflict]:
        """Yield the value if the other key has none."""
        found, other = _only(settings, self.key), _only(settings, self.other)
        given = found.value in self.when if self.when else found.value is not None
        if given and other.value is None:
            yield found.conflict(f"{found.value if self.when else ''} needs {self.other}", other)


@dataclass(frozen=True, slots=True)
class OnlyWith:
    """If a key has a value, that of the other key is one of these, written as text."""

    key: str
    other: str
    values: tuple[str, ...]

    def broken(self, settings: Settings) -> Iterator[Conflict]:
        """Yield the value if the other key's is none of these."""
        found, other = _only(settings, self.key), _only(settings, self.other)
        if found.value is not None and str(other.value) not in self.values:
            yield found.conflict(f"only with {self.other} {' or '.join(self.values)}", other)


Rule = Distinct | Differs | Decides | AtLeast | Needs | OnlyWith

_PROTOCOL: Final = "kafka.security.protocol"
_SASL: Final = "kafka.security.sasl"
_TLS: Final = "kafka.security.tls"
_MECHANISM: Final = f"{_SASL}.mechanism"
_WITH_PASSWORD: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_WITH_TOKEN: Final = ("OAUTHBEARER",)

RULES: Final[tuple[Rule, ...]] = (
    Distinct(("endpoints[].name",)),
    Distinct(("endpoints[].path",)),
    Decides("endpoints[].source", "endpoints[].topic"),
    Differs("kafka.dead_letter_topic", "endpoints[].topic"),
    Distinct(("server.port", "admin.port", "inspector.port")),
    OnlyWith("inspector", "server.processes", ("1",)),
    AtLeast("server.max_in_flight_bytes", "server.max_body_bytes"),
    Needs(_PROTOCOL, _SASL, when=("SASL_SSL", "SASL_PLAINTEXT")),
    OnlyWith(_SASL, _PROTOCOL, ("SASL_SSL", "SASL_PLAINTEXT")),
    OnlyWith(_TLS, _PROTOCOL, ("SSL", "SASL_SSL")),
    Needs(_MECHANISM, f"{_SASL}.username", when=_WITH_PASSWORD),
    Needs(_MECHANISM, f"{_SASL}.password", when=_WITH_PASSWORD),
    Needs(_MECHANISM, f"{_SASL}.token_url", when=_WITH_TOKEN),
    Needs(_MECHANISM, f"{_SASL}.client_id", when=_WITH_TOKEN),
    Needs(_MECHANISM, f"{_SASL}.client_secret", when=_WITH_TOKEN),
    OnlyWith(f"{_SASL}.username", _MECHANISM, _WITH_PASSWORD),
    OnlyWith(f"{_SASL}.password", _MECHANISM, _WITH_PASSWORD),
    OnlyWith(f"{_SASL}.token_url", _MECHANISM, _WITH_TOKEN),
    OnlyWith(f"{_SASL}.client_id", _MECHANISM, _WITH_TOKEN),
    OnlyWith(f"{_SASL}.client_secret", _MECHANISM, _WITH_TOKEN),
    OnlyWith(f"{_SASL}.scope", _MECHANISM, _WITH_TOKEN),
    OnlyWith(f"{_SASL}.token_ca_file", _MECHANISM, _WITH_TOKEN),
    Needs(f"{_TLS}.cert_file", f"{_TLS}.key_file"),
    Needs(f"{_TLS}.key_file", f"{_TLS}.cert_file"),
    Needs(f"{_TLS}.key_password", f"{_TLS}.key_file"),
)
"""What the program refuses to start with. The chart's rules are made of these too (`make schema`),
and the schema of the configuration of those that a schema can say."""


def conflicts(settings: Settings) -> Iterator[Conflict]:
    """Find every rule that is broken."""
    for rule in RULES:
        yield from rule.broken(settings)


@dataclass(frozen=True, slots=True)
class _Found:
    """A setting's value, where it stands, and every place that it rests on."""

    value: Any
    place: Place
    on: tuple[Place, ...]

    def conflict(self, what: str, *others: "_Found") -> Conflict:
        return Conflict(self.place, what.strip(), sum((o.on for o in others), self.on))


def _all(settings: Settings, key: str) -> Iterator[_Found]:
    """Every value of a key such as `endpoints[].name`."""
    section, listed, name = key.rpartition("[].")
    if not listed:
        yield _only(settings, key)
        return
    for number, item in enumerate(getattr(settings, section)):
        place: Place = (section, number, name)
        found = _Found(getattr(item, name), place, (place,))
        if found.value is None and key in FALLBACKS:
            shared = _only(settings, FALLBACKS[key])
            found = _Found(shared.value, shared.place, (place, *shared.on))
        yield found


def _only(settings: Settings, key: str) -> _Found:
    """The value of a key such as `server.port`; None in a section that is left out."""
    place: Place = tuple(key.split("."))
    host: Place = (*place[:-1], "host")
    return _Found(_at(settings, place), place, (place, host) if place[-1] == "port" else (place,))


def _at(settings: Settings, place: Place) -> Any:
    value: Any = settings
    for step in place:
        value = getattr(value, str(step), None)
    return value


def _meet(settings: Settings, one: _Found, two: _Found) -> bool:
    if one.value != two.value or one.place[-1] != "port":
        return one.value is not None and one.value == two.value
    hosts = [_at(settings, (*found.place[:-1], "host")) for found in (one, two)]
    return one.value != 0 and (hosts[0] == hosts[1] or not _ANY_HOST.isdisjoint(hosts))
