"""Registers a schema with a schema registry that speaks Confluent's REST API.

It reads no environment: address and credentials are passed in. One attempt for each request, since
people start it: what went wrong is said in one line.
"""

import base64
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from bridge.errors import BridgeError
from bridge.http_client import Answer, Masked, post

REQUEST_SECONDS: Final = 30.0
MAX_ANSWER_BYTES: Final = 1024 * 1024
DIALECT: Final = "http://json-schema.org/draft-07/schema#"
"""Every registry compares schemas of this one; the keywords of ours mean the same in it."""

_MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_ADVICE: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "wrong or missing credentials",
    HTTPStatus.FORBIDDEN: "these credentials may not write to the subject",
    HTTPStatus.NOT_FOUND: "is it the registry's URL?",
    HTTPStatus.METHOD_NOT_ALLOWED: "is it the registry's URL?",
}


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry's base address, whom to trust, and the credentials: at most one kind of them.

    `ca_setting` is what the user calls the file of CAs.
    """

    url: str
    trusted: ssl.SSLContext
    ca_setting: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    async def register(self, subject: str, schema: Mapping[str, Any]) -> int:
        """Make a schema the subject's latest, if it is compatible; its id in the registry.

        A subject that has it already stays as it is. Raises BridgeError.
        """
        text = json.dumps({**schema, "$schema": DIALECT}, ensure_ascii=False)
        document = {"schemaType": "JSON", "schema": text}
        versions = f"subjects/{quote(subject, safe='')}/versions"
        # What the registry answers 409 has no reasons with some.
        answer = await self._post(f"compatibility/{versions}/latest?verbose=true", document)
        if answer.status != HTTPStatus.NOT_FOUND:  # the first version, which nothing precedes
            said = self._good(answer)
            if said.get("is_compatible") is False:
                raise self._incompatible(subject, said.get("messages") or said.get("reason") or "")
        answer = await self._post(versions, document)
        if answer.status == HTTPStatus.CONFLICT:
            raise self._incompatible(subject, _object(answer.body).get("message", ""))
        number = self._good(answer).get("id")
        if not isinstance(number, int):
            raise BridgeError(f"{self.url} answers with no id: is it the registry's URL?")
        return number

    async def _post(self, path: str, document: Mapping[str, str]) -> Answer:
        return await post(
            f"{self.url}/{path}",
            json.dumps(document).encode(),
            headers={"Content-Type": _MEDIA_TYPE, "Accept": _MEDIA_TYPE, **self._credentials()},
            trusted=self.trusted,
            ca_setting=self.ca_setting,
            seconds=REQUEST_SECONDS,
            max_bytes=MAX_ANSWER_BYTES,
            shown=self._shown(),
        )

    def _credentials(self) -> dict[str, str]:
        if self.token is not None:
            return {"Authorization": f"Bearer {self.token}"}
        if self.username is not None:
            return {"Authorization": f"Basic {self._basic()}"}
        return {}

    def _basic(self) -> str:
        return base64.b64encode(f"{self.username}:{self.password or ''}".encode()).decode()

    def _shown(self) -> Masked:
        secrets = (self.token, self.password, self._basic() if self.username else None)
        return Masked(each for each in secrets if each)

    def _good(self, answer: Answer) -> Mapping[str, Any]:
        """What a good answer says; BridgeError for any other."""
        said = _object(answer.body)
        if answer.status == HTTPStatus.OK:
            return said
        message = self._shown()(str(said.get("message", "")))
        why = [each for each in (_ADVICE.get(answer.status), message) if each]
        raise BridgeError(": ".join((f"{self.url} answers HTTP {answer.status}", *why)))

    def _incompatible(self, subject: str, why: object) -> BridgeError:
        reasons = "; ".join(map(str, why)) if isinstance(why, list) else str(why)
        said = f": {self._shown()(reasons)}" if reasons else ""
        return BridgeError(f"{subject} has a schema that this one is incompatible with{said}")


def _object(body: bytes) -> Mapping[str, Any]:
    """The JSON object of a body; empty if it is none."""
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
