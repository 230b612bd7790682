"""The entry point of `sms-bridge` and of `python -m bridge`."""

from bridge import interrupts


def main() -> None:
    """Run the program. Its imports take up to a second, and may be interrupted."""
    interrupts.leave_at_once()
    from bridge import streams
    from bridge.cli import main as cli

    streams.prepare()
    cli.main()


if __name__ == "__main__":
    main()
