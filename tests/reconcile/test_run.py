"""A run's beginning and end; what lies between is in test_asking.py."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.config.settings import Settings, route_of
from bridge.errors import BridgeError
from bridge.model import Form, Message
from bridge.pipeline import prepare
from bridge.reconcile import run
from bridge.reconcile.asking import Pace
from bridge.reconcile.journal import Journal, Run
from bridge.reconcile.report import Report
from bridge.reconcile.run import Terms, Wanted, reconcile
from bridge.reconcile.topic import Holdings
from bridge.reconcile.work_list import WorkList, read_work_list
from bridge.simulate.api import Api
from bridge.simulate.documents import SentState, render
from tests.support.provider import known
from tests.support.settings import settings

NOW = datetime(2026, 11, 23, 9, 15, 2, tzinfo=UTC)


def terms(stopped: asyncio.Event, **changes: Any) -> Terms:
    given: dict[str, Any] = {
        "pace": Pace(requests_per_second=1e6, first_pause_seconds=0.001),
        "timeout_seconds": 20,
        "tell": lambda _: None,
        "show": lambda _settled, _total: None,
        "note": lambda _: None,
        "clock": lambda: NOW,
        "stopped": stopped,
    }
    return Terms(**given | changes)


def dry_run(using: Settings, work: WorkList, endpoint: str | None = None) -> Report:
    async def go() -> Report:
        wanted = Wanted(endpoint=endpoint, work=work)
        return await reconcile(using, wanted, terms(asyncio.Event(), dry_run=True))

    return asyncio.run(go())


def account(api: Api, **changes: Any) -> dict[str, Any]:
    return {"provider": {"url": f"{api.url}/xml", "token": "t"}} | changes


def line(endpoint: str, *ids: str) -> str:
    return json.dumps({"endpoint": endpoint, "unlisted_ids": ids})


@pytest.mark.parametrize("form", ["xml", "json"])
def test_the_events_of_either_form_are_those_of_a_webhook(form: str) -> None:
    """Whichever form the states were posted in, and whichever they are asked for in."""
    sent = SentState("3234", "read", "2011-01-01 12:57:46", "deliver", "read")
    noted: list[Message] = []
    with Api({"3234": sent}) as api:
        using = settings({"provider": {"url": f"{api.url}/{form}", "token": "t", "format": form}})
        wanted = Wanted(work=read_work_list(["3234"]))
        given = terms(asyncio.Event(), dry_run=True, note=noted.append)
        report = asyncio.run(reconcile(using, wanted, given))
    assert report.whole
    assert [m.event_id for m in noted] == ["3234.940d7bb750bed8bb52b9621402425a66"]
    route = route_of(using, using.endpoints[0])
    for posted in Form:
        body = render([sent], posted)
        (item,) = prepare(route, body, NOW, max_states=1).items
        assert item.message == noted[0]


OTHER = {"name": "other", "path": "/other", "source": "urn:example:sms:other"}


def test_each_account_is_asked_for_its_own_messages() -> None:
    lines = [line("main", "1", "2"), line("other", "3")]
    with Api(known([1, 2])) as main, Api(known([3])) as other:
        report = dry_run(settings(account(main), OTHER | account(other)), read_work_list(lines))
    assert main.asked == [["1", "2"]]
    assert other.asked == [["3"]]
    assert report.whole
    assert (report.new, report.published) == (3, 0)


def test_the_others_of_one_endpoint_alone_are_not_missed() -> None:
    lines = [
        '{"endpoint": "main", "unlisted_ids": ["1"]}',
        '{"endpoint": "other", "unlisted_ids": ["3"]}',
    ]
    with Api(known([1])) as api:
        using = settings(account(api), OTHER | account(api))
        report = dry_run(using, read_work_list(lines), endpoint="main")
    assert report.whole
    assert api.asked == [["1"]]


def test_an_account_that_is_away_does_not_keep_the_others() -> None:
    lines = [
        '{"endpoint": "main", "unlisted_ids": ["1"]}',
        '{"endpoint": "other", "unlisted_ids": ["3"]}',
    ]
    with Api(known([3])) as api:
        nowhere = {"provider": {"url": f"{api.url}/nowhere", "token": "t"}}
        report = dry_run(settings(nowhere, OTHER | account(api)), read_work_list(lines))
    assert [why.partition(":")[0] for why in report.stopped] == ["endpoint main"]
    assert (report.new, report.not_asked) == (1, 1)
    assert not report.whole


def test_a_run_is_interrupted_while_it_still_reads_the_topic(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It may have millions of records; and nothing is left of a run that has not begun."""
    reading = asyncio.Event()

    async def read_topics(*_: object) -> Holdings:
        reading.set()
        await asyncio.sleep(600)
        raise AssertionError

    async def go() -> Report:
        stopped = asyncio.Event()
        wanted = Wanted(from_topic=True)
        given = terms(stopped, resume=tmp_path / "place")
        with Api({}) as api:
            running = asyncio.ensure_future(reconcile(settings(account(api)), wanted, given))
            await reading.wait()
            stopped.set()
            return await asyncio.wait_for(running, 20)

    monkeypatch.setattr(run, "read_topics", read_topics)
    report = asyncio.run(go())
    assert report.interrupted
    assert not report.complete
    assert list(tmp_path.iterdir()) == []


def test_the_ids_of_two_sources_are_not_mixed_up() -> None:
    lines = ["1", "2"]
    with Api(known([1, 2])) as api:
        using = settings(account(api), OTHER | account(api))
        with pytest.raises(BridgeError, match="name one of main, other with --endpoint"):
            dry_run(using, read_work_list(lines))
        assert dry_run(using, read_work_list(lines), endpoint="other").new == 2


@pytest.mark.parametrize("endpoints", [[{}], [{"name": "renamed"}]])
def test_messages_of_an_endpoint_that_is_gone_are_not_forgotten(
    tmp_path: Path, endpoints: list[dict[str, Any]]
) -> None:
    place = tmp_path / "place"
    with Journal.begun(place, Run({}, {"main": ["1"]}, None, [], [], 0, 0, {})):
        pass
    given = terms(asyncio.Event(), resume=place)
    with pytest.raises(BridgeError, match="endpoint main of the interrupted run has no provider"):
        asyncio.run(reconcile(settings(*endpoints), Wanted(), given))
    assert place.exists()
