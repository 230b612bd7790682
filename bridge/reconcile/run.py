"""One run from its work list to its report: topic, Kafka, each account, and the file to go on with.

It must not print, nor ask for the time or the environment.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bridge.config.settings import Endpoint, Provider, Settings, route_of
from bridge.errors import BridgeError
from bridge.kafka.session import publishing
from bridge.model import Message
from bridge.pipeline import DryRun, Publisher
from bridge.provider.client import connected
from bridge.reconcile.asking import (
    Account,
    InterruptedRunError,
    Pace,
    StoppedError,
    Surroundings,
    unless_stopped,
)
from bridge.reconcile.journal import Journal, Run
from bridge.reconcile.report import Report, Settled
from bridge.reconcile.topic import Holdings, read_topics
from bridge.reconcile.work_list import WorkList


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be reconciled: a list, what the topic has in question, or what a file has left.

    `endpoint` is the only one that is meant. `since` and `older_than` are as in `--from-topic`;
    `called_with` is what tells two such calls apart.
    """

    endpoint: str | None = None
    work: WorkList | None = None
    from_topic: bool = False
    since: datetime | None = None
    older_than: datetime | None = None
    called_with: tuple[str | None, str | None] = (None, None)

    @property
    def listed(self) -> WorkList:
        """The list, or an empty one."""
        return self.work or WorkList()

    @property
    def anything(self) -> bool:
        """Whether it says which messages are meant."""
        return self.from_topic or self.work is not None

    @property
    def key(self) -> Mapping[str, object]:
        """What two runs share that may go on from one file."""
        ids = [[name, *listed] for name, listed in self.listed.ids.items()]
        return {
            "endpoint": self.endpoint,
            "list": hashlib.sha256(repr(ids).encode()).hexdigest() if self.work else None,
            "from_topic": self.from_topic,
            "called_with": list(self.called_with),
        }


@dataclass(frozen=True, slots=True)
class Terms:
    """How a run asks, and whom it tells.

    `timeout_seconds` are for a whole request. `tell` says one line to people, `show` is called with
    the messages that are settled, of how many; `note` with each event of a dry run. `clock` tells
    the time in UTC. Where `stopped` is set, the run ends and keeps its place.
    """

    pace: Pace
    timeout_seconds: float
    tell: Callable[[str], None]
    show: Callable[[int, int], None]
    note: Callable[[Message], None]
    clock: Callable[[], datetime]
    stopped: asyncio.Event
    dry_run: bool = False
    resume: Path | None = None


async def reconcile(settings: Settings, wanted: Wanted, terms: Terms) -> Report:
    """Ask for every message and publish what is new; the report says what is left.

    Raises BridgeError if nothing can be begun: no account to ask, no Kafka, no list.
    """
    started = asyncio.get_running_loop().time()
    report = Report(dry_run=terms.dry_run)
    with ExitStack() as stack:
        journal = _found(terms.resume, wanted)
        if journal is not None:
            stack.enter_context(journal)
        beginning = _begin(settings, wanted, terms, journal)
        try:
            run, holdings = await unless_stopped(terms.stopped, beginning)
        except InterruptedRunError:
            report.interrupted = True
            return report
        if journal is None and terms.resume is not None:
            journal = stack.enter_context(Journal.begun(terms.resume, run))
        reconciliation = _Reconciliation(
            settings, terms, report, run=run, holdings=holdings, journal=journal
        )
        await reconciliation.go()
        if journal is not None and report.complete:
            journal.remove()
    report.seconds = round(asyncio.get_running_loop().time() - started, 3)
    return report


def accounts(settings: Settings, endpoint: str | None) -> list[Endpoint]:
    """The endpoints whose messages can be asked for; raises BridgeError if there is none."""
    chosen = [e for e in settings.endpoints if endpoint in (None, e.name)]
    if not chosen:
        known = ", ".join(each.name for each in settings.endpoints)
        raise BridgeError(f"there is no endpoint {endpoint}: there are {known}")
    found = [each for each in chosen if each.provider is not None]
    if not found:
        name = endpoint or "any endpoint"
        raise BridgeError(f"{name} has no provider: set endpoints[].provider to ask its API")
    return found


# --- beginning ---------------------------------------------------------------------------


def _found(path: Path | None, wanted: Wanted) -> Journal | None:
    """The file of a former run of the same kind, if there is one."""
    if path is None:
        return None
    journal = Journal.found(path)
    if journal is None:
        if not wanted.anything:
            raise BridgeError(f"{path} does not exist: there is nothing to go on with")
        return None
    if wanted.anything and journal.run.wanted != wanted.key:
        journal.close()
        what = "was written by a run for other messages: give it alone to go on, or remove it"
        raise BridgeError(f"{path} {what}")
    return journal


async def _begin(
    settings: Settings, wanted: Wanted, terms: Terms, journal: Journal | None
) -> tuple[Run, Holdings]:
    """What to ask for, and what the topics hold now: also what a killed run has still written."""
    if journal is None:
        return await _new_run(settings, wanted, terms)
    run = journal.run
    if run.topic_since is None:
        return run, Holdings()
    since = datetime.fromisoformat(run.topic_since) if run.topic_since else None
    chosen = [endpoint for endpoint in settings.endpoints if endpoint.name in run.ids]
    return run, await _read(settings, chosen, since)


async def _new_run(settings: Settings, wanted: Wanted, terms: Terms) -> tuple[Run, Holdings]:
    chosen = accounts(settings, wanted.endpoint)
    ids, left_out = _listed(wanted, chosen)
    holdings = Holdings()
    if wanted.from_topic:
        holdings = await _read(settings, chosen, wanted.since)
        for endpoint in _first_of_each_source(chosen):
            found = holdings.in_question(endpoint.source, wanted.older_than)
            ids[endpoint.name] |= dict.fromkeys(found)
        if holdings.unreadable:
            terms.tell(f"{holdings.unreadable} records of the topic are no events of the bridge")
    since = wanted.since.isoformat() if wanted.since is not None else ""
    run = Run(
        wanted=wanted.key,
        ids={name: list(each) for name, each in ids.items()},
        topic_since=since if wanted.from_topic else None,
        invalid=list(wanted.listed.invalid),
        unreadable_lines=list(wanted.listed.unreadable),
        dropped_lines=wanted.listed.dropped,
        missing_ids=wanted.listed.missing,
        left_out=left_out,
    )
    return run, holdings


def _listed(
    wanted: Wanted, chosen: Sequence[Endpoint]
) -> tuple[dict[str, dict[str, None]], dict[str, int]]:
    """The ids of the work list, by endpoint, and how many of others are left out unasked for."""
    left_out: dict[str, int] = {}
    ids: dict[str, dict[str, None]] = {endpoint.name: {} for endpoint in chosen}
    for name, listed in wanted.listed.ids.items():
        if name is None and len(chosen) > 1:
            names = ", ".join(ids)
            raise BridgeError(f"whose ids are these? name one of {names} with --endpoint")
        endpoint = chosen[0].name if name is None else name
        if endpoint in ids:
            ids[endpoint] |= listed
        elif wanted.endpoint is None:
            left_out[endpoint] = len(listed)
    return ids, left_out


async def _read(settings: Settings, chosen: Sequence[Endpoint], since: datetime | None) -> Holdings:
    topics = list(dict.fromkeys(settings.topic_of(endpoint) for endpoint in chosen))
    sources = {endpoint.source for endpoint in chosen}
    return await read_topics(settings.kafka, topics, sources, since)


def _first_of_each_source(chosen: Sequence[Endpoint]) -> list[Endpoint]:
    """An event does not say which of several endpoints it came by."""
    return list({endpoint.source: endpoint for endpoint in reversed(chosen)}.values())


# --- asking ------------------------------------------------------------------------------


class _Reconciliation:
    """The run over all accounts, once it is known what to ask for."""

    def __init__(
        self,
        settings: Settings,
        terms: Terms,
        report: Report,
        *,
        run: Run,
        holdings: Holdings,
        journal: Journal | None,
    ) -> None:
        self._settings = settings
        self._terms = terms
        self._report = report
        self._journal = journal
        self._holdings = holdings
        self._kafka_is_away = False
        self._left = {name: dict.fromkeys(ids) for name, ids in run.ids.items()}
        self._total = sum(map(len, self._left.values()))
        report.invalid += run.invalid
        report.unreadable_lines += run.unreadable_lines
        report.dropped_lines, report.missing_ids = run.dropped_lines, run.missing_ids
        report.left_out |= run.left_out
        for batch in journal.batches if journal is not None else ():
            self._count(Settled(**batch))

    async def go(self) -> None:
        """Ask every account that has messages left; one that is away does not keep the others."""
        publishers: AbstractAsyncContextManager[Publisher] = (
            nullcontext(DryRun(self._terms.note))
            if self._terms.dry_run
            else publishing(self._settings.kafka, self._settings.topics)
        )
        known = {
            e.name: (e, e.provider) for e in self._settings.endpoints if e.provider is not None
        }
        names = [name for name, ids in self._left.items() if ids]
        if gone := [name for name in names if name not in known]:
            raise BridgeError(f"endpoint {gone[0]} of the interrupted run has no provider any more")
        if not names:
            return
        async with publishers as publisher:
            for name in names:
                await self._ask(*known[name], publisher)

    async def _ask(self, endpoint: Endpoint, provider: Provider, publisher: Publisher) -> None:
        ids = list(self._left[endpoint.name])
        terms, report = self._terms, self._report
        if terms.stopped.is_set() or self._kafka_is_away:
            report.not_asked += len(ids)
            return
        async with connected(provider, terms.timeout_seconds) as client:
            account = Account(
                route_of(self._settings, endpoint), client, ids, self._around(publisher)
            )
            try:
                await account.ask_for_all()
            except StoppedError as stopped:
                report.stopped.append(f"endpoint {endpoint.name}: {stopped}")
                self._kafka_is_away = stopped.by_kafka
            except InterruptedRunError:
                report.interrupted = True
        report.unanswered += account.unanswered
        report.unpublished += account.unpublished
        report.not_asked += account.not_asked

    def _around(self, publisher: Publisher) -> Surroundings:
        return Surroundings(
            publisher=publisher,
            publish_timeout_seconds=self._settings.kafka.publish_timeout_seconds,
            has=self._holdings.has,
            settle=self._settle,
            tell=self._terms.tell,
            clock=self._terms.clock,
            stopped=self._terms.stopped,
            pace=self._terms.pace,
        )

    def _settle(self, settled: Settled) -> None:
        if self._journal is not None:
            self._journal.settle(settled)
        self._count(settled)
        self._terms.show(self._report.settled, self._total)

    def _count(self, settled: Settled) -> None:
        self._report.take(settled)
        left = self._left.get(settled.endpoint, {})
        for id_sms in settled.ids:
            left.pop(id_sms, None)
