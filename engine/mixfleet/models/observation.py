"""Observation: the family of the KPI around what is expected of it.

Under the normal family the baseline's coefficients integrate out exactly, and one fused kernel gives the likelihood
with its gradient. Under every other one they are sampled, and the density is put together from its parts. A further
family is an object with the attributes of `SampledObservation`, made known by `register`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Float

from mixfleet.config import priors
from mixfleet.config.priors import Distribution, Parameter
from mixfleet.errors import ConfigError

if TYPE_CHECKING:
    from jax import Array

__all__ = ["OBSERVATIONS", "Observation", "SampledObservation", "register"]

Parameters = tuple["Array", ...]
"""Values by lane of the family's parameters in the order of `config.priors.OBSERVATION_PARAMETERS`; the scale first."""


class Observation(Protocol):
    """What every family knows."""

    @property
    def marginal(self) -> bool:
        """Whether the baseline's coefficients are integrated out."""
        ...

    def noise(
        self,
        rng: np.random.Generator,
        size: tuple[int, int],
        parameters: tuple[Float[np.ndarray, " draw"], ...],
    ) -> Float[np.ndarray, "week draw"]:
        """What chance adds to the expected KPI, for so many weeks and draws, on the host."""
        ...


class SampledObservation(Observation, Protocol):
    """A family whose density is evaluated week by week."""

    def log_prob(
        self, kpi: "Float[Array, 'week lane']", expected: "Float[Array, 'week lane']", parameters: Parameters
    ) -> "Float[Array, 'week lane']":
        """Log density of the KPI, a differentiable jax function."""
        ...


class _Normal:
    """Independent normal noise of one standard deviation."""

    marginal = True

    def noise(self, rng: np.random.Generator, size: tuple[int, int], parameters: tuple[np.ndarray, ...]) -> np.ndarray:
        drawn = rng.standard_normal(size)
        drawn *= parameters[0]
        return drawn


OBSERVATIONS: dict[str, Observation] = {"normal": _Normal()}
"""Families by the name that `model.observation` gives."""


def register(name: str, observation: SampledObservation, parameters: Mapping[str, Distribution]) -> None:
    """Makes a family known to settings (`model.observation`) and models.

    Args:
        name: What settings call it.
        observation: Its density and draws.
        parameters: Usual prior of each parameter that it has beside `noise`, its scale, which comes first.

    Raises:
        ConfigError: There is a family of that name, or a parameter of one of the names, already.
    """
    if name in OBSERVATIONS:
        raise ConfigError(f"there is a family {name!r} already", key="model.observation")
    priors.add_parameters(
        {key: Parameter(level="unit", support=prior.support, default=prior) for key, prior in parameters.items()}
    )
    priors.OBSERVATION_PARAMETERS[name] = ("noise", *parameters)
    OBSERVATIONS[name] = observation
