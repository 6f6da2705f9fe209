"""Sums that XLA on CPU would be slow at."""

import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["sum_rows"]


def sum_rows(values: Float[Array, "row lane"]) -> Float[Array, " lane"]:
    """Sum over the first axis, as a product with ones.

    XLA on CPU runs its own reduction one number at a time, and would fuse anything else into every reader of the sum,
    to be worked out anew for each of the reader's rows.
    """
    return jnp.matmul(jnp.ones(len(values), values.dtype), values, precision="highest")
