"""Named shapes and parameters for tests and benchmarks of the likelihood."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet_kernels import adstock, saturation
from mixfleet_kernels.adstock import cases as adstock_cases
from mixfleet_kernels.likelihood.arrays import Series
from mixfleet_kernels.saturation import cases as saturation_cases


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One call of the likelihood on units that differ in everything."""

    adstock: str = "geometric"
    saturation: str = "logistic"
    adstock_first: bool = True
    """Whether carry-over comes before saturation."""
    units: int = 2
    chains: int = 3
    weeks: int = 48
    """Padded; a multiple of 16."""
    padding: int = 7
    """Weeks of them without data, at the end."""
    channels: int = 3
    absent: bool = True
    """Whether the last channel of the first unit is absent."""
    columns: int = 3
    window: int = 5
    strength_is_mean: bool = True
    dense: bool = False
    """Whether the linear block has a covariance along its basis in place of variances."""
    negative: bool = False
    """Whether some weeks hold negative media."""
    large: bool = False
    """Whether it is meant for benchmarks."""

    @property
    def lanes(self) -> int:
        """Chains that are evaluated together."""
        return self.units * self.chains

    def design(self) -> tuple[Float[np.ndarray, "unit week column"], Float[np.ndarray, "unit column"]]:
        """Columns of the linear block, zero outside the likelihood, and their prior standard deviations."""
        random = np.random.default_rng(5)
        design = random.normal(size=(self.units, self.weeks, self.columns))
        return design * self._weight()[..., None], random.uniform(0.1, 0.5, (self.units, self.columns))

    def series(self, dtype: type[np.floating]) -> Series:
        """The data, the same at every call."""
        random = np.random.default_rng(6)
        bought = random.random((self.weeks, self.channels, self.units)) < 0.7
        media = bought * random.gamma(2.0, 0.2, bought.shape)
        if self.negative:
            media = media * np.where(random.random(media.shape) < 0.1, -0.3, 1.0)
        active = np.ones((self.channels, self.units))
        if self.absent:
            active[-1, 0] = 0
        weight = self._weight().T
        media = media * active
        media[self.weeks - self.padding :] = 0
        design, sd = self.design()
        left, singular, _ = np.linalg.svd(design * sd[:, None], full_matrices=False)
        arrays = {
            "media": media,
            "kpi": random.normal(0.4, 0.2, (self.weeks, self.units)) * weight,
            "weight": weight,
            "variance": singular.T**2,
            "active": active,
        }
        if self.dense:
            turn = np.linalg.qr(random.normal(size=(self.units, self.columns, self.columns)))[0]
            left = left @ turn
            arrays["variance"] = np.einsum("uki,uk,ukj->iju", turn, singular**2, turn)
        lanes = {name: np.repeat(array, self.chains, axis=-1) for name, array in arrays.items()}
        lanes["basis"] = left
        return Series(**{name: jnp.asarray(array, dtype) for name, array in lanes.items()})

    def shape(self, dtype: type[np.floating]) -> tuple[tuple[Float[Array, "channel lane"], ...], ...]:
        """Adstock and saturation parameters."""
        batch = (self.channels, self.lanes)
        adstocks = adstock_cases.Case(family=self.adstock, batch=batch).parameters(dtype)
        saturations = saturation_cases.Case(family=self.saturation, batch=batch).parameters(dtype)
        return tuple(map(jnp.asarray, adstocks)), tuple(map(jnp.asarray, saturations))

    def strength(self, dtype: type[np.floating]) -> Float[Array, "channel lane"]:
        """Effects, or mean contributions."""
        return jnp.asarray(np.random.default_rng(7).uniform(0.02, 0.2, (self.channels, self.lanes)), dtype)

    def log_noise(self, dtype: type[np.floating]) -> Float[Array, " lane"]:
        """Logarithms of the noise's standard deviation."""
        return jnp.asarray(np.log(np.random.default_rng(8).uniform(0.05, 0.3, self.lanes)), dtype)

    def arguments(self, dtype: type[np.floating]) -> tuple[Any, ...]:
        """Series, weights, tangents, parameters, strength and log noise."""
        adstocks, saturations = self.shape(dtype)
        weights, tangents = adstock.weights_and_tangents(self.adstock, adstocks, window=self.window)
        if not adstocks:
            weights = jnp.ones((1, self.channels, self.lanes), dtype)
        return self.series(dtype), weights, tangents, saturations, self.strength(dtype), self.log_noise(dtype)

    def _weight(self) -> Float[np.ndarray, "unit week"]:
        """Ones in the weeks of the likelihood: not the padding, nor a first week, nor one in the middle."""
        weight = np.ones((self.units, self.weeks))
        weight[:, self.weeks - self.padding :] = 0
        weight[0, 0] = weight[-1, self.weeks // 2] = 0
        return weight


CASES: dict[str, Case] = {
    **{f"{family}_adstock": Case(adstock=family) for family in adstock.PARAMETERS},
    **{f"{family}_saturation": Case(saturation=family) for family in saturation.PARAMETERS},
    **{f"{family}_negative": Case(saturation=family, negative=True) for family in saturation_cases.ODD_BY_REFLECTION},
    "effect": Case(strength_is_mean=False),
    "dense": Case(dense=True),
    "dense_effect": Case(dense=True, strength_is_mean=False, columns=7, units=3, chains=8),
    "hill_delayed": Case(adstock="delayed", saturation="hill"),
    "saturation_first": Case(adstock_first=False),
    "saturation_first_effect": Case(adstock_first=False, saturation="root", strength_is_mean=False, negative=True),
    "saturation_first_hill_delayed": Case(adstock_first=False, adstock="delayed", saturation="hill"),
    "saturation_first_straight": Case(adstock_first=False, adstock="weibull_cdf", saturation="none"),
    "one_lane": Case(units=1, chains=1, absent=False),
    "window_beyond_series": Case(weeks=16, padding=4, window=20, columns=2),
    "units_across_vectors": Case(units=5, chains=5),
    "unit_of_many_chains": Case(units=2, chains=20),
    "logistic_156x8x128": Case(units=16, chains=8, weeks=160, padding=4, channels=8, columns=8, window=9, large=True),
    "dense_156x8x128": Case(
        dense=True, units=16, chains=8, weeks=160, padding=4, channels=8, columns=8, window=9, large=True
    ),
    "hill_156x8x128": Case(
        saturation="hill", units=16, chains=8, weeks=160, padding=4, channels=8, columns=8, window=9, large=True
    ),
    "saturation_first_156x8x128": Case(
        adstock_first=False, units=16, chains=8, weeks=160, padding=4, channels=8, columns=8, window=9, large=True
    ),
}
"""Name -> case; the large ones are the fleet's own shape, weeks x channels x lanes."""
