"""The bridge, watched less and more: from no metrics and logs to everything that can be on."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.programs import Bridge
from bridge.demo.child import HOST, free_ports

OFF, METRICS, USUAL, TRACED, ALL = (
    "nothing",
    "metrics",
    "metrics and logs",
    "metrics, logs and tracing",
    "metrics, logs, tracing and inspector",
)
LOGGED = (USUAL, TRACED, ALL)
QUIET = {"log": {"level": "error"}}
UNMEASURED = "benchmarks.unmeasured"


@contextlib.contextmanager
def bridges(bootstrap_servers: str, cores: frozenset[int] | None) -> Iterator[dict[str, Bridge]]:
    """Run one of each, the least watched first."""
    with contextlib.ExitStack() as stack:
        collector = stack.enter_context(_collector())
        exports = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector}
        inspector = {"inspector": {"host": HOST, "port": free_ports(1)[0]}}
        made = {
            OFF: Bridge(bootstrap_servers, cores, settings=QUIET, module=UNMEASURED),
            METRICS: Bridge(bootstrap_servers, cores, settings=QUIET),
            USUAL: Bridge(bootstrap_servers, cores),
            TRACED: Bridge(bootstrap_servers, cores, environ=exports),
            ALL: Bridge(bootstrap_servers, cores, settings=inspector, environ=exports),
        }
        for bridge in made.values():
            stack.enter_context(bridge)
        yield made


@contextlib.contextmanager
def _collector() -> Iterator[str]:
    """Run what takes spans and drops them; its URL."""
    server = ThreadingHTTPServer((HOST, 0), _Dropping)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Dropping(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
