"""One account's run against a scripted API and a recording publisher."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.config.settings import route_of
from bridge.errors import Fault, ProviderError
from bridge.model import Message, Result
from bridge.reconcile.asking import (
    ASKS,
    ATTEMPTS,
    REFUSALS,
    Account,
    InterruptedRunError,
    Pace,
    StoppedError,
    Surroundings,
)
from bridge.reconcile.report import Settled
from bridge.simulate.documents import SentState, render
from tests.support.fakes import RecordingPublisher, Verdict
from tests.support.provider import TIME
from tests.support.settings import settings

SETTINGS = settings()
ROUTE = route_of(SETTINGS, SETTINGS.endpoints[0])
NOW = datetime(2026, 11, 23, 9, 15, 2, tzinfo=UTC)

Answer = bytes | ProviderError | Callable[[Sequence[str]], bytes]


def read(i: str) -> SentState:
    return SentState(i, "read", TIME, "read", None)


def all_read(ids: Sequence[str]) -> bytes:
    return render(read(i) for i in ids)


def unknown(i: str) -> SentState:
    return SentState(i, "Сообщение не найдено", "", None, None)


def refused(text: str = "no") -> ProviderError:
    return ProviderError(Fault.REFUSED, text)


def away() -> ProviderError:
    return ProviderError(Fault.UNREACHABLE, "cannot reach it")


class ScriptedApi:
    """Answers in order, and then with `read` of whatever is asked for."""

    def __init__(self, *answers: Answer, clock: str | ProviderError = "12:00:00") -> None:
        self.asked: list[list[str]] = []
        self.clocks = 0
        self._answers = list(answers)
        self._clock = clock

    async def states(self, ids: Sequence[str]) -> bytes:
        self.asked.append(list(ids))
        answer = self._answers.pop(0) if self._answers else all_read
        if isinstance(answer, ProviderError):
            raise answer
        return answer if isinstance(answer, bytes) else answer(ids)

    async def clock(self) -> str:
        self.clocks += 1
        if isinstance(self._clock, ProviderError):
            raise self._clock
        return self._clock


class Played:
    """A run, to its end; what it settled and what it said."""

    def __init__(
        self,
        api: ScriptedApi,
        ids: Sequence[object] = range(1, 5),
        *,
        decide: Callable[[Message], Verdict] = lambda _: Result.PUBLISHED,
        known: Sequence[str] = (),
        batch: int = 100,
        route: Any = ROUTE,
    ) -> None:
        self.api = api
        self.settled: list[Settled] = []
        self.told: list[str] = []
        self.publisher = RecordingPublisher(decide)
        self.stopped = asyncio.Event()
        around = Surroundings(
            publisher=self.publisher,
            publish_timeout_seconds=5,
            has=lambda _source, id_sms, _event: id_sms in known,
            settle=self.settled.append,
            tell=self.told.append,
            clock=lambda: NOW,
            stopped=self.stopped,
            pace=Pace(batch=batch, requests_per_second=1e6, first_pause_seconds=0.001),
        )
        self.account = Account(route, api, [str(i) for i in ids], around)

    def run(self) -> "Played":
        asyncio.run(self.account.ask_for_all())
        return self

    def of(self, name: str) -> list[str]:
        return [i for settled in self.settled for i in getattr(settled, name)]

    @property
    def keys(self) -> list[str]:
        return [message.key.decode() for message in self.publisher.messages]


def test_every_message_is_asked_for_in_batches_and_published() -> None:
    played = Played(ScriptedApi(), range(5), batch=2).run()
    assert played.api.asked == [["0", "1"], ["2", "3"], ["4"]]
    assert played.of("published") == played.keys == ["0", "1", "2", "3", "4"]
    assert not played.account.unanswered
    assert not played.told


def test_the_events_are_those_that_serve_would_have_published() -> None:
    """The same identity, topic and source; received now."""
    played = Played(
        ScriptedApi(render([SentState("3234", "read", TIME, "deliver", "read")])), [3234]
    )
    (message,) = played.run().publisher.messages
    assert message.topic == "sms.status"
    assert message.timestamp_ms == NOW.timestamp() * 1000
    assert b'"source":"urn:example:sms:main"' in message.value
    assert b'"received_at":"2026-11-23T09:15:02.000000Z"' in message.value


def test_what_says_nothing_new_is_not_published() -> None:
    """No status yet, and an event that the topic has."""
    answer = render([SentState("1", "send", "", "send", None), read("2"), read("3")])
    played = Played(ScriptedApi(answer), range(1, 4), known=["2"]).run()
    assert played.keys == played.of("published") == ["3"]
    assert played.of("unchanged") == ["1", "2"]


def test_a_send_with_a_time_says_something() -> None:
    answer = render([SentState("1", "send", TIME, None, None)])
    assert Played(ScriptedApi(answer), [1]).run().of("published") == ["1"]


def test_a_sentence_in_place_of_a_word_is_no_dead_letter() -> None:
    played = Played(ScriptedApi(render([unknown("1"), read("2")])), [1, 2]).run()
    assert played.of("unknown") == ["1"]
    assert played.keys == ["2"]


def test_an_invalid_state_becomes_a_dead_letter_as_in_serve() -> None:
    answer = render([SentState("1", "not a word", TIME, None, None)])
    played = Played(ScriptedApi(answer), [1]).run()
    assert played.of("rejected") == ["1"]
    assert [message.topic for message in played.publisher.messages] == ["sms.status.rejected"]


def test_a_foreign_id_is_told_and_not_published() -> None:
    played = Played(ScriptedApi(render([read("1"), read("99")])), [1]).run()
    assert played.keys == ["1"]
    assert played.of("foreign") == ["99"]
    assert played.told == ["endpoint main: not asked for, and not published: 99"]


def test_a_message_with_several_states_counts_once() -> None:
    answer = render([SentState("1", "send", "", None, None), read("1"), unknown("1")])
    played = Played(ScriptedApi(answer), [1]).run()
    assert played.of("published") == ["1"]
    assert not played.of("unchanged") + played.of("unknown")


# --- answers that lack something ---------------------------------------------------------


def test_what_an_answer_lacks_is_asked_for_again_after_the_others() -> None:
    played = Played(ScriptedApi(all_read_but("2")), range(1, 5), batch=2).run()
    assert played.api.asked == [["1", "2"], ["3", "4"], ["2"]]
    assert not played.account.unanswered
    assert played.told == ["endpoint main: the answer lacks 1 of 2: 2"]


def all_read_but(*left_out: str) -> Callable[[Sequence[str]], bytes]:
    return lambda ids: all_read([i for i in ids if i not in left_out])


def test_what_every_answer_lacks_stays_unanswered() -> None:
    never = all_read_but("2")
    played = Played(ScriptedApi(*[never] * 9), [1, 2]).run()
    assert list(played.account.unanswered) == ["2"]
    assert played.api.asked == [["1", "2"], *[["2"]] * (ASKS - 1)]
    assert played.account.not_asked == 0


# --- faults of the API -------------------------------------------------------------------


def test_a_fault_is_waited_for_and_nothing_is_lost() -> None:
    played = Played(ScriptedApi(away(), away()), [1, 2]).run()
    assert played.of("published") == ["1", "2"]
    assert played.told == [
        "endpoint main: cannot reach it; trying again in 0.001 s",
        "endpoint main: cannot reach it; trying again in 0.002 s",
    ]


def test_the_pauses_grow_beyond_a_minute() -> None:
    """One operator refuses the same request for so long."""
    pauses = [Pace().pause_seconds(n) for n in range(1, ATTEMPTS)]
    assert pauses == [2, 4, 8, 16, 32, 64]


def test_a_provider_that_stays_away_ends_the_run_with_all_left() -> None:
    played = Played(ScriptedApi(all_read, *[away() for _ in range(ATTEMPTS)]), range(5), batch=2)
    with pytest.raises(StoppedError, match=f"cannot reach it; given up after {ATTEMPTS} attempts"):
        played.run()
    assert played.of("published") == ["0", "1"]
    assert played.account.not_asked == 3


def test_a_futile_fault_ends_the_run_at_once() -> None:
    fault = ProviderError(Fault.UNTRUSTED, "its certificate is not valid", futile=True)
    played = Played(ScriptedApi(fault))
    with pytest.raises(StoppedError, match="its certificate is not valid"):
        played.run()
    assert len(played.api.asked) == 1
    assert played.account.not_asked == 4


def test_the_provider_s_own_wish_for_a_pause_is_heeded() -> None:
    busy = ProviderError(Fault.STATUS, "HTTP 503", retry_after=0.05)
    assert "trying again in 0.05 s" in Played(ScriptedApi(busy)).run().told[0]


def test_wrong_credentials_are_tried_twice_and_no_more() -> None:
    played = Played(ScriptedApi(refused("wrong login"), clock=refused("wrong login")))
    with pytest.raises(StoppedError, match="wrong login; it refuses to tell the time, too"):
        played.run()
    assert (len(played.api.asked), played.api.clocks) == (1, 1)
    assert played.account.not_asked == 4


def test_one_id_that_the_provider_does_not_take_costs_itself_alone() -> None:
    def answer(ids: Sequence[str]) -> bytes:
        if "13" in ids:
            raise refused("bad document")
        return all_read(ids)

    played = Played(ScriptedApi(*[answer] * 20), range(20)).run()
    assert sorted(map(int, played.of("published"))) == [n for n in range(20) if n != 13]
    assert list(played.account.unanswered) == ["13"]
    assert played.told[-1] == "endpoint main: message 13: bad document"
    assert played.api.clocks == 1  # the first refusal might have been about the credentials


def test_an_answer_that_is_too_large_is_asked_for_in_halves() -> None:
    large = ProviderError(Fault.TOO_LARGE, "too large")
    played = Played(ScriptedApi(large)).run()
    assert played.api.asked == [["1", "2", "3", "4"], ["1", "2"], ["3", "4"]]
    assert played.api.clocks == 0


def test_a_provider_that_refuses_everything_ends_the_run() -> None:
    played = Played(ScriptedApi(all_read, *[refused() for _ in range(99)]), range(1000), batch=200)
    with pytest.raises(StoppedError, match=f"no; given up after {REFUSALS} in a row"):
        played.run()
    left = played.account.not_asked + len(played.account.unanswered)
    assert left + len(played.of("published")) == 1000


# --- Kafka -------------------------------------------------------------------------------


def test_an_event_that_is_not_acknowledged_is_not_settled() -> None:
    """It is asked for again: what comes then may be newer."""
    verdicts = {"2": [Result.UNKNOWN, Result.PUBLISHED]}
    played = Played(
        ScriptedApi(),
        decide=lambda m: (
            verdicts.get(m.key.decode(), [Result.PUBLISHED]).pop(0)
            if m.key == b"2"
            else Result.PUBLISHED
        ),
    ).run()
    assert played.api.asked == [["1", "2", "3", "4"], ["2"]]
    assert sorted(played.of("published")) == ["1", "2", "3", "4"]
    assert played.told == ["endpoint main: 1 events are not in Kafka: scripted: unknown"]
    assert not played.account.unpublished


def test_an_event_that_kafka_never_takes_stays_unpublished() -> None:
    def decide(message: Message) -> Verdict:
        return Result.FAILED if message.key == b"2" else Result.PUBLISHED

    played = Played(ScriptedApi(), decide=decide)
    played.run()
    assert list(played.account.unpublished) == ["2"]
    assert played.keys.count("2") == ASKS


def test_a_kafka_that_takes_nothing_ends_the_run() -> None:
    played = Played(ScriptedApi(), range(10), decide=lambda _: Result.FAILED, batch=2)
    with pytest.raises(StoppedError, match="Kafka accepted none of 3 batches in a row") as caught:
        played.run()
    assert caught.value.by_kafka
    assert len(played.account.unpublished) + played.account.not_asked == 10


def test_an_event_that_is_too_large_becomes_a_dead_letter() -> None:
    def decide(message: Message) -> Verdict:
        return "too_large" if message.topic == "sms.status" else Result.PUBLISHED

    assert Played(ScriptedApi(), [1], decide=decide).run().of("rejected") == ["1"]


# --- interrupted -------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["answer", "pause"])
def test_an_interrupted_run_leaves_its_batch_to_be_asked_for(where: str) -> None:
    async def play() -> Played:
        entered = asyncio.Event()

        class Slow(ScriptedApi):
            async def states(self, ids: Sequence[str]) -> bytes:
                if len(self.asked) == 1:
                    entered.set()
                    if where == "pause":
                        self.asked.append(list(ids))
                        raise ProviderError(Fault.STATUS, "HTTP 503", retry_after=600)
                    await asyncio.sleep(600)
                return await super().states(ids)

        played = Played(Slow(), range(4), batch=2)
        running: Awaitable[None] = asyncio.ensure_future(played.account.ask_for_all())
        await entered.wait()
        await asyncio.sleep(0)
        played.stopped.set()
        with pytest.raises(InterruptedRunError):
            await asyncio.wait_for(running, 20)
        return played

    played = asyncio.run(play())
    assert played.of("published") == ["0", "1"]
    assert played.account.not_asked == 2
