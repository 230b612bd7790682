"""Keeps the token that the bridge logs in to Kafka with, and renews it in time.

A token endpoint that is slow or away holds nothing up for longer than a wait of its own. Nothing
here logs or prints a token.
"""

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from bridge.errors import BridgeError

log = structlog.get_logger(__name__)

RENEW_AT: Final = 0.8  # of a token's life
WAIT_SECONDS: Final = 2.0  # that a connection waits for a token, and
WAIT_AGAIN_SECONDS: Final = 0.5  # if the last attempt failed
PAUSES_SECONDS: Final = (1.0, 10.0)  # the first and the longest between two attempts
REFUSED_SECONDS: Final = 5.0  # the age at which a token that a broker refuses is replaced


class NoTokenError(BridgeError, KafkaConnectionError):  # type: ignore[misc]  # it has no types
    """There is no token to connect with; aiokafka treats it as a connection that failed."""

    def __str__(self) -> str:
        return RuntimeError.__str__(self)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and for how long it is valid from when it was asked for."""

    value: str = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class _Kept:
    value: str = field(repr=False)
    since: float
    renew_at: float
    expires_at: float


class Tokens(AbstractTokenProvider):  # type: ignore[misc]  # it has no types
    """One token at a time, for all connections; times are on the monotonic clock.

    `fetch` obtains a token from the endpoint at `url`, and raises BridgeError if it cannot.
    `wait_seconds` is the longest that a connection waits for one.
    """

    def __init__(
        self,
        url: str,
        fetch: Callable[[], Awaitable[Token]],
        *,
        wait_seconds: float = WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._kept: _Kept | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._next: asyncio.TimerHandle | None = None
        self._closed = False
        self._begun_at = 0.0
        self._problem: str | None = None  # of the last attempt
        self._pause, self._try_at = PAUSES_SECONDS[0], 0.0

    async def token(self) -> str:
        """A token that is valid now; raises NoTokenError."""
        if not self.fresh() and self._valid() is None and self._fetching is not None:
            wait = WAIT_AGAIN_SECONDS if self._problem else self._wait_seconds
            left = self._begun_at + wait - self._clock()
            await asyncio.wait({self._fetching}, timeout=max(left, 0))
        if (kept := self._valid()) is not None:
            return kept.value
        what = "no token for Kafka" if self._kept is None else "the token for Kafka has expired"
        silence = f"{self._url} has not answered within {self._wait_seconds:g} s"
        raise NoTokenError(f"{what}: {self._problem or silence}")

    def fresh(self) -> bool:
        """Whether the token is not due to be renewed; if it is, another is being fetched."""
        now = self._clock()
        if self._kept is not None and now < self._kept.renew_at:
            return True
        if now >= self._try_at:
            self._fetch_now()
        return False

    def refused(self) -> None:
        """A broker does not accept the token: replace it, unless it is new."""
        if self._kept is not None and self._clock() - self._kept.since > REFUSED_SECONDS:
            self._kept = None

    def close(self) -> None:
        """Fetch no more, unless somebody still asks for a token."""
        self._closed = True
        if self._next is not None:
            self._next.cancel()
        if self._fetching is not None:
            self._fetching.cancel()

    def _valid(self) -> _Kept | None:
        return self._kept if self._kept and self._clock() < self._kept.expires_at else None

    def _fetch_now(self) -> None:
        if self._fetching is None:
            self._begun_at = self._clock()
            self._fetching = asyncio.create_task(self._renew(self._begun_at), name="kafka token")

    def _fetch_in(self, seconds: float) -> None:
        # Nobody may ask in time. Weak: those that nobody closes are to end, too.
        if self._next is not None:
            self._next.cancel()
        if self._closed:
            return
        self._next = asyncio.get_running_loop().call_later(seconds, _fetch, weakref.ref(self))

    async def _renew(self, begun_at: float) -> None:
        try:
            token = await self._fetch()
        except BridgeError as exc:
            self._failed(str(exc))
        except Exception as exc:  # noqa: BLE001 -- the next try may succeed; its text may have secrets
            self._failed(type(exc).__name__)
        else:
            ends = (RENEW_AT * token.seconds, token.seconds)
            self._kept = _Kept(token.value, begun_at, *(begun_at + each for each in ends))
            if self._problem is not None:
                log.info("token for Kafka renewed")
            self._problem = None
            self._pause, self._try_at = PAUSES_SECONDS[0], 0.0
            self._fetch_in(max(self._kept.renew_at - self._clock(), PAUSES_SECONDS[0]))
        finally:
            self._fetching = None

    def _failed(self, problem: str) -> None:
        now = self._clock()
        if self._kept is not None and problem != self._problem:
            valid = max(round(self._kept.expires_at - now), 0)
            log.warning("could not renew the token for Kafka", error=problem, valid_seconds=valid)
        self._problem = problem
        self._try_at = now + self._pause
        self._fetch_in(self._pause)
        self._pause = min(self._pause * 2, PAUSES_SECONDS[1])


def _fetch(reference: "weakref.ref[Tokens]") -> None:
    tokens = reference()
    if tokens is not None:
        tokens._fetch_now()  # noqa: SLF001 -- its own timer
