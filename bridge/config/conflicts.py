"""Settings that are each valid and do not go together."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from bridge.config.settings import Admin, Inspector, Place, Security, Server, Settings, Tls, dotted

_ANY_HOST: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class Conflict:
    """Settings that are each valid and do not go together.

    `place` is the one to blame; `between` holds every place that the finding rests on.
    """

    place: Place
    what: str
    between: tuple[Place, ...]


def conflicts(settings: Settings) -> Iterator[Conflict]:
    """Find every pair of settings that do not go together."""
    yield from _repeated(settings, "name")
    yield from _repeated(settings, "path")
    yield from _divided_sources(settings)
    yield from _accounts_without_one_way_in(settings)
    yield from _rejected_among_statuses(settings)
    yield from _one_port_for_two(settings)
    yield from _bodies_that_never_fit(settings)
    yield from _security_that_does_not_agree(settings.kafka.security)
    yield from _half_a_certificate(settings.kafka.security.tls)


def _repeated(settings: Settings, key: str) -> Iterator[Conflict]:
    first: dict[str, Place] = {}
    for number, endpoint in enumerate(settings.endpoints):
        place = ("endpoints", number, key)
        earlier = first.setdefault(getattr(endpoint, key), place)
        if earlier != place:
            yield Conflict(place, f"the same as {dotted(earlier)}", (place, earlier))


def _divided_sources(settings: Settings) -> Iterator[Conflict]:
    for (m, one), (n, two) in combinations(enumerate(settings.endpoints), 2):
        if one.source == two.source and settings.topic_of(one) != settings.topic_of(two):
            sources: tuple[Place, ...] = (("endpoints", m, "source"), ("endpoints", n, "source"))
            yield Conflict(
                sources[1],
                f"the same as {dotted(sources[0])}, but with another topic: one source must "
                "have one topic",
                (*sources, *_topic_places(settings, m), *_topic_places(settings, n)),
            )


def _topic_places(settings: Settings, number: int) -> tuple[Place, ...]:
    own: Place = ("endpoints", number, "topic")
    return (own,) if settings.endpoints[number].topic else (own, ("kafka", "topic"))


def _accounts_without_one_way_in(settings: Settings) -> Iterator[Conflict]:
    for number, endpoint in enumerate(settings.endpoints):
        if (provider := endpoint.provider) is None:
            continue
        section: Place = ("endpoints", number, "provider")
        token, login, password = ((*section, key) for key in ("token", "login", "password"))
        if provider.token and (provider.login or provider.password):
            what = "either this, or login and password"
            yield Conflict(token, what, (token, login, password))
        elif provider.login and not provider.password:
            yield Conflict(login, f"needs {dotted(password)}", (login, password))
        elif provider.password and not provider.login:
            yield Conflict(password, f"needs {dotted(login)}", (password, login))
        elif not provider.token and not provider.login:
            what = "needs a token, or login and password"
            yield Conflict(section, what, (token, login, password))


def _rejected_among_statuses(settings: Settings) -> Iterator[Conflict]:
    place = ("kafka", "dead_letter_topic")
    for number, endpoint in enumerate(settings.endpoints):
        if settings.topic_of(endpoint) == settings.kafka.dead_letter_topic:
            topics = _topic_places(settings, number)
            what = f"must differ from {dotted(topics[-1])}"
            yield Conflict(place, what, (place, *topics))


def _one_port_for_two(settings: Settings) -> Iterator[Conflict]:
    listeners: list[tuple[str, Server | Admin | Inspector]] = [
        ("server", settings.server),
        ("admin", settings.admin),
    ]
    if settings.inspector is not None:
        listeners.append(("inspector", settings.inspector))
    for (first, one), (second, two) in combinations(listeners, 2):
        meet = one.host == two.host or not _ANY_HOST.isdisjoint({one.host, two.host})
        if one.port == two.port != 0 and meet:
            between = tuple((name, key) for name in (first, second) for key in ("host", "port"))
            yield Conflict((second, "port"), f"must differ from {first}.port", between)


def _bodies_that_never_fit(settings: Settings) -> Iterator[Conflict]:
    if settings.server.max_in_flight_bytes < settings.server.max_body_bytes:
        places = (("server", "max_in_flight_bytes"), ("server", "max_body_bytes"))
        yield Conflict(places[0], "must be at least server.max_body_bytes", places)


def _security_that_does_not_agree(security: Security) -> Iterator[Conflict]:
    section: Place = ("kafka", "security")
    protocol, sasl, tls = ((*section, key) for key in ("protocol", "sasl", "tls"))
    if security.logs_in and security.sasl is None:
        what = f"{security.protocol} needs kafka.security.sasl: mechanism, username, password"
        yield Conflict(protocol, what, (protocol, sasl))
    if security.sasl is not None and not security.logs_in:
        what = "only with kafka.security.protocol SASL_SSL or SASL_PLAINTEXT"
        yield Conflict(sasl, what, (sasl, protocol))
    if security.tls is not None and not security.encrypted:
        what = "only with kafka.security.protocol SSL or SASL_SSL"
        yield Conflict(tls, what, (tls, protocol))


def _half_a_certificate(tls: Tls | None) -> Iterator[Conflict]:
    needs = (("cert_file", "key_file"), ("key_file", "cert_file"), ("key_password", "key_file"))
    for key, needed in needs:
        if tls is not None and getattr(tls, key) and not getattr(tls, needed):
            places: tuple[Place, ...] = tuple(
                ("kafka", "security", "tls", k) for k in (key, needed)
            )
            yield Conflict(places[0], f"needs {dotted(places[1])}", places)
