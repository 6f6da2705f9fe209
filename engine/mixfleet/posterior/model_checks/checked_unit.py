"""What the checks look at: one unit's residuals and media by week, and its density with the baseline integrated out.

Checks of residuals rest on an identity: given a draw of the posterior, the standardised residuals of data that come
from the model are independent standard normal, as they are given the truth, for draw and truth are exchangeable given
the data (Johnson 2007; Yuan and Johnson 2012). No estimate of degrees of freedom, and nothing of the prior, the curves
or the sampler, enters the law of a statistic of them.

References:
    Johnson (2007), Bayesian model assessment using pivotal quantities, doi:10.1214/07-BA229.
    Yuan, Johnson (2012), Goodness-of-fit diagnostics for Bayesian hierarchical models,
    doi:10.1111/j.1541-0420.2011.01668.x.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Shaped

from mixfleet.models import observation
from mixfleet.posterior.model_checks.experiments import ToldTest

__all__ = ["CheckedUnit", "Lasting", "Marginal", "settled", "whitened"]

LEAST_LEFT = 0.1
"""Share of a statistic's variance that the posterior must leave, for the statistic to say anything."""


@dataclass(frozen=True, kw_only=True)
class Lasting:
    """The residual and the baseline as they are, and the noise's correlation in each draw."""

    fitted: Bool[np.ndarray, " week"]
    residual: Float[np.ndarray, "week draw"]
    basis: Float[np.ndarray, "week column"]
    variance: Float[np.ndarray, " column"]
    correlation: Float[np.ndarray, " draw"]


@dataclass(frozen=True, kw_only=True)
class Marginal:
    """The unit's normal density with the coefficients of its baseline integrated out, as its fit has it."""

    residual: Float[np.ndarray, "week draw"]
    """KPI less media and the baseline's prior mean, in shares of the KPI's scale; zero where not fitted."""
    basis: Float[np.ndarray, "week column"]
    """Orthonormal over the fitted weeks, and zero elsewhere."""
    variance: Float[np.ndarray, " column"]
    """Prior variance along the basis."""
    noise: Float[np.ndarray, " draw"]
    """In shares of the KPI's scale."""
    lasting: Lasting | None = None
    """What the above are made of where the noise is autocorrelated: weeks are then told less what the week before says
    of them, at the mean of that correlation."""


@dataclass(frozen=True, kw_only=True)
class CheckedUnit:
    """One unit, in the table's own units; weeks are those of its grid, and what was not fitted is zero."""

    dates: Shaped[np.ndarray, " week"]
    fitted: Bool[np.ndarray, " week"]
    """Weeks of the likelihood."""
    kpi: Float[np.ndarray, " week"]
    expected: Float[np.ndarray, "week draw"]
    residual: Float[np.ndarray, "week draw"]
    """In standard deviations of the noise of the same draw; independent standard normal under the model. Autocorrelated
    noise is told less what the week before says of it."""
    noise: Float[np.ndarray, " draw"]
    """Standard deviation of the noise, in KPI."""
    kpi_scale: float
    """KPI that is 1 on the model's scale."""
    log_link: bool
    """Whether all that is said to be in KPI is in its logarithm."""
    channels: Sequence[str]
    media: Float[np.ndarray, "week channel"]
    """Weeks that were not fitted too."""
    response: Float[np.ndarray, "week channel"]
    """Posterior mean of what each channel brings, in KPI; of weeks that were not fitted too."""
    contribution: Float[np.ndarray, "channel draw"]
    """KPI over the fitted weeks."""
    prior_contribution: Float[np.ndarray, "channel sample"]
    """The same under the prior."""
    prior_on: str
    """What the prior of a channel's strength is on."""
    season: int
    """Periods of a year."""
    marginal: Marginal | None
    """None where the baseline's coefficients are sampled or pooled."""
    lasting: Lasting | None = None
    """Without `marginal`, where the noise is autocorrelated: the residual of the draw in standard deviations, before
    anything of it is told less what the week before says; of no column."""
    tests: Sequence[ToldTest] = ()
    """Its lift tests, by all draws that were kept."""
    whole: Callable[[], "CheckedUnit"] | None = field(default=None, compare=False, repr=False)
    """Makes the same of all draws that were kept, where these are but some of them: for the few questions that some
    would answer only roughly."""

    @cached_property
    def weeks(self) -> int:
        """Weeks that were fitted."""
        return int(self.fitted.sum())

    @property
    def lasting_noise(self) -> Lasting | None:
        """What is known of the noise where the model lets it last."""
        return self.lasting if self.marginal is None else self.marginal.lasting

    def as_residuals(self, directions: Float[np.ndarray, "week *direction"]) -> Float[np.ndarray, "week *direction"]:
        """Directions of the KPI as the residuals have them: told less what the week before says, where noise lasts."""
        lasting = self.lasting_noise
        if lasting is None:
            return directions
        # One for all draws, as that of `marginal`.
        last = float(lasting.correlation.mean())
        return whitened(directions.reshape(len(directions), -1), self.fitted, last).reshape(directions.shape)

    def in_kpi(self, value: float | np.floating | np.ndarray) -> float:
        """A value of `kpi` or `expected` in the table's units."""
        return float(np.exp(value)) if self.log_link else float(value)

    @cached_property
    def miss(self) -> Float[np.ndarray, " week"]:
        """Each week's residual, in standard deviations that its posterior mean has under the model; zero elsewhere."""
        return np.where(self.fitted, np.nan_to_num(settled(self.residual, 1.0)), 0.0)


def whitened(
    values: Float[np.ndarray, "week column"],
    fitted: Bool[np.ndarray, " week"],
    correlation: Float[np.ndarray, " column"] | float,
) -> Float[np.ndarray, "week column"]:
    """All weeks, of which the fitted ones are less what the fitted week before says of them."""
    places = np.flatnonzero(fitted)
    if len(places) == len(values):
        return observation.whitened(values, correlation, places)
    found = values.copy()
    found[places] = observation.whitened(values[places], correlation, places)
    return found


def settled(values: Float[np.ndarray, "*row draw"], variance: float | np.ndarray) -> Float[np.ndarray, " *row"]:
    """Posterior means of statistics, in standard deviations that such means have under the model.

    Over data and draws together a statistic has the variance that it has given the truth; what of it lies within the
    unit's posterior its mean has not (law of total variance). NaN where the posterior leaves next to nothing: the model
    can fit what the statistic looks for.

    Args:
        values: Statistics by draw, of mean zero given the truth.
        variance: Their variance given the truth.
    """
    left = variance - values.var(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(left >= LEAST_LEFT * variance, values.mean(axis=-1) / np.sqrt(left), np.nan)
