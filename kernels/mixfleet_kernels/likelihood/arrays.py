"""The values that cross the likelihood kernel: plain arrays, the lanes last.

A lane is one chain of one unit; the lanes of a unit stand together, so `lane = unit * chains + chain`.
"""

from typing import NamedTuple

from jaxtyping import Array, Float


class Series(NamedTuple):
    """What a tile of units was given: constant while it samples."""

    media: Float[Array, "week channel lane"]
    """Scaled media; zero in padded weeks and absent channels."""
    kpi: Float[Array, "week lane"]
    """Scaled KPI less the prior mean of the linear block; zero outside the likelihood."""
    weight: Float[Array, "week lane"]
    """1.0 in weeks that enter the likelihood, 0.0 in all others. In a unit without any, one number that is next to
    nothing in the weeks that means are over."""
    basis: Float[Array, "unit week column"]
    """Left singular vectors U of the linear block, or others that span it; zero rows outside the likelihood, zero
    columns as padding."""
    variance: Float[Array, "*column lane"]
    """Prior variance of the linear block along each column of the basis; zero for padding. With one axis more its
    covariance there, for a basis that is orthonormal but does not make it diagonal."""
    active: Float[Array, "channel lane"]
    """1.0 for channels whose media reach the likelihood, 0.0 for absent ones."""
    asked: Float[Array, " lane"] | None = None
    """1.0 for lanes whose likelihood is wanted: of the others anything may be told, which saves a native pass its time
    where none of a vector's lanes is. All where there is none."""


class Gaps(NamedTuple):
    """How far apart a unit's fitted weeks lie, where the noise of neighbours is correlated."""

    length: Float[Array, "gap unit"]
    """The distances that there are, in weeks; 0 for a week with none before it, and for padding."""
    spans: Float[Array, "week gap unit"]
    """1.0 in fitted weeks whose fitted week before is so far away."""
    before: Float[Array, "week unit"]
    """Place of the fitted week before; of a week that has none, its own."""
    after: Float[Array, "week unit"]
    """Place of the fitted week that follows; of a week that has none, its own."""
    gram: Float[Array, "3 gap column column unit"]
    """Products of the basis, summed over the weeks of each distance: of weeks with themselves, of weeks with the week
    before and the other way round, of weeks before with themselves."""


class Autocorrelation(NamedTuple):
    """Of noise that is autoregressive of order one."""

    gaps: Gaps
    correlation: Float[Array, " lane"]
    """Of one week's noise with the next one's, between -1 and 1."""


class Response(NamedTuple):
    """How one channel's media turns into a shape between zero and one, with its derivatives."""

    value: Float[Array, "week channel lane"]
    partials: tuple[Float[Array, "week channel lane"], ...]
    """By adstock parameter, then by saturation parameter."""


class Likelihood(NamedTuple):
    """Log-likelihood and gradient of every lane."""

    value: Float[Array, " lane"]
    by_shape: tuple[Float[Array, "channel lane"], ...]
    """With respect to adstock, then saturation parameters, at constant effect."""
    by_effect: Float[Array, "channel lane"]
    by_log_noise: Float[Array, " lane"]
    effect: Float[Array, "channel lane"]
    """Coefficient of each channel's response."""
    mean_response: Float[Array, "channel lane"]
    """Response averaged over the weeks of the likelihood; 1.0 for absent channels."""
    mean_by_shape: tuple[Float[Array, "channel lane"], ...]
    """Gradient of `mean_response`, in the order of `by_shape`."""
    projection: Float[Array, "column lane"]
    """U'r: with the noise, all that the law of the linear coefficients depends on. Where the noise is autocorrelated,
    the mean of the coefficients along the basis in prior standard deviations."""
    by_correlation: Float[Array, " lane"] | None = None
    """Where the noise is autocorrelated."""
