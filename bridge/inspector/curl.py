"""The command that posts a document again. It never holds a secret: the shell is asked for one."""

from base64 import b64encode
from typing import Literal, NamedTuple

from bridge.config.settings import Auth
from bridge.inspector.highlight import is_clean
from bridge.model import Form
from bridge.parse import form_of

MAX_TEXT_BYTES = 8192  # of a body that is written out: more is no command for a person

Credentials = Literal["none", "token", "basic"]
_OPTIONS: dict[Credentials, str] = {
    "none": "",
    "token": ' -H "Authorization: Bearer ${TOKEN:?the token of this endpoint}"',
    "basic": ' --user "${CREDENTIALS:?user:password of this endpoint}"',
}


class Target(NamedTuple):
    """The path of an endpoint, and what it asks for."""

    path: str
    credentials: Credentials


def credentials_of(auth: Auth | None) -> Credentials:
    """The kind of credentials that an endpoint asks for; a header in preference to a query."""
    if auth is None or not (auth.tokens or auth.basic):
        return "none"
    return "token" if auth.tokens else "basic"


def command(target: Target, gateway: str, body: bytes) -> str:
    """The line for a POSIX shell; `gateway` is its address, http://HOST:PORT.

    A body with anything in it that a terminal could act on goes through Base64.
    """
    url = _quoted(gateway + target.path)
    kind = "application/json" if form_of(body) is Form.JSON else "text/xml"
    curl = f"curl -i{_OPTIONS[target.credentials]} -H 'Content-Type: {kind}'"
    if len(body) <= MAX_TEXT_BYTES and is_clean(body) and b"\t" not in body:
        # Not --data-binary, which takes what begins with @ for the name of a file.
        return f"{curl} --data-raw {_quoted(body.decode())} \\\n  {url}"
    encoded = b64encode(body).decode("ascii")
    return f"printf %s {encoded} | base64 -d |\n  {curl} --data-binary @- \\\n  {url}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
