"""Arguments as floating arrays, and the library that an array is of."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array


def library_of(array: Any) -> Any:
    """Numpy for its own arrays, which stay on the host and compile nothing; jax.numpy for all others."""
    return np if isinstance(array, np.ndarray) else jnp


def floating(value: ArrayLike) -> Array:
    """The value as an array of its own floating dtype, or of the default one if it holds whole numbers."""
    array = jnp.asarray(value)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)
