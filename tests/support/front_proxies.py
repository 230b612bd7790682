"""The proxies that stand before the gateway in earnest: HAProxy and nginx, Debian's, on loopback.

Each adds the address that called it to X-Forwarded-For, HAProxy after deleting the client's own.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.brokers import free_ports, wait_until
from tests.support.wire import Address, Wire

STOP_SECONDS = 5.0

HAPROXY = """\
global
    maxconn 256
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind {front}
    http-request del-header X-Forwarded-For
    option forwardfor
    default_backend gateway
backend gateway
    http-reuse always
    server gateway {gateway}
"""

# The body goes on as it comes: that is when a proxy could pass on what it does not know.
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
}}
"""


class FrontProxy:
    """One run of a proxy's program in front of a gateway; its files are its own."""

    def __init__(self, program: str, gateway: Address) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="sms-front-proxy-")
        self._home = Path(self._directory.name)
        (port,) = free_ports(1)
        self.address: Address = ("127.0.0.1", port)
        nginx = Path(program).name == "nginx"
        text = (NGINX if nginx else HAPROXY).format(
            home=self._home, front="{}:{}".format(*self.address), gateway="{}:{}".format(*gateway)
        )
        config = self._home / "config"
        config.write_text(text)
        options = ["-p", str(self._home), "-e", str(self._home / "log")] if nginx else ["-db"]
        self._command = [program, *options, "-c" if nginx else "-f", str(config)]
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with (self._home / "output").open("wb") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            wait_until(self._listens, f"{self._command[0]} listens")
        except BaseException:
            sys.stderr.write(self.output)
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    @property
    def output(self) -> str:
        """What it has to say."""
        files = (self._home / name for name in ("output", "log"))
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def _listens(self) -> bool:
        assert self._process.poll() is None, f"it has ended: {self.output}"
        try:
            with Wire(self.address):
                return True
        except OSError:
            return False

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._directory.cleanup()
