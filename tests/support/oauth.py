"""An OAuth server of the tests: a token endpoint over TLS, and the keys that a broker needs."""

import base64
import binascii
import json
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, quote_plus, unquote_plus

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from trustme import CA

HOST = "127.0.0.1"
CLIENT, CLIENT_SECRET = "bridge", "a secret:+that/no%log may show"
BASIC = base64.b64encode(f"{CLIENT}:{quote_plus(CLIENT_SECRET)}".encode()).decode()
ISSUER, AUDIENCE, SCOPE = "https://login.example.com", "kafka", "kafka.write"
KEY_ID = "the-only-one"


class Issuer:
    """Signs tokens as JWTs (RS256)."""

    def __init__(self) -> None:
        self._key = generate_private_key(65537, 2048)

    def jwks(self) -> str:
        """The public key, as a broker reads it."""
        numbers = self._key.public_key().public_numbers()
        n, e = (_encoded(each.to_bytes(256).lstrip(b"\0")) for each in (numbers.n, numbers.e))
        key = {"kty": "RSA", "kid": KEY_ID, "use": "sig", "alg": "RS256", "n": n, "e": e}
        return json.dumps({"keys": [key]})

    def token(self, subject: str, seconds: float, **claims: Any) -> str:
        """A token that ends in `seconds`."""
        now = int(time.time())
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now - 1, "scope": SCOPE}
        body = {**said, "exp": now + round(seconds), **claims}
        head = {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (head, body))
        return f"{signed}.{_encoded(self._key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Script:
    """What the token endpoint does next; each may be changed while it runs."""

    seconds: float = 300  # of a token's life
    secret: str = CLIENT_SECRET
    claims: dict[str, Any] = field(default_factory=dict)
    answer: tuple[int, Mapping[str, Any] | str] | None = None  # in the place of a token
    location: str = ""  # to which the answer redirects
    held: threading.Event | None = None  # until when it does not answer


class TokenServer(ThreadingHTTPServer):
    """Gives tokens by the client credentials grant; `given` holds all of them."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, issuer: Issuer, ca: CA, port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.issuer, self.script = issuer, Script()
        self.given: list[str] = []
        self.asked: list[dict[str, list[str]]] = []
        self.ca = ca
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(HOST).configure_cert(context)
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Be away: the port refuses connections."""
        if self.script.held is not None:
            self.script.held.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that do not trust it."""

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.server_port}/token"

    def sasl(self, **changes: Any) -> dict[str, Any]:
        """The settings of `kafka.security.sasl`."""
        return {
            "mechanism": "OAUTHBEARER",
            "token_url": self.url,
            "client_id": CLIENT,
            "client_secret": CLIENT_SECRET,
            "scope": SCOPE,
            **changes,
        }


class _Handler(BaseHTTPRequestHandler):
    server: TokenServer

    def do_POST(self) -> None:
        script = self.server.script
        form = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.asked.append(parse_qs(form, strict_parsing=True))
        if script.held is not None:
            script.held.wait(60)
        if script.answer is not None:
            self._answer(*script.answer)
        elif self._pair() != (CLIENT, script.secret):
            self._answer(401, {"error": "invalid_client", "error_description": "unknown"})
        else:
            token = self.server.issuer.token(CLIENT, script.seconds, **script.claims)
            self.server.given.append(token)
            said = {"access_token": token, "token_type": "Bearer", "expires_in": script.seconds}
            self._answer(200, said)

    def _pair(self) -> tuple[str, ...]:
        """The client and its secret (RFC 6749, 2.3.1)."""
        kind, _, encoded = self.headers.get("authorization", "").partition(" ")
        try:
            pair = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ()
        return tuple(map(unquote_plus, pair.split(":"))) if kind == "Basic" else ()

    def _answer(self, status: int, said: Mapping[str, Any] | str) -> None:
        body = (said if isinstance(said, str) else json.dumps(said)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.server.script.location:
            self.send_header("Location", self.server.script.location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""
