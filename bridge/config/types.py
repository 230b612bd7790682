"""The types of single settings: what each accepts, and what is said otherwise.

They know nothing of sections, files or the environment.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
)
from pydantic_core import CoreSchema, core_schema

Network = IPv4Network | IPv6Network
Item = TypeVar("Item")

SHORTEST_CITY: Final = 4
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def network_of(text: str) -> Network:
    """A network, or a single address, as text; IPv4 in IPv6's clothes becomes IPv4.

    Raises ValueError if it is none, or if bits are set beyond the prefix.
    """
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        return IPv4Network((str(mapped), network.prefixlen - _MAPPED.prefixlen))
    return network


@dataclass(frozen=True, slots=True)
class _Rule:
    """Text that a regular expression describes, and what to say otherwise.

    Pydantic's own `pattern` would tell the expression, and knows no lookaheads.
    """

    pattern: str
    what: str

    def check(self, value: str) -> str:
        if re.fullmatch(self.pattern, value) is None:
            raise ValueError(self.what)
        return value

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "pattern": self.pattern}


def _network(value: str) -> str:
    try:
        network_of(value)
    except ValueError:
        what = "must be an address or a network, with no bits set beyond its prefix"
        raise ValueError(what) from None
    return value


def _not_bool(value: object) -> object:
    # Python's True is the number 1, and YAML's `port: yes` is a mistake.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 - pydantic's way
    return value


def _split(value: object) -> object:
    return [server.strip() for server in value.split(",")] if isinstance(value, str) else value


def _port_of_server(value: str) -> str:
    if not 1 <= int(value.rpartition(":")[2]) <= 65535:  # noqa: PLR2004
        raise ValueError(_HOST_AND_PORT)
    return value


def _not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    # Not min_length, which counts only the valid items and so would blame the list for them.
    if not value:
        raise ValueError("must have at least one item")
    return value


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text:
        raise ValueError("must not be empty")
    if text != text.strip() or not text.isprintable():
        raise ValueError("must not hold line breaks, nor white space at either end")
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        what = f"must be a time zone's IANA name, such as Europe/Kyiv or UTC{similar_zone(value)}"
        raise ValueError(what) from None
    return value


def similar_zone(name: str) -> str:
    """What to ask whoever wrote this for a time zone; empty if no city's is like it.

    Of offsets it guesses none: Etc/GMT+3 is three hours behind.
    """
    zones = sorted(zone for zone in available_timezones() if "/" in zone and zone[:4] != "Etc/")
    names = {zone.rpartition("/")[2].casefold(): zone for zone in zones}
    names |= {zone.casefold(): zone for zone in zones}
    close = get_close_matches(name.casefold(), names, n=1, cutoff=0.75)
    if len(name) < SHORTEST_CITY:  # MSK is not Omsk
        return ""
    return f'; did you mean "{names[close[0]]}"?' if close else ""


def _no_dot_segments(value: str) -> str:
    # HTTP clients resolve these before they send, so the route would never match.
    if {".", ".."} & set(value.split("/")):
        raise ValueError("must not hold the segments . and ..")
    return value


def _no_trailing_slash(value: str) -> str:
    return value.rstrip("/") or "/"


def _valid_port(value: str) -> str:
    try:
        _ = urlsplit(value).port
    except ValueError:
        raise ValueError("must have a port from 1 to 65535") from None
    return value


Whole = Annotated[int, BeforeValidator(_not_bool)]
Seconds = Annotated[float, BeforeValidator(_not_bool)]
Port = Annotated[int, Field(ge=0, le=65535), BeforeValidator(_not_bool)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
NotEmpty = Annotated[
    tuple[Item, ...], AfterValidator(_not_empty), Field(json_schema_extra={"minItems": 1})
]

Host = Annotated[str, _Rule(r"^[A-Za-z0-9._:%-]{1,255}$", "must be a host name or an IP address")]
FileName = Annotated[str, _Rule(r"^[^\x00-\x1f\x7f]+$", "must be the path of a file")]
NetworkText = Annotated[
    str,
    _Rule(
        r"^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$",
        "must be an address or a network, such as 203.0.113.0/24 or 2001:db8::1",
    ),
    AfterValidator(_network),
]
UserName = Annotated[
    str, _Rule(r"^[^\x00-\x1f\x7f]{1,256}$", "must be 1 to 256 characters, on one line")
]

# --- Kafka -------------------------------------------------------------------------------

_SERVER: Final = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}"
_HOST_AND_PORT: Final = "must be host:port, with a port from 1 to 65535"
ServerAddress = Annotated[
    str, _Rule(f"^{_SERVER}$", _HOST_AND_PORT), AfterValidator(_port_of_server)
]
_ServersText = Annotated[str, _Rule(rf"^\s*{_SERVER}\s*(,\s*{_SERVER}\s*)*$", _HOST_AND_PORT)]
Servers = Annotated[
    NotEmpty[ServerAddress],
    BeforeValidator(_split, json_schema_input_type=_ServersText | list[ServerAddress]),
]
TopicName = Annotated[
    str,
    _Rule(
        r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}$",
        'must be 1 to 249 letters, digits, ".", "_" or "-", and not "." or ".."',
    ),
]
# RFC 6749, 3.2: a query may be part of it, a fragment may not.
TokenUrl = Annotated[
    str,
    _Rule(
        r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%@:+-]+)*/?"
        r"(\?[A-Za-z0-9._~%&=@:/+-]*)?$",
        "must be an https:// URL without credentials and fragment",
    ),
    AfterValidator(_valid_port),
]
Scope = Annotated[
    str,
    # RFC 6749, 3.3
    _Rule(
        r"^[!#-\[\]-~]+( [!#-\[\]-~]+)*$",
        "must be scopes of printable ASCII with single spaces between",
    ),
]
ClientId = Annotated[
    str, _Rule(r"^[A-Za-z0-9._-]{1,249}$", 'must be 1 to 249 letters, digits, ".", "_" or "-"')
]

# --- endpoints and events ----------------------------------------------------------------

# A colon ends the user name on the wire (RFC 7617, 2).
BasicUser = Annotated[
    str, _Rule(r"^[^:\x00-\x1f\x7f]{1,256}$", "must be 1 to 256 characters without a colon")
]
EndpointName = Annotated[
    str,
    _Rule(
        r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        'must be 1 to 64 letters, digits, ".", "_" or "-", the first a letter or digit',
    ),
]
UrlPath = Annotated[
    str,
    _Rule(
        r"^/$|^(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+/?$",
        "must begin with / and hold no query, fragment, space, brace or percent sign",
    ),
    AfterValidator(_no_dot_segments),
    AfterValidator(_no_trailing_slash),
]
# Credentials are settings of their own, and a query or a fragment would swallow what is added.
ProviderUrl = Annotated[
    str,
    _Rule(
        r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?$",
        "must be an https:// URL without credentials, query and fragment",
    ),
    AfterValidator(_valid_port),
    AfterValidator(lambda url: url.rstrip("/")),
]
SourceUri = Annotated[
    str,
    _Rule(
        r"^(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,256}$",
        "must be a URI of 1 to 256 characters, without spaces",
    ),
]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Rank = Annotated[int, Field(ge=0, le=100), BeforeValidator(_not_bool)]
StatusWord = Annotated[
    str, _Rule(r"^[a-z0-9_]{1,64}$", "must be 1 to 64 of a-z, 0-9 and _: statuses are lower-cased")
]
TypePrefix = Annotated[
    str,
    _Rule(
        r"^(?=.{1,128}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$",
        "must be a reverse DNS name in lower case, such as com.example.messaging",
    ),
]
