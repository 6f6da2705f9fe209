"""The `mixfleet` command from its first moment: its code takes a second to load, and Ctrl-C may come then."""

import os
import sys

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = 130
"""Exit code of a command that was interrupted."""


def main() -> None:
    """Entry point of the command."""
    # Products of a unit's matrices are small and many: threads of the library's own, which reads this as numpy loads,
    # would mostly spin, and take the cores from those that sample.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from mixfleet.cli.main import app

        app()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
