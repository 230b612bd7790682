"""`python -m benchmarks.unmeasured`: `sms-bridge` with metrics that count nothing.

What the metrics of requests cost is measured against it.
"""

from typing import Any

from bridge.cli import main as cli
from bridge.gateway import app


class _Nothing:
    """Stands in for an endpoint's metrics, and for each of them."""

    def __init__(self, *_: object) -> None: ...

    def __call__(self, *_: object, **__: object) -> None: ...

    def __getattr__(self, name: str) -> "_Nothing":
        nothing = _Nothing()
        self.__dict__[name] = nothing  # found at once from now on
        return nothing


def main() -> None:
    """Run the command line with them."""
    put_in: Any = app
    put_in.EndpointMetrics = _Nothing
    cli.main()


if __name__ == "__main__":
    main()
