"""One number for all that the world's future depends on.

Equal states that were reached by other ways have the same, whatever the objects' addresses: it
walks over everything that can be reached, coroutines with their variables included. Moments count
by their distance from now.
"""

import asyncio
import gc
import types
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextvars import Context
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from hashlib import blake2b
from typing import Any

from pydantic import BaseModel

from bridge.duplicates import Deduplicator, RecentEvents
from bridge.kafka.admin import TopicDescription
from bridge.kafka.limits import Limits
from bridge.kafka.publisher import Publisher
from bridge.kafka.supervisor import Supervisor, Timing
from bridge.kafka.topic_metadata import Topic
from bridge.model import InvalidState, Item, Log, Message, Route, State
from bridge.pipeline import Prepared
from tests.exhaustive.broker import Client, StandIn
from tests.exhaustive.gateway import SETTINGS, Gateway
from tests.exhaustive.loop import EPOCH, Loop
from tests.exhaustive.provider import Attempt
from tests.exhaustive.world import World

LONG_AGO = -12.0  # seconds: longer than any time that the gateway compares with
_REFERENCE = 1 << 40  # an object that was met before, by its number, and no integer of the code's

Visit = Callable[[Any], None]


class Fingerprint:
    """A walk from some roots."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._out: list[Any] = []
        self._met: dict[int, int] = {}
        self._keep: list[Any] = []  # so that no address is used twice

    def of(self, roots: Iterable[Any]) -> int:
        """The number."""
        for root in roots:
            self.visit(root)
        # Not hash(): those of -1 and -2 are the same.
        return int.from_bytes(blake2b(repr(self._out).encode(), digest_size=8).digest())

    def visit(self, what: Any) -> None:
        kind = type(what)
        if kind in _ATOMS:
            self._out.append(what)
        elif kind is float:
            is_moment = what > EPOCH / 2 and what < 1e9
            self._out.append(max(round(what - self._now, 3), LONG_AGO) if is_moment else what)
        elif kind is Message:
            self._out.append(what.value)
        elif kind is tuple:
            self._out.append(len(what))
            self._all(what)
        else:
            number = self._met.get(id(what))
            if number is not None:
                self._out.append(_REFERENCE + number)
                return
            self._met[id(what)] = len(self._keep)
            self._keep.append(what)
            handler = _HANDLERS.get(kind)
            if handler is None:
                handler = _HANDLERS[kind] = _handler_of(kind)
            handler(self, what)

    def _all(self, each_of: Iterable[Any]) -> None:
        out, visit = self._out, self.visit
        for each in each_of:
            if type(each) in _ATOMS:
                out.append(each)
            else:
                visit(each)

    # --- by kind -------------------------------------------------------------------------

    def constant(self, what: Any) -> None:
        """What never changes while a schedule runs, or nothing depends on."""
        self._out.append(type(what))

    def member(self, what: Enum) -> None:
        self._out.append(str(what))

    def value(self, what: Any) -> None:
        """What is as it is written."""
        self._out.append(repr(what))

    def items(self, what: Collection[Any]) -> None:
        self._out.append(len(what))
        self._all(what)

    def mapping(self, what: dict[Any, Any]) -> None:
        self._out.append(len(what))
        self._all(what)
        self._all(what.values())

    def unordered(self, what: "set[Any] | frozenset[Any]") -> None:
        self._out.append(len(what))
        self._all(what if len(what) == 1 else sorted(what, key=self._order))

    def _order(self, each: Any) -> tuple[int, str]:
        """Not that of a set's members, which is one of addresses."""
        if type(each) in _ATOMS:
            return -1, repr(each)
        if (number := self._met.get(id(each))) is not None:
            return number, ""
        return _REFERENCE, str(Fingerprint(self._now).of([each]))

    def members(self, what: Any) -> None:
        self._out.append(type(what))
        self._all([getattr(what, name, None) for name in _slots(type(what))])
        if (attributes := getattr(what, "__dict__", None)) is not None:
            self._all(attributes.values())

    def future(self, what: "asyncio.Future[Any]") -> None:
        self._out.append(what._state)
        if what.done():
            if what.cancelled():
                return
            error = what._exception
            self.visit(what._result if error is None else error)  # type: ignore[attr-defined]
            return
        for callback, _ in what._callbacks or ():
            self.visit(callback)

    def task(self, what: Any) -> None:
        self.future(what)
        if not what.done():
            self._out.append((what._must_cancel, what.cancelling()))
            self.visit(what._coro)
            self.visit(what._fut_waiter)

    def coroutine(self, what: Any) -> None:
        frame = what.cr_frame
        if frame is None:
            self._out.append("done")
            return
        self._out.append((id(what.cr_code), frame.f_lasti))
        if what.cr_code is _WAIT:
            self._all([frame.f_locals[name] for name in _SEEN_OF_WAIT])
        else:
            self._referents(what)

    def _referents(self, what: Any) -> None:
        """Its variables, and what lies on its stack."""
        self._all([each for each in gc.get_referents(what) if type(each) not in _OF_CODE])

    def iterator(self, what: Any) -> None:
        self._out.append(type(what))
        hint = getattr(what, "__length_hint__", None)
        if hint is not None:
            self._out.append(hint())
        self._referents(what)

    def function(self, what: Any) -> None:
        self._out.append(id(what.__code__))
        for cell in what.__closure__ or ():
            try:
                self.visit(cell.cell_contents)
            except ValueError:
                self._out.append("empty")

    def method(self, what: Any) -> None:
        self._out.append(what.__name__)
        self.visit(what.__self__)

    def bound(self, what: Any) -> None:
        self.visit(what.func)
        self.visit(what.args)
        self.visit(what.keywords)

    def handle(self, what: asyncio.Handle) -> None:
        self._out.append(what._cancelled)
        self.visit(getattr(what, "_when", None))
        self.visit(what._callback)  # type: ignore[attr-defined]
        self.visit(what._args)

    def exception(self, what: BaseException) -> None:
        self._out.append((type(what), str(what)))

    def recent(self, what: RecentEvents) -> None:
        """Without the times: no schedule lasts as long as an event is remembered."""
        for part in (what._young, what._old):
            for topic, seen in part.items():
                self._out.append(topic)
                for event_id, (_, partition, offset) in seen.items():
                    self._out.append((event_id, partition, offset))

    def supervisor(self, what: Supervisor) -> None:
        for name, value in what.__dict__.items():
            if name not in _UNSEEN_OF_SUPERVISOR:
                self.visit(value)
        self._out.append(tuple(at < 0 for at in what._described_at.values()))
        self._out.append(what._settings is SETTINGS)

    def deduplicator(self, what: Deduplicator) -> None:
        self.visit(what._recent)
        self._out.append(what._generation)
        self.visit(what._logs)

    def publisher(self, what: Publisher) -> None:
        self.visit(what._timeouts)
        self.visit(what._limits._refused)
        for place, queue in what._queues.items():
            self._out.append(place)
            self.visit(queue.small)
            self.visit(queue.large)
            self._out.append(queue.large_first)
            self.visit(queue.task)

    def producer(self, what: StandIn) -> None:
        self.client(what._client)
        self.visit(what.failed)
        self.visit(what.in_flight)
        # When a broker last answered matters only to what was on its way by then.
        since = min((batch.since for batch in what.in_flight.values()), default=self._now)
        self.visit([(node, at) for node, at in what._paused_until.items() if at > since])
        self.visit(what._errors)
        self.visit(what._abandoned)

    def topic(self, what: Topic) -> None:
        self._out.append((what.name, what.id, *what.epochs.items()))

    def description(self, what: TopicDescription) -> None:
        self.topic(what.topic)

    def item(self, what: Item) -> None:
        self._out.append(None if what.message is None else what.message.value)
        self.visit(what.outcome)

    def prepared(self, what: Prepared) -> None:
        self.visit(what.items)

    def log(self, what: Log) -> None:
        self._out.append((what.topic_id, *what.epochs.items(), *what.starts.items()))

    def gateway(self, what: Gateway) -> None:
        self._out.append((what.draining, what.reloaded))
        self.visit(what.supervisor)
        self.visit(what.publisher)
        self.visit(what.pipeline._publisher)

    def client(self, what: Client) -> None:
        """Its batches on their way are among the world's."""
        self._out.append(
            (what.pid, what.closed, what.stuck, tuple(what.counts), *what.sequences.items())
        )


def fingerprint(world: World) -> int:
    """Of a world that stands still, or not: what is ready counts, in its order."""
    return Fingerprint(world.loop.now).of(_roots(world))


def _roots(world: World) -> Iterable[Any]:
    yield world.loop.ready
    yield world.loop.deferred
    yield world.loop.timers
    yield from world.gateways
    yield [(f.client.pid, f.topic, f.partition, f.records) for f in world.flights]
    yield [(f.sequence, f.reply, f.retry_count > 1, f.late, f.answer) for f in world.flights]
    yield [(a.gateway, a.kind, a.arguments, a.handled, a.said, a.late) for a in world.asks]
    yield [a.future for a in world.asks]
    for name, topic in world.cluster.topics.items():
        yield name, topic.id
        yield [(p.epoch, p.start, p.end, tuple(p.log)) for p in topic.partitions]
        yield [tuple(p.producers.items()) for p in topic.partitions]
    yield world.up, world.drain
    yield [c for c in world.producers if not c.closed]
    yield [(topic, key, number) for (topic, key), number in world.partition_of.items()]
    for document in world.documents:
        yield document.left, len(document.attempts)
        waiting = [a for a in document.attempts if not a.answered]
        yield [(a.number, a.states, a.deadline, a.undisturbed, a.task) for a in waiting]
        yield [_seen_by(world, a) for a in waiting]
        yield [a.heard for a in document.attempts]


def _seen_by(world: World, attempt: Attempt) -> tuple[object, ...]:
    """What its answer is judged by: what was lost since it began, and what it has handed over."""
    lost = [place for place, step in world.gone.items() if step >= attempt.step]
    values = [item.message.value for item in attempt.items if item.message is not None]
    return tuple(sorted(lost)), tuple(value in world.handed for value in values)


def _slots(kind: type) -> tuple[str, ...]:
    if (known := _SLOTS.get(kind)) is not None:
        return known
    names: list[str] = []
    assert isinstance(kind, type)
    for base in reversed(kind.__mro__):
        slots = base.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    _SLOTS[kind] = tuple(name for name in names if not name.startswith("__"))
    return _SLOTS[kind]


def _handler_of(kind: type) -> Callable[[Fingerprint, Any], None]:
    for base, handler in _BY_BASE:
        if issubclass(kind, base):
            return handler
    if kind.__name__ in _CONSTANT_NAMES:
        return Fingerprint.constant
    if kind.__name__ in _ITERATORS:
        return Fingerprint.iterator
    if kind.__dictoffset__ or _slots(kind):
        return Fingerprint.members
    raise TypeError(f"no fingerprint of a {kind}")


_ATOMS = frozenset({int, str, bytes, bool, type(None), type})
_WAIT = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]
_SEEN_OF_WAIT = ("fs", "waiter", "counter", "return_when")  # not the last of a set it went over
_OF_CODE = frozenset({types.CodeType, types.FrameType, types.FunctionType, type, Context})
# What is set once, and moments on which nothing depends while no setting is read again.
_UNSEEN_OF_SUPERVISOR = frozenset(
    {
        *(
            "_settings",
            "_on_rebuild",
            "on_refusal",
            "on_throttle",
            "_required",
            "_wanted",
            "_files",
        ),
        *("_connect", "_describe_configs", "_timing", "_described_at", "_throttle_said_at"),
        *("not_ready_because", "_denied", "_renewal"),
    }
)
_CONSTANT_NAMES = frozenset({"BoundLoggerLazyProxy", "BoundLoggerFilteringAtNotset", "module"})
_ITERATORS = frozenset(
    {
        *("tuple_iterator", "list_iterator", "FutureIter", "generator", "enumerate", "zip"),
        *("coroutine_wrapper", "TaskStepMethWrapper", "_FutureIter", "set_iterator"),
        *("dict_keyiterator", "range_iterator", "map", "async_generator", "TaskWakeupMethWrapper"),
        *("list_reverseiterator", "dict_valueiterator", "dict_itemiterator", "cell"),
    }
)
_BY_BASE: list[tuple[type, Callable[[Fingerprint, Any], None]]] = [
    (Supervisor, Fingerprint.supervisor),
    (RecentEvents, Fingerprint.recent),
    (Client, Fingerprint.client),
    (Deduplicator, Fingerprint.deduplicator),
    (Publisher, Fingerprint.publisher),
    (StandIn, Fingerprint.producer),
    (Gateway, Fingerprint.gateway),
    (Topic, Fingerprint.topic),
    (TopicDescription, Fingerprint.description),
    (Log, Fingerprint.log),
    (Item, Fingerprint.item),
    (Prepared, Fingerprint.prepared),
    *((kind, Fingerprint.constant) for kind in (World, Loop, Route, Timing, BaseModel, Context)),
    *(
        (kind, Fingerprint.constant)
        for kind in (type, Limits, types.ModuleType, State, InvalidState)
    ),
    (Enum, Fingerprint.member),
    *((kind, Fingerprint.value) for kind in (range, datetime, timedelta)),
    (asyncio.Task, Fingerprint.task),
    (asyncio.Future, Fingerprint.future),
    (asyncio.Handle, Fingerprint.handle),
    (BaseException, Fingerprint.exception),
    (types.CoroutineType, Fingerprint.coroutine),
    (types.FunctionType, Fingerprint.function),
    (types.MethodType, Fingerprint.method),
    (types.BuiltinMethodType, Fingerprint.method),
    (partial, Fingerprint.bound),
    (dict, Fingerprint.mapping),
    (types.MappingProxyType, Fingerprint.mapping),
    (set, Fingerprint.unordered),
    (frozenset, Fingerprint.unordered),
    (tuple, Fingerprint.items),
    (list, Fingerprint.items),
    (deque, Fingerprint.items),
]
_SLOTS: dict[type, tuple[str, ...]] = {}
_HANDLERS: dict[type, Callable[[Fingerprint, Any], None]] = {}
