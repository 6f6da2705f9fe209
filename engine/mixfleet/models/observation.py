"""Observation: the family of the KPI around what is expected of it.

Under the normal families, independent or autocorrelated, the baseline's coefficients integrate out exactly, and a fused
kernel gives the likelihood with its gradient. Under every other one they are sampled, and the density is put together
from its parts. A further family is an object with the attributes of `SampledObservation`, made known by `register`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from mixfleet.config import Model, priors
from mixfleet.config.priors import Distribution, Parameter
from mixfleet.errors import ConfigError

if TYPE_CHECKING:
    from jax import Array

__all__ = [
    "OBSERVATIONS",
    "Autocorrelated",
    "Observation",
    "SampledObservation",
    "carried_shares",
    "is_autocorrelated",
    "register",
    "whitened",
]

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


class Autocorrelated:
    """Normal noise of which a part goes on from one week to the next: autoregressive of order one."""

    marginal = True

    def noise(self, rng: np.random.Generator, size: tuple[int, int], parameters: tuple[np.ndarray, ...]) -> np.ndarray:
        """What chance adds where nothing is known of any week."""
        return self.given(rng, np.full(size, np.nan), parameters)[1]

    def given(
        self, rng: np.random.Generator, error: Float[np.ndarray, "week draw"], parameters: tuple[np.ndarray, ...]
    ) -> tuple[Float[np.ndarray, "week draw"], Float[np.ndarray, "week draw"]]:
        """What the errors before a week let expect of its own, and what chance adds to that.

        Args:
            rng: Random numbers.
            error: KPI less its expectation in weeks where it is known, and NaN in others.
            parameters: Standard deviation of a week, and correlation with the next; what follows is of the baseline.
        """
        sd, correlation = parameters[:2]
        chance, carried = rng.standard_normal(error.shape), np.empty(error.shape)
        chance[:1] *= sd
        chance[1:] *= sd * np.sqrt(1 - correlation**2)
        carried[:1] = 0.0
        np.multiply(correlation, error[:-1], out=carried[1:])
        for before in np.flatnonzero(~np.all(np.isfinite(error[:-1]), axis=1)).tolist():
            carried[before + 1] = correlation * carried[before]
            chance[before + 1] += correlation * chance[before]
        return carried, chance

    def variance_given(
        self, known: Bool[np.ndarray, " week"], parameters: tuple[np.ndarray, ...]
    ) -> Float[np.ndarray, "week draw"]:
        """Variance of what `given` has chance add, where the errors of these weeks are known."""
        sd, correlation = parameters[:2]
        variance = np.tile(sd**2, (len(known), 1))
        for week in range(1, len(known)):
            before = 0.0 if known[week - 1] else variance[week - 1]
            variance[week] = correlation**2 * before + sd**2 * (1 - correlation**2)
        return variance


OBSERVATIONS: dict[str, Observation] = {"normal": _Normal(), "ar1": Autocorrelated()}
"""Families by the name that `model.observation` gives."""


def carried_shares(
    correlation: Float[np.ndarray, " draw"] | float, places: Int[np.ndarray, " week"]
) -> Float[np.ndarray, "later *draw"]:
    """What of each week's error goes on into the next one of these, which need not follow at once."""
    later, powers = _carried(correlation, places)
    return np.broadcast_to(powers[later], (len(places[1:]), powers.shape[1]))


def _carried(
    correlation: Float[np.ndarray, " draw"] | float, places: Int[np.ndarray, " week"]
) -> tuple[slice | Int[np.ndarray, " later"], Float[np.ndarray, "distance *draw"]]:
    """Powers by distance, of which there are few, and the row of each later week: one for all where none is missing."""
    distances = np.diff(places)
    powers = np.asarray(correlation) ** np.arange(1, distances.max(initial=1) + 1)[:, None]
    return (slice(None), powers) if len(powers) == 1 else (distances - 1, powers)


def whitened(
    values: Float[np.ndarray, "week column"],
    correlation: Float[np.ndarray, " column"] | float,
    places: Int[np.ndarray, " week"],
) -> Float[np.ndarray, "week column"]:
    """Each of these weeks less what the one before says of it, with as much variance as a whole one."""
    later, powers = _carried(correlation, places)
    found = np.array(values)
    found[1:] -= powers[later] * values[:-1]
    found[1:] /= np.sqrt(1 - powers**2)[later]
    return found


def is_autocorrelated(model: Model) -> bool:
    """Whether the noise of neighbouring weeks is correlated, so that their distances are part of the density."""
    return isinstance(OBSERVATIONS[model.observation], Autocorrelated)


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
