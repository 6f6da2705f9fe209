"""The `mixfleet` command from its first moment: its code takes a second to load, and Ctrl-C may come then."""

import ctypes
import gc
import os
import sys
from collections.abc import Callable

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = 130
"""Exit code of a command that was interrupted."""

COLLECTED_AFTER = 20_000
"""New objects after which garbage is looked for: what a fit makes of it is next to nothing."""

KEPT_FREE = 64 * 2**20
"""Bytes of freed memory that each thread's arena keeps for itself."""

M_TOP_PAD = -2
"""What glibc's malloc.h calls that setting."""


def main() -> None:
    """Entry point of the command."""
    # Products of a unit's matrices are small and many: threads of the library's own, which reads this as numpy loads,
    # would mostly spin, and take the cores from those that sample.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _keep_freed()
    try:
        app = _loaded()
        app()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _keep_freed() -> None:
    """Has the memory that one unit's results are done with kept for the next one's.

    To give it back and take it anew, page by page, is a seventh of the time that results take.
    """
    # Other C libraries than glibc have no such function.
    if sys.platform == "linux" and (tell := getattr(ctypes.CDLL(None), "mallopt", None)):
        tell(M_TOP_PAD, KEPT_FREE)


def _loaded() -> Callable[[], None]:
    """The command's code, through whose many objects that stay nobody looks for garbage, now or later."""
    gc.disable()
    try:
        from mixfleet.cli.main import app
    finally:
        gc.freeze()
        gc.set_threshold(COLLECTED_AFTER, *gc.get_threshold()[1:])
        gc.enable()
    return app
