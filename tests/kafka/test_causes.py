"""Why a producer is replaced, in a few words."""

import builtins

import pytest
from aiokafka import errors

from bridge.kafka import causes, internals


@pytest.mark.parametrize(
    ("cause", "word"),
    [
        ("stalled", "stalled"),
        ("no broker answers", "unreachable"),
        ("probe failed: [Errno 111] to 10.0.0.1", "probe_failed"),
        ("OutOfOrderSequenceNumber", "sequence"),
        ("SomethingOfTheNextVersionError", "other"),
        ("", "other"),
    ],
)
def test_every_cause_is_one_of_a_few_words(cause: str, word: str) -> None:
    assert causes.word_of(cause) == word
    assert word in causes.CAUSES


def test_the_errors_that_are_spoken_of_exist() -> None:
    """A renamed error must not slip into `other`."""
    names = {name for name in causes._WORDS if name[0].isupper()}
    assert all(any(hasattr(m, name) for m in (errors, internals, builtins)) for name in names)


def test_the_brokers_are_away_for_some_of_them_alone() -> None:
    assert causes.AWAY < causes.CAUSES
