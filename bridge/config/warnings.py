"""What a valid configuration allows and should be on purpose.

`check` prints these warnings, and `serve` logs them when it starts, and new ones when it reloads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from bridge.config.settings import Endpoint, Security, Settings, meanings
from bridge.config.types import network_of
from bridge.model import MEANINGS, Meaning

MIN_TOKEN_CHARACTERS = 16  # 64 bits where each is a hexadecimal digit, as generators write them
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Warned:
    """One warning: as a line it is `about` and `what`, in the log `what` and `fields`."""

    about: str
    what: str
    fields: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.about} {self.what}"


def warnings(settings: Settings) -> Iterator[Warned]:
    """Every warning about these settings."""
    for endpoint in settings.endpoints:
        if endpoint.auth is None:
            what = "auth is none: anyone who can reach it can post"
            yield Warned(f"endpoint {endpoint.name}:", what, {"endpoint": endpoint.name})
        yield from _about_tokens(endpoint)
    yield from provider_warnings(settings)
    yield from _login_warnings(settings.kafka.security)
    for network in settings.server.trusted_proxies:
        if not network_of(network).prefixlen:
            what = "believes every sender about its own address"
            setting = "server.trusted_proxies"
            yield Warned(f"{setting}: {network}", what, {"setting": setting, "network": network})
    if settings.log.level == "error":
        yield _about_setting("log.level", "ids that are not acknowledged are not logged")
    if settings.inspector is not None and settings.inspector.host not in _LOOPBACK:
        what = "the inspector asks for no password: whoever reaches its address sees what is posted"
        yield _about_setting("inspector.host", what)

    known = meanings(settings.events)
    for word in settings.events.statuses:
        yield from _about_status(f"events.statuses.{word}", MEANINGS.get(word), known[word])


def _about_tokens(endpoint: Endpoint) -> Iterator[Warned]:
    tokens = endpoint.auth.tokens if endpoint.auth is not None else ()
    if any(len(token.get_secret_value()) < MIN_TOKEN_CHARACTERS for token in tokens):
        what = f"a token has fewer than {MIN_TOKEN_CHARACTERS} characters: it can be guessed"
        yield Warned(f"endpoint {endpoint.name}:", what, {"endpoint": endpoint.name})


def _login_warnings(security: Security) -> Iterator[Warned]:
    if security.sasl is None:
        return
    sent = {"PLAIN": "password", "OAUTHBEARER": "token"}.get(security.sasl.mechanism)
    if sent and security.protocol == "SASL_PLAINTEXT":
        what = f"the {sent} goes over the network in the clear; use SASL_SSL"
        yield _about_setting("kafka.security", what)
    url = urlsplit(security.sasl.token_url or "")
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        what = "the client's secret and its tokens go over the network in the clear; use https"
        yield _about_setting("kafka.security.sasl.token_url", what)


def _about_status(setting: str, built_in: Meaning | None, meaning: Meaning) -> Iterator[Warned]:
    if built_in is not None and built_in.outcome != meaning.outcome:
        what = f"the built-in word means {built_in.outcome}, and here {meaning.outcome}"
        yield _about_setting(setting, what)
    if meaning.rank is None:
        what = "without a rank it never comes before a word that has one"
        yield _about_setting(setting, what)


def provider_warnings(settings: Settings) -> Iterator[Warned]:
    """Those about asking the provider's API."""
    for endpoint in settings.endpoints:
        if endpoint.provider is not None and not endpoint.provider.encrypted:
            what = "the credentials for the provider's API go over the network in the clear"
            yield Warned(f"endpoint {endpoint.name}:", what, {"endpoint": endpoint.name})


def _about_setting(setting: str, what: str) -> Warned:
    return Warned(f"{setting}:", what, {"setting": setting})
