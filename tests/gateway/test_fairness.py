"""Large documents beside small ones: nobody waits for them long."""

import os
from collections.abc import Callable, Iterator

import pytest

from bridge.demo.embedded_broker import EmbeddedBroker
from tests.fairness import Figures, hostile, largest, many_states, measure
from tests.support.gateway import Gateway, configuration

SECONDS = 4.0
FACTOR = float(os.environ.get("HOSTILE_COST_FACTOR", "1"))  # of a slow or busy machine
# `/livez` needs the event loop alone. Read there, one of these documents holds it for 400 ms or
# more; read beside it, nine checks of ten took under 100 ms, on two busy cores.
HEALTH_MS = 200.0 * FACTOR
POST_MS = 750.0 * FACTOR  # it also waits its turn for Kafka, behind 10,000 records


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
    """While two connections post megabytes without a pause, nine small answers of ten are quick."""
    figures: Figures = measure(gateway, SECONDS, *sources())

    assert figures.large >= 2
    assert figures.refused == 0
    assert figures.health.quantile(0.9) < HEALTH_MS, f"{figures}"
    assert figures.posts.quantile(0.9) < POST_MS, f"{figures}"


def test_middling_documents_do_not_wait_for_large_ones(gateway: Gateway) -> None:
    """One sender's turn comes as often as all of six others' together, and more often.

    In one line with them it would come once for each of theirs.
    """
    figures: Figures = measure(gateway, SECONDS, *[largest] * 6)

    assert figures.large >= 6
    assert figures.refused == 0
    assert figures.served > figures.large, f"{figures}"
