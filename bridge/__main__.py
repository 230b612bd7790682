"""The entry point of `sms-bridge` and of `python -m bridge`."""

import signal
import sys

from bridge import interrupts


def main() -> None:
    """Run the program. Its imports take up to a second, and may be interrupted."""
    if sys.argv[1:2] == ["serve"]:  # which SIGHUP asks to reload, and must not end meanwhile
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts.leave_at_once()
    from bridge import streams
    from bridge.cli import main as cli

    streams.prepare()
    cli.main()


if __name__ == "__main__":
    main()
