"""Arguments as floating arrays."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array


def floating(value: ArrayLike) -> Array:
    """The value as an array of its own floating dtype, or of the default one if it holds whole numbers."""
    array = jnp.asarray(value)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)
