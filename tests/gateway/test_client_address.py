"""Whose address counts: networks, and how far X-Forwarded-For is believed."""

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config.types import network_of
from bridge.gateway.client_address import MAX_ENTRY_CHARACTERS, Networks, Proxies, address_of

PROXY = "10.0.0.1"
PROXIES = Proxies(Networks.of(["10.0.0.0/8", "2001:db8:ffff::/48"]))
NOBODY = Proxies(Networks.of([]))


def client(*lines: str, peer: str = PROXY, proxies: Proxies = PROXIES) -> str | None:
    """Who is taken for the sender, where these header lines came from that peer."""
    headers = [(b"host", b"x"), *((b"x-forwarded-for", line.encode("latin-1")) for line in lines)]
    found = proxies.client((peer, 4711), headers)
    return None if found is None else str(found)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("203.0.113.0/24", ["203.0.113.0", "203.0.113.255"], ["203.0.112.255", "203.0.114.0"]),
        ("203.0.113.7", ["203.0.113.7", "::ffff:203.0.113.7"], ["203.0.113.8", "2001:db8::1"]),
        ("2001:db8::/32", ["2001:db8::1", "2001:db8:ffff::"], ["2001:db9::", "203.0.113.7"]),
        ("2001:db8::1", ["2001:db8::1", "2001:0DB8:0:0::1"], ["2001:db8::2"]),
        ("fe80::/10", ["fe80::1%eth0"], ["::1"]),
        ("0.0.0.0/0", ["203.0.113.7", "::ffff:203.0.113.7"], ["2001:db8::1"]),
        ("::/0", ["2001:db8::1"], ["203.0.113.7", "::ffff:203.0.113.7"]),
        ("::ffff:203.0.113.0/120", ["203.0.113.7", "::ffff:cb00:7107"], ["203.0.114.1"]),
        ("::ffff:203.0.113.7", ["203.0.113.7"], ["203.0.113.8"]),
    ],
)
def test_a_network_holds_its_own_addresses_and_no_others(
    text: str, inside: list[str], outside: list[str]
) -> None:
    """IPv4 as IPv6 writes it is IPv4, on either side."""
    networks = Networks.of(["192.0.2.1", text])
    assert all(address_of(address) in networks for address in inside)
    assert not any(address_of(address) in networks for address in outside)


def test_no_address_is_in_no_network() -> None:
    assert None not in Networks.of(["0.0.0.0/0", "::/0"])
    assert address_of("127.0.0.1") not in Networks.of([])


@pytest.mark.parametrize("text", ["203.0.113.7/24", "2001:db8::1/32", "1.2.3.4/33", "x", ""])
def test_what_is_no_network_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"permitted|bits set|appear"):
        network_of(text)


def test_without_the_header_the_peer_is_the_sender() -> None:
    assert client() == PROXY
    assert client(peer="203.0.113.7") == "203.0.113.7"
    assert client(peer="::ffff:203.0.113.7") == "203.0.113.7"


@pytest.mark.parametrize("peer", ["203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7"])
def test_the_header_of_a_stranger_is_not_believed(peer: str) -> None:
    assert client("198.51.100.1", peer=peer) == str(address_of(peer))
    assert client("198.51.100.1", peer=peer, proxies=NOBODY) == str(address_of(peer))


@pytest.mark.parametrize(
    ("lines", "sender"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7"], "203.0.113.7"),  # the first is what the sender claims
        (["203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        (["198.51.100.1,203.0.113.7,10.0.0.3,10.0.0.2"], "203.0.113.7"),
        (["10.9.9.9, 203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        (["198.51.100.1", "203.0.113.7", "10.0.0.2"], "203.0.113.7"),  # several lines are one list
        (["198.51.100.1, 203.0.113.7", "10.0.0.2"], "203.0.113.7"),
        (["2001:db8::5, 2001:db8:ffff::1"], "2001:db8::5"),
        (["::ffff:203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # from within: the farthest that is known
    ],
)
def test_the_chain_is_walked_from_its_end_through_trusted_proxies(
    lines: list[str], sender: str
) -> None:
    assert client(*lines) == sender
    assert client(*lines, peer="::ffff:10.0.0.1") == sender


@pytest.mark.parametrize(
    ("entry", "sender"),
    [
        ("203.0.113.7:5678", "203.0.113.7"),
        ("[2001:db8::5]:5678", "2001:db8::5"),
        ("[2001:db8::5]", "2001:db8::5"),
        ("2001:db8::5", "2001:db8::5"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
        ("\t203.0.113.7  ", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_entries_are_read_as_proxies_write_them(entry: str, sender: str) -> None:
    """Some append the port, and then IPv6 stands in brackets."""
    assert client(f"198.51.100.1, {entry}, 10.0.0.2:443") == sender


@pytest.mark.parametrize(
    "entry",
    [
        *("", " ", "unknown", "_hidden", "-", "localhost", "unix:", "10.0.0.1 203.0.113.7"),
        *("10.0.0", "010.0.0.1", "10.0.0.256", "10.0.0.1:", "10.0.0.1:x", "10.0.0.1:123456"),
        *("[10.0.0.1]:80:80", "[2001:db8::5", "2001:db8::5]", "[2001:db8::5]x", "10.0.0.1/8"),
        *(
            '"10.0.0.1"',
            "for=10.0.0.1",
            "1",
            "0x0a000001",
            "\xff",
            "\u00b9\u00b2.0.0.1",
        ),
        "0" * MAX_ENTRY_CHARACTERS + "::1",
    ],
)
def test_beyond_an_entry_that_is_no_address_nothing_is_known(entry: str) -> None:
    """Whoever wrote it, what stands before it may be anybody's."""
    assert client(f"203.0.113.7, {entry}") is None
    assert client(f"203.0.113.7, {entry}, 10.0.0.2") is None
    assert client(f"{entry}, 203.0.113.7") == "203.0.113.7"


def test_a_peer_without_an_address_is_nobody() -> None:
    """As on a Unix socket."""
    assert PROXIES.client(None, [(b"x-forwarded-for", b"203.0.113.7")]) is None
    assert PROXIES.client(("", 0), []) is None


@settings(deadline=None)  # a loaded machine is no failure
@given(st.lists(st.binary(max_size=80), max_size=5))
def test_no_bytes_break_it_nor_get_past_the_last_proxy(claims: list[bytes]) -> None:
    """Whatever a sender puts before it, what the trusted proxy has appended is what counts."""
    headers = [
        *((b"x-forwarded-for", claim) for claim in claims),
        (b"x-forwarded-for", b"192.0.2.1"),
    ]
    assert PROXIES.client((PROXY, 1), headers) == ip_address("192.0.2.1")
    PROXIES.client((PROXY, 1), headers[:-1])
