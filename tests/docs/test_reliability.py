"""The page on reliability against the program: its numbers, and what no other test holds."""

import asyncio
from pathlib import Path

import pytest

from bridge.errors import DocumentError
from bridge.gateway import admission as capacity
from bridge.kafka import publisher
from bridge.kafka.supervisor import Timing
from bridge.model import InvalidState
from bridge.parse import limits, parse
from tests.kafka.test_publisher import bench
from tests.support.fake_kafka import FakeProducer, message

PAGE = " ".join((Path(__file__).parents[2] / "docs/reliability.md").read_text("utf-8").split())


NESTING = (
    f"nesting {limits.MAX_DEPTH}, elements {limits.MAX_ELEMENTS:,}, "
    f"attributes of an element {limits.MAX_ELEMENT_ATTRIBUTES:,} (400)"
)
TRIES = "three" if publisher.MAX_DELIVERIES == 3 else str(publisher.MAX_DELIVERIES)


@pytest.mark.parametrize(
    "said",
    [
        f"a probe (every {Timing().probe:.0f} s)",
        f"at most {TRIES} times each",
        NESTING,
        f"Bodies over {capacity.SMALL_BYTES // 1024} KiB",
        f"their records are put in line {publisher.CHUNK} at a time",
    ],
)
def test_the_numbers_on_the_page_are_the_programs(said: str) -> None:
    assert said in PAGE


async def test_a_small_request_gets_in_line_among_the_records_of_a_large_one() -> None:
    connection = FakeProducer(capacity=100)
    async with bench(connection) as b:
        await b.publish(message(b"first"))  # by now it is connected
        large = [message(b"%d" % number) for number in range(4 * publisher.CHUNK)]
        await asyncio.gather(b.publish(*large), b.publish(message(b"small")))
    order = [value for _, batch in connection.sent for value in batch]
    assert len(order) == len(large) + 2
    assert order.index(b"small") <= publisher.CHUNK + 1


def test_attributes_of_an_element_at_the_limit_and_one_beyond() -> None:
    """So many make a state invalid; more of them are no provider's, and refuse the document."""
    named = [f'a{number}=""' for number in range(limits.MAX_ELEMENT_ATTRIBUTES)]
    at_limit = f"<response><state {' '.join(named)}>send</state></response>"
    (state,) = parse(at_limit.encode(), max_states=1).states
    assert isinstance(state, InvalidState)
    with pytest.raises(DocumentError) as caught:
        parse(at_limit.replace("<state ", '<state b="" ').encode(), max_states=1)
    assert caught.value.reason == "too_many_attributes"
