"""What the tests of alerts share."""

import re

from tests.support.prometheus import (
    JOB,
    NAMESPACE,
    Prometheus,
)


def series(metric: str, values: str, **labels: str) -> dict[str, str]:
    """One input series in promtool's notation, a value a minute, of one pod where none is named."""
    every = {"job": JOB, "namespace": NAMESPACE, "instance": "one"} | labels
    text = ",".join(f'{name}="{value}"' for name, value in every.items())
    return {"series": f"{metric}{{{text}}}", "values": values}


def answers(*, fast: str, slow: str) -> list[dict[str, str]]:
    """Requests of which some take over 4 seconds."""
    name = "sms_bridge_request_duration_seconds_bucket"
    return [
        series(name, values, endpoint="main", le=le)
        for le, values in (("1.0", fast), ("4.0", fast), ("5.0", slow), ("+Inf", slow))
    ]


def values(watching: Prometheus, definition: str) -> list[str]:
    """What a variable of the dashboard offers, from its `label_values(selector, label)`."""
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", definition)
    assert match is not None
    return watching.label_values(match[2], match[1].replace("$namespace", ".*"))
