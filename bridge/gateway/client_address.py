"""Where a request comes from: addresses, networks, and the proxies that are believed about it.

What X-Forwarded-For says counts as far as trusted proxies wrote it, and no further.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from bridge.config.types import Network, network_of

Address = IPv4Address | IPv6Address

FORWARDED_FOR = b"x-forwarded-for"
MAX_ENTRY_CHARACTERS = 64  # of one address with its port
# As Azure's gateways and IIS write them, beside the plain address: 192.0.2.1:5678,
# [2001:db8::1]:5678, [2001:db8::1].
_WITH_PORT = re.compile(r"(?P<v4>[0-9.]+):[0-9]{1,5}|\[(?P<v6>[0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Networks:
    """Several networks; `address in networks` tells whether any of them holds the address."""

    each: tuple[Network, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Networks":
        """The networks that settings name, such as 203.0.113.0/24 or 2001:db8::1."""
        return cls(tuple(network_of(text) for text in texts))

    def __contains__(self, address: Address | None) -> bool:
        # Of another version than the network's is never in it.
        return address is not None and any(address in network for network in self.each)


def address_of(text: str) -> Address | None:
    """An address as text, or None; ::ffff:192.0.2.1 is 192.0.2.1, and a zone is left out."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies whose X-Forwarded-For is believed."""

    trusted: Networks

    def client(
        self, peer: tuple[str, int] | None, headers: Iterable[tuple[bytes, bytes]]
    ) -> Address | None:
        """Who sent a request that came from `peer`; None if nobody trusted says so.

        Each proxy appends the address that it was called from, so the chain is walked from its
        end, to the first address that is no trusted proxy's. What stands before it is anybody's
        claim. Where all are trusted ones, it is the first of them.
        """
        address = address_of(peer[0]) if peer else None
        if address not in self.trusted:
            return address
        for entry in reversed(_forwarded(headers)):
            address = _entry_address(entry)
            if address not in self.trusted:
                break
        return address


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """The entries of all header lines of the name, which are one list (RFC 9110, 5.3)."""
    lines = [value.decode("latin-1") for name, value in headers if name == FORWARDED_FOR]
    return [entry.strip(" \t") for entry in ",".join(lines).split(",")] if lines else []


def _entry_address(entry: str) -> Address | None:
    if len(entry) > MAX_ENTRY_CHARACTERS:
        return None
    match = _WITH_PORT.fullmatch(entry)
    return address_of((match["v4"] or match["v6"]) if match else entry)
