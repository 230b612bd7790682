"""aiokafka's connection (0.14), with what it lacks: sessions that end, and tokens that are refused.

Every client of aiokafka in this process makes connections of this kind once it is imported.
"""

import asyncio
import random
import weakref
from collections.abc import Awaitable
from typing import Any

from aiokafka import conn, errors
from aiokafka.conn import AIOKafkaConnection, CloseReason, OAuthAuthenticator
from aiokafka.protocol.admin import SaslAuthenticateRequest

LEAVE_AT = (0.8, 0.9)  # of a session: at random, or all connections of all pods would go at once
ASK_AGAIN_SECONDS = 1.0  # whether there is a new token


class Connection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """Closes itself, with nothing in flight, before its session ends.

    Brokers limit sessions (`connections.max.reauth.ms`, and the life of a token): they close an
    expired connection at the next request, which then has no answer. aiokafka does not log in
    again on an open connection (KIP-368). It makes a new one at the next request.
    """

    _leaving: asyncio.TimerHandle | None = None
    _over = False

    def send(self, request: Any, expect_response: bool = True) -> Awaitable[Any]:
        """Send a request; the answer to a login says how long the session may last."""
        answer: Awaitable[Any] = super().send(request, expect_response)
        return self._login(answer) if isinstance(request, SaslAuthenticateRequest) else answer

    async def _login(self, answer: Awaitable[Any]) -> Any:
        response = await answer
        seconds = getattr(response, "session_lifetime_ms", 0) / 1000
        if seconds > 0:
            self._leave_in(seconds * random.uniform(*LEAVE_AT))  # noqa: S311
        return response

    def _leave_in(self, seconds: float) -> None:
        # Weak, as aiokafka's own timers are: a connection that was dropped is not to be kept.
        self._leaving = self._loop.call_later(seconds, _leave, weakref.ref(self))

    def leave(self) -> None:
        """Close as soon as nothing is in flight, if the next connection can log in."""
        tokens = self._sasl_oauth_token_provider
        if tokens is not None and not tokens.fresh():
            self._leave_in(ASK_AGAIN_SECONDS)
            return
        self._over = True
        self._close_if_idle()

    def _handle_frame(self, resp: bytes) -> None:
        super()._handle_frame(resp)
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._over and not self._requests:
            self.close(reason=CloseReason.IDLE_DROP)

    def close(self, reason: CloseReason | None = None, exc: BaseException | None = None) -> Any:
        """Close the connection."""
        if self._leaving is not None:
            self._leaving.cancel()
        return super().close(reason, exc)

    # --- tokens --------------------------------------------------------------------------

    async def _do_sasl_handshake(self) -> None:
        try:
            await super()._do_sasl_handshake()
        except errors.SaslAuthenticationFailed:
            if self._sasl_oauth_token_provider is not None:
                self._sasl_oauth_token_provider.refused()
            raise

    def authenticator_oauth(self) -> "_Authenticator":
        """Log in with a token."""
        return _Authenticator(sasl_oauth_token_provider=self._sasl_oauth_token_provider)


class _Authenticator(OAuthAuthenticator):  # type: ignore[misc]  # aiokafka has no types
    """Hears that a broker refuses the token, which aiokafka takes for a success."""

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        if payload:  # RFC 7628, 3.2.3: the broker gives its reason once this is sent
            return b"\x01", True
        answer: tuple[bytes, bool] | None = await super().step(payload)
        return answer


def _leave(reference: "weakref.ref[Connection]") -> None:
    connection = reference()
    if connection is not None:
        connection.leave()


conn.AIOKafkaConnection = Connection
