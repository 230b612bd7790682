"""The entry point of `sms-bridge` and of `python -m bridge`."""

from bridge import cli, streams


def main() -> None:
    """Run the program."""
    streams.prepare()
    cli.main()


if __name__ == "__main__":
    main()
