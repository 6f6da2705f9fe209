"""The `mixfleet` command from its first moment: its code takes a second to load, and Ctrl-C may come then."""

import sys

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = 130
"""Exit code of a command that was interrupted."""


def main() -> None:
    """Entry point of the command."""
    try:
        from mixfleet.cli.main import app

        app()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
