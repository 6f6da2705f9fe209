import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

import pytest

# One folder of compiled programs for all workers and the processes that tests start, as compiling takes most of the
# time. A program is filed under a digest of all that it computes, so one with a planted mistake serves nobody else.
# Set before jax is imported, and by the first process only: workers inherit it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="mixfleet-programs-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Tests start some hundred processes: sources are compiled to bytecode once, also where the environment forbids it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import jax

sys.dont_write_bytecode = False

# A silent broadcast between units and weeks would be a wrong answer; every rank change is written out.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def usual_broadcasts() -> Iterator[None]:
    """Fits as users run them, without the kernels' strict rule for broadcasts."""
    # Not the context manager: a fit works in threads of its own.
    before = jax.config.jax_numpy_rank_promotion
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", before)
