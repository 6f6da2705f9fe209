"""What a call costs, on a machine that may be doing other things."""

import time
from collections.abc import Callable


def cpu_seconds(call: Callable[[], object], asked: float, attempts: int = 3) -> float:
    """CPU-seconds of one call: the first attempt that needs less than `asked`, else the least of all.

    CPU time too grows by half where another process shares the core's caches, which says nothing about the call.
    """
    least = float("inf")
    for _ in range(attempts):
        start = time.process_time()
        call()
        least = min(least, time.process_time() - start)
        if least < asked:
            break
    return least
