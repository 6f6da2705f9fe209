"""What the statistics share: fits as users run them, without the kernels' strict rule for broadcasts."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def usual_broadcasts() -> Iterator[None]:
    # Not the context manager: a fit works in threads of its own.
    before = jax.config.jax_numpy_rank_promotion
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", before)
