"""What a running gateway takes up of a changed configuration, and what it refuses."""

from typing import Any

import pytest

from bridge.config.changes import RELOADED, RESTART, Changes, changes
from bridge.config.settings import Place, Settings
from tests.config.texts import LEAVES, SECRET
from tests.support.settings import settings

AUTH = {"tokens": [SECRET]}


def key_of(place: Place) -> str:
    """A setting as the tables have it: items of other lists than the endpoints go with them."""
    key = ""
    for step in place:
        if step == 0 and key == "endpoints":
            key += "[]"
        elif isinstance(step, int) or key == "events.statuses":
            break
        else:
            key += f".{step}" if key else str(step)
    return key


def test_every_setting_is_in_one_of_the_tables() -> None:
    """A new setting is either taken up, with a test that it is, or needs a restart."""
    assert {key_of(place) for place in LEAVES} == RELOADED | RESTART
    assert not RELOADED & RESTART


def between(*, old: Settings | None = None, **sections: Any) -> Changes:
    return changes(old or settings(), settings(**sections))


def with_endpoints(*endpoints: dict[str, Any]) -> Settings:
    return settings(*endpoints)


def test_the_same_settings_differ_in_nothing() -> None:
    assert not changes(settings(), settings())


@pytest.mark.parametrize(
    ("sections", "changed"),
    [
        ({"log": {"level": "debug"}}, ["log.level"]),
        ({"server": {"max_states": 5, "max_in_flight": 7}}, ["max_states", "max_in_flight"]),
        ({"kafka": {"duplicates": {"remember": 0}}}, ["kafka.duplicates.remember"]),
        ({"events": {"statuses": {"accepted": {"rank": 1}}}}, ["events.statuses"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_taken_up(sections: dict[str, Any], changed: list[str]) -> None:
    found = between(**sections)
    assert [key.rpartition("server.")[2] for key in found.changed] == changed
    assert found.refused == ()


@pytest.mark.parametrize(
    ("sections", "refused"),
    [
        ({"server": {"port": 9}}, "server.port"),
        ({"inspector": {"port": 0}}, "inspector"),
        ({"kafka": {"bootstrap_servers": "other:9092"}}, "kafka.bootstrap_servers"),
        ({"kafka": {"dead_letter_topic": None}}, "kafka.dead_letter_topic"),
        ({"events": {"content_mode": "binary"}}, "events.content_mode"),
        ({"kafka": {"create_topics": {"config": {}}}}, "kafka.create_topics.config"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_needs_a_restart(sections: dict[str, Any], refused: str) -> None:
    assert between(**sections).refused == (refused,)


def test_a_login_that_appears_needs_a_restart_and_a_new_password_does_not() -> None:
    """What comes with a section that is new is looked at, too: here its mechanism."""

    def secured(**sasl: str) -> dict[str, Any]:
        login = {"mechanism": "PLAIN", "username": "u", "password": "p"} | sasl
        return {"security": {"protocol": "SASL_PLAINTEXT", "sasl": login}}

    assert set(between(kafka=secured()).refused) == {
        "kafka.security.protocol",
        "kafka.security.sasl",
    }
    before = settings(kafka=secured())
    found = between(old=before, kafka=secured(password=SECRET))
    assert (found.changed, found.refused) == (("kafka.security.sasl.password",), ())
    found = between(old=before, kafka=secured(mechanism="SCRAM-SHA-256"))
    assert found.refused == ("kafka.security.sasl.mechanism",)


def test_endpoints_go_by_their_names_in_any_order() -> None:
    first, second = {"auth": AUTH}, {"name": "b", "path": "/b", "source": "urn:b", "auth": AUTH}
    third = second | {"name": "c", "path": "/c"}
    before, after = with_endpoints(first, second), with_endpoints(third, first)
    assert changes(before, after) == Changes(added=("endpoints[c]",), removed=("endpoints[b]",))
    assert not changes(before, with_endpoints(second, first))


@pytest.mark.parametrize(
    ("change", "key", "refused"),
    [
        ({"path": "/other"}, "path", False),
        ({"timezone": "Europe/Kyiv"}, "timezone", False),
        ({"auth": "none"}, "auth", False),
        ({"auth": {"tokens": ["another-token-of-it"]}}, "auth.tokens", False),
        ({"auth": AUTH | {"allow": ["192.0.2.1"]}}, "auth.allow", False),
        ({"source": "urn:other"}, "source", True),
        ({"topic": "other"}, "topic", True),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_endpoint_s_settings(change: dict[str, Any], key: str, refused: bool) -> None:
    found = changes(with_endpoints({"auth": AUTH}), with_endpoints({"auth": AUTH} | change))
    assert found.changed == (f"endpoints[main].{key}",)
    assert found.refused == (found.changed if refused else ())


def test_no_value_is_told() -> None:
    old = with_endpoints({"auth": AUTH})
    new = with_endpoints({"auth": {"tokens": [f"{SECRET}2"], "allow": ["203.0.113.9"]}})
    said = repr(changes(old, new))
    assert SECRET not in said
    assert "203.0.113.9" not in said


def test_a_status_s_null_is_not_the_same_as_nothing() -> None:
    """A built-in word keeps what is not given; `final: null` takes it away."""
    old = settings(events={"statuses": {"read": {"rank": 3}}})
    found = between(old=old, events={"statuses": {"read": {"rank": 3, "final": None}}})
    assert found.changed == ("events.statuses",)
