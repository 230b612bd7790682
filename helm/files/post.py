"""Posts an empty document to every endpoint as the provider would: `helm test` runs it.

python -c <this> BASE_URL [real-state]: with the second, a state that every subscriber sees.
"""

import base64
import os
import sys
import urllib.request
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError

from bridge.config.loader import load
from bridge.config.settings import Endpoint

EMPTY = b"<response/>"
REAL = b'<response><state id_sms="helm-test" time="">send</state></response>'
TIMEOUT_SECONDS = 15


def credentials(endpoint: Endpoint) -> dict[str, str]:
    """The first of the endpoint's own credentials, as a header."""
    auth = endpoint.auth
    if auth is None or not (auth.tokens or auth.basic):
        return {}
    if auth.tokens:
        return {"Authorization": f"Bearer {auth.tokens[0].get_secret_value()}"}
    pair = f"{auth.basic[0].username}:{auth.basic[0].password.get_secret_value()}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def post(url: str, endpoint: Endpoint, body: bytes) -> bytes:
    """Return the answer; raises HTTPError where it is not a 200."""
    headers = {"Content-Type": "text/xml", **credentials(endpoint)}
    request = urllib.request.Request(url + endpoint.path, body, headers)  # noqa: S310 - http alone
    # No proxy of the environment between a pod and its neighbour.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
        return bytes(answer.read())


def tried(url: str, endpoint: Endpoint, *, real: bool) -> str:
    """Post, and say how it went; raises or exits where the answer is none that there may be."""
    try:
        answer = post(url, endpoint, REAL if real else EMPTY)
    except HTTPError as error:
        with error:
            if error.code == HTTPStatus.FORBIDDEN and endpoint.auth and endpoint.auth.allow:
                return "not for this pod's address (auth.allow)"
            raise
    if (b"helm-test" in answer) != real:
        sys.exit(f"endpoint {endpoint.name}: an unexpected answer: {answer!r}")
    return "ok"


def main(url: str, *, real: bool) -> None:
    """Post to every endpoint; ends at the first that does not answer as it must."""
    settings = load(Path(os.environ["SMS_BRIDGE_CONFIG"]), os.environ)
    for endpoint in settings.endpoints:
        sys.stdout.write(f"endpoint {endpoint.name}: {tried(url, endpoint, real=real)}\n")


main(sys.argv[1], real=sys.argv[2:] == ["real-state"])
