"""A value that is known: a prior without a coordinate."""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["Fixed"]


class Fixed:
    """The family of known values, as `families.PriorFamily`; row 0 of the prior's data holds the value."""

    name: ClassVar[str] = "fixed"
    bounded: ClassVar[bool] = False

    def encode(self, values: tuple[float, ...]) -> Float[np.ndarray, " row"]:
        """See `PriorFamily`."""
        return np.array([values[0], 0.0, 0.0, 0.0, 0.0])

    def centre(self, values: tuple[float, ...]) -> float:
        """See `PriorFamily`."""
        del values
        raise ValueError("a fixed value has no coordinate")

    def constrain(self, u: Array, hyper: Array) -> Array:
        """See `PriorFamily`."""
        return jnp.broadcast_to(hyper[0], u.shape)

    def unconstrain(self, value: np.ndarray, hyper: np.ndarray) -> np.ndarray:
        """See `PriorFamily`."""
        del value, hyper
        raise ValueError("a fixed value has no coordinate")

    def log_prob(self, u: Array, hyper: Array) -> Array:
        """See `PriorFamily`."""
        del hyper
        return jnp.zeros_like(u)

    def frozen(self, **hyperparameters: float) -> Any:
        """The value as far as distributions of scipy are asked for their mean, deviation and draws."""
        return _Known(hyperparameters["value"])


class _Known:
    def __init__(self, value: float) -> None:
        self._value = value

    def mean(self) -> float:
        return self._value

    def std(self) -> float:
        return 0.0

    def rvs(self, size: int, random_state: np.random.Generator) -> np.ndarray:
        del random_state
        return np.full(size, self._value)
