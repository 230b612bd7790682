"""The proxies that stand before the gateway in earnest: Debian's HAProxy and nginx, on loopback."""

import csv
import socket
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from bridge.demo.child import HOST, STOP_SECONDS, Child, free_ports
from tests.support.wire import Address, Wire

HAPROXY = """\
global
    maxconn 256
    log stdout format raw daemon
defaults
    log global
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
{servers}
"""
HAPROXY_SERVERS = """\
frontend front
    bind {front}
    http-request del-header X-Forwarded-For
    option forwardfor
    default_backend gateway
backend gateway
    http-reuse always
    server gateway {gateway}
"""

# What one gateway does not accept goes to the other; no request is sent twice.
HAPROXY_BALANCED = """\
global
    stats socket {home}/stats
frontend front
    bind {front}
    default_backend gateways
backend gateways
    option httpchk GET /readyz
    option redispatch 1
    timeout check 5s
    default-server check inter 100ms fall 1 rise 1
{gateways}
"""

NGINX = """\
daemon off;
master_process off;
pid {home}/pid;
error_log {home}/log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    {servers}
}}
"""
# The body goes on as it comes: that is when a proxy could pass on what it does not know.
NGINX_SERVERS = """\
    client_max_body_size 0;
    upstream gateway {{
        server {gateway};
        keepalive 8;
    }}
    server {{
        listen {front};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
"""

Servers = Callable[[Path, str], str]
"""The proxy's own part of its configuration, for its directory and the address to listen on."""


Place = tuple[str, int, int]
"""A gateway: its host, its port, and that of its private listener."""


def plain(program: str, gateway: Address) -> Servers:
    """Add the address that called to X-Forwarded-For, HAProxy after deleting the client's own."""
    text = NGINX_SERVERS if is_nginx(program) else HAPROXY_SERVERS
    return lambda _, front: text.format(front=front, gateway="{}:{}".format(*gateway))


def balanced(gateways: Iterable[Place]) -> Servers:
    """Share requests among the gateways that are ready, which have numbers from 0 on."""
    lines = [
        f"    server {number} {host}:{port} port {admin_port}"
        for number, (host, port, admin_port) in enumerate(gateways)
    ]
    return lambda home, front: HAPROXY_BALANCED.format(
        home=home, front=front, gateways="\n".join(lines)
    )


def is_nginx(program: str) -> bool:
    """Whether it is nginx; otherwise it is HAProxy."""
    return Path(program).name == "nginx"


class FrontProxy(Child):
    """One run of a proxy's program in front of a gateway; its files are its own."""

    def __init__(self, program: str, servers: Servers) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="sms-front-proxy-")
        self.home = home = Path(self._directory.name)
        (port,) = free_ports(1)
        self.address: Address = (HOST, port)
        nginx = is_nginx(program)
        own = servers(home, "{}:{}".format(*self.address))
        config = home / "config"
        config.write_text((NGINX if nginx else HAPROXY).format(home=home, servers=own))
        options = ["-p", home, "-e", home / "log"] if nginx else ["-db"]
        command = [program, *options, "-c" if nginx else "-f", config]
        super().__init__(program, *command, log=home / "log")

    def start(self) -> None:
        """Start it and wait until it listens."""
        super().start()
        self.wait_until(self._listens, f"{self.name} listens")

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End it, and its files with it."""
        super().stop(seconds)
        self._directory.cleanup()

    def is_up(self, number: int) -> bool:
        """Whether it sends requests to the gateway of this number; only of what is balanced."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.home / "stats"))
            asking.sendall(b"show stat\n")
            told = asking.makefile(encoding="ascii").read()
        rows = csv.DictReader(told.removeprefix("# ").splitlines())
        return any(row["svname"] == str(number) and row["status"] == "UP" for row in rows)

    def _listens(self) -> bool:
        try:
            with Wire(self.address):
                return True
        except OSError:
            return False
