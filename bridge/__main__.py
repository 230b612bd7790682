"""The entry point of `sms-bridge` and of `python -m bridge`."""

from bridge import streams
from bridge.cli import main as cli


def main() -> None:
    """Run the program."""
    streams.prepare()
    cli.main()


if __name__ == "__main__":
    main()
