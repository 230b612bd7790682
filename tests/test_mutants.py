"""The quick tests would notice: each way to break the promise fails the test that is named."""

from dataclasses import replace

import pytest

from tests.mutants import FAST, PACKAGE, AnchorError, Change, FastMutant, caught, mutated
from tests.mutants import presently_failing as failing

pytestmark = pytest.mark.slow


def test_the_present_program_passes_what_its_mutants_must_fail() -> None:
    assert failing() == ""


@pytest.mark.parametrize("mutant", FAST, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: FastMutant) -> None:
    assert caught(mutant)


def test_a_change_that_breaks_nothing_is_not_caught() -> None:
    harmless = replace(FAST[1], anchor="is_durable and whole", replacement="is_durable  and whole")
    assert not caught(harmless)


def test_a_test_that_is_not_there_catches_nothing() -> None:
    with pytest.raises(AnchorError, match="no verdict"):
        caught(replace(FAST[1], test="tests/test_ack.py::test_that_was_renamed"))


def test_a_mutant_that_fits_no_more_says_so() -> None:
    lost: Change = replace(FAST[1], anchor="not to be found")
    with pytest.raises(AnchorError, match="0 times"), mutated(lost):
        pass


def test_the_changed_copy_is_another_package() -> None:
    with mutated(FAST[0]) as directory:
        changed = (directory / "bridge" / FAST[0].file).read_text()
    assert changed != (PACKAGE / FAST[0].file).read_text()
