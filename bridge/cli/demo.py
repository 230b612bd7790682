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
@click.option(
    "--port",
    type=click.IntRange(1, 65533),
    help="Port of the gateway; the next two are health checks and inspector.  [default: any]",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write configuration and logs there.  [default: a directory that is removed]",
)
def demo(messages: int, keep: bool, port: int | None, directory: Path | None) -> None:
    """Show the whole story on this machine.

    Starts an in-memory broker, the gateway and a simulated provider, each as a process on
    loopback ports. Freezes the broker, kills the gateway, and counts what is in Kafka. A port
    that is taken is replaced by another: the addresses come first.
    """
    called = Path(sys.argv[0])
    program = f"{sys.executable} -m bridge" if called.name == "__main__.py" else str(called)
    try:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        whole = story.demo(messages, keep=keep, program=program, port=port, directory=directory)
    except OSError as exc:
        fail(f"{exc.filename or 'demo'}: {exc.strerror}")
    except (BridgeError, TimeoutError) as exc:
        fail(str(exc))
    if not whole:
        sys.exit(EXIT_FAILED)
