"""The `demo` command: the story of bridge/demo, told on the terminal."""

import sys
from pathlib import Path

import click

from bridge.cli.common import EXIT_FAILED, fail
from bridge.demo import story
from bridge.errors import BridgeError


@click.command()
@click.option(
    "--messages",
    type=click.IntRange(1, 1_000_000),
    default=3000,
    show_default=True,
    help="States to post while the gateway is killed and restarted.",
)
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, until Ctrl-C.")
def demo(messages: int, keep: bool) -> None:
    """Show the whole story on this machine.

    Starts an in-memory broker, the gateway and a simulated provider, each as a process on
    loopback ports. Freezes the broker, kills the gateway, and counts what is in Kafka.
    """
    called = Path(sys.argv[0])
    program = f"{sys.executable} -m bridge" if called.name == "__main__.py" else str(called)
    try:
        whole = story.demo(messages, keep=keep, program=program)
    except (BridgeError, TimeoutError) as exc:
        fail(str(exc))
    if not whole:
        sys.exit(EXIT_FAILED)
