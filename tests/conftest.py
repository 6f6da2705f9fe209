from collections.abc import Iterator

import jax
import pytest

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
