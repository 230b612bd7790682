"""Large documents beside small ones: nobody waits for them long."""

from collections.abc import Callable, Iterator

import pytest

from bridge.demo.embedded_broker import EmbeddedBroker
from tests.fairness import Figures, hostile, largest, many_states, measure
from tests.support.gateway import Gateway, configuration

SECONDS = 3.0
LARGE = 4  # bodies at the least
# For each large body, whatever the machine and however busy it is. Read on the event loop, hostile
# ones leave room for 2 to 4 checks each; beside it for 9 and more. The quicker a large one is read,
# the fewer there are.
CHECKS = 5
POSTS = 1  # each also waits its turn for Kafka, behind 10,000 records


@pytest.fixture(scope="module")
def gateway(new_embedded: type[EmbeddedBroker]) -> Iterator[Gateway]:
    with (
        new_embedded("fair", "fair.rejected") as broker,
        Gateway(configuration(broker.bootstrap_servers, "fair")) as running,
    ):
        yield running


@pytest.mark.parametrize(
    "sources",
    [
        pytest.param(lambda: (many_states, many_states), id="two of 10,000 states"),
        pytest.param(lambda: (many_states, hostile("states")), id="10,000 states and hostile"),
        pytest.param(lambda: (hostile("states"), hostile("references")), id="two hostile"),
    ],
)
def test_large_documents_do_not_hold_up_small_ones(
    gateway: Gateway, sources: Callable[[], tuple[Callable[[int], bytes], ...]]
) -> None:
    """While two connections post megabytes without a pause, many small ones are answered."""
    figures: Figures = measure(gateway, SECONDS, *sources(), least=LARGE)

    assert figures.refused == 0
    assert figures.health.answers >= CHECKS * figures.large, f"{figures}"
    assert figures.posts.answers >= POSTS * figures.large, f"{figures}"


def test_middling_documents_do_not_wait_for_large_ones(gateway: Gateway) -> None:
    """One sender's turn comes as often as all of six others' together, and more often.

    In one line with them it would come once for each of theirs.
    """
    figures: Figures = measure(gateway, SECONDS, *[largest] * 6)

    assert figures.large >= 6
    assert figures.refused == 0
    assert figures.served > figures.large, f"{figures}"
