"""Listening sockets: how they are opened, watched and written in the log."""

import os
import socket

from bridge.config.settings import Admin, Inspector, Server

BACKLOG = 2048
ACCEPTS = 16  # new connections in one turn of the loop


def listen(where: Server | Admin | Inspector) -> socket.socket:
    """Open a listener; OSError with its address if that cannot be had."""
    family, _, _, _, address = socket.getaddrinfo(
        where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # All of IPv6's addresses are IPv4's too (RFC 3493, 5.3), whatever the system's default is.
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(
            address, family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
    except OSError as exc:
        why = os.strerror(exc.errno) if exc.errno else str(exc)
        name = _written(where.host, where.port)
        raise OSError(f"cannot listen on {name}: {why}") from exc
    listener.setblocking(False)
    return listener


def copies(listener: socket.socket) -> list[socket.socket]:
    """The listener as several sockets: uvloop takes one new connection of each in a turn.

    With one alone, whoever connects would wait for those who are kept alive and busy.
    """
    return [listener, *(listener.dup() for _ in range(ACCEPTS - 1))]


def address_of(listener: socket.socket) -> str:
    """Where a listener listens, as URLs have it."""
    host, port, *_ = listener.getsockname()
    return _written(host, port)


def _written(host: str, port: int) -> str:
    """An address as URLs have it (RFC 3986, 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
