"""The likelihood in jax with noise that is autoregressive of order one, the linear block integrated out.

The noise of two weeks that lie d apart has correlation rho^d, and so each fitted week, whitened, is

    x_t = (e_t - phi_t e_before) / sqrt(1 - phi_t^2),   phi_t = rho^(weeks since the fitted week before)

with phi 0 in the first one: weeks without an outcome need no more than their count. With W the matrix of these two
taps, s the noise's standard deviation, `Z S^(1/2) = U D V'` and the residual r,

    M = s2 I + D U'W'W U D,   a = M^-1 D U'W'W r,   x = W (r - U D a)
    -2 log L = |x|^2 / s2 + |a|^2 + log det M + (T - p) log s2 + sum_t log(1 - phi_t^2) + T log 2 pi

U'W'W U is a sum of three matrices for each distance between fitted weeks, which are data. The residual is formed at the
coefficients' mean before it is squared, as in the likelihood of independent noise.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixfleet_kernels import native_library
from mixfleet_kernels.dtypes import library_of
from mixfleet_kernels.likelihood import dense, native
from mixfleet_kernels.likelihood.arrays import Autocorrelation, Gaps, Likelihood, Response, Series
from mixfleet_kernels.likelihood.xla import at_strength, expand, project, sum_weeks
from mixfleet_kernels.reductions import sum_rows

__all__ = ["NEIGHBOURS", "Last", "coefficients", "evaluate", "gaps_of", "of_last"]

NEIGHBOURS = 2
"""Distances of a series without a hole, and of no other: none before its first week, then one."""


def gaps_of(fitted: np.ndarray, basis: Float[np.ndarray, "week column"]) -> dict[str, np.ndarray]:
    """The fields of `Gaps`, of one unit and without its axis.

    Args:
        fitted: Which weeks are fitted.
        basis: Of the linear block; zero in other weeks.
    """
    places, weeks = np.flatnonzero(fitted), len(fitted)
    distance = np.diff(places, prepend=places[:1])
    kinds = np.unique(distance[1:])
    count = max(NEIGHBOURS, 1 + len(kinds))
    length, spans = np.zeros(count), np.zeros((weeks, count))
    length[1 : 1 + len(kinds)] = kinds
    spans[places, np.where(distance > 0, 1 + np.searchsorted(kinds, distance), 0)] = 1.0
    before, after = np.arange(weeks), np.arange(weeks)
    before[places[1:]], after[places[:-1]] = places[:-1], places[1:]
    earlier = basis[before] * (spans[:, 1:].sum(axis=1) > 0)[:, None]
    own = np.einsum("tk,ti,tj->kij", spans, basis, basis)
    cross = np.einsum("tk,ti,tj->kij", spans, basis, earlier)
    past = np.einsum("tk,ti,tj->kij", spans, earlier, earlier)
    gram = np.stack([own, cross + cross.transpose(0, 2, 1), past])
    return {"length": length, "spans": spans, "before": before * 1.0, "after": after * 1.0, "gram": gram}


def evaluate(
    series: Series,
    autocorrelation: Autocorrelation,
    response: Response,
    strength: Float[Array, "channel lane"],
    log_noise: Float[Array, " lane"],
    *,
    strength_is_mean: bool,
) -> tuple[Likelihood, Float[Array, "column lane"], Float[Array, "column lane"]]:
    """Log-likelihood of every lane with its gradient.

    Args:
        series: The data.
        autocorrelation: Of the noise.
        response: The channels' responses.
        strength: Effect of each channel, or its mean contribution over the weeks of the likelihood.
        log_noise: Logarithm of the noise's standard deviation.
        strength_is_mean: Whether `strength` is the mean contribution, so that effect = strength / mean response.

    Returns:
        The likelihood, and its gradient by the logs of prior scales, and by what is added to the expected outcome along
        the basis, whatever the variance there.
    """
    gaps, correlation = autocorrelation
    found = at_strength(series, response, strength, strength_is_mean=strength_is_mean)
    weeks, s2 = found.weeks, jnp.exp(2 * log_noise)
    taps = _taps(gaps, correlation)
    chains = len(correlation) // gaps.length.shape[1]
    weeks_apart = _whitening(gaps, taps, chains)
    root = jnp.sqrt(series.variance)
    gram, by_gram = _gram(gaps, taps.parts()), _gram(gaps, taps.slopes())
    product = root * project(series.basis, weeks_apart.back(weeks_apart.whitened(found.residual)))
    mean, inverse, log_determinant = dense.solved(gram, root, s2, product)
    error = found.residual - expand(series.basis, root * mean)
    white = weeks_apart.whitened(error)
    squares = sum_weeks(white * white) / s2
    columns = series.basis.shape[-1]
    spare = weeks[0] - columns
    count = jnp.repeat(sum_weeks(gaps.spans), chains, axis=-1)
    total = squares + sum_rows(mean**2) + log_determinant + spare * 2 * log_noise
    total = total - jnp.sum(count * jnp.log(taps.precision), axis=0) + weeks[0] * math.log(2 * math.pi)
    trace = sum(inverse[i, i] for i in range(columns))

    by_gap = weeks_apart.by_gap(white * white)
    with_before = weeks_apart.by_gap(weeks_apart.scale * white * weeks_apart.earlier(error))
    along = taps.phi * taps.by_correlation * taps.precision
    by_squares = 2 * jnp.sum(along * by_gap - taps.by_correlation * with_before, axis=0) / s2
    by_determinant = sum_rows(sum_rows(inverse * dense.scaled(by_gram, root)))
    by_correlation = -0.5 * (by_squares + by_determinant - 2 * jnp.sum(count * along, axis=0))
    pull = weeks_apart.back(white) / s2[None] * series.weight
    by_log_noise = squares - s2 * trace - spare
    value = found.likelihood(-0.5 * total, pull, by_log_noise, mean)
    spread = s2[None] * jnp.stack([inverse[i, i] for i in range(columns)])
    return value._replace(by_correlation=by_correlation), mean**2 + spread - 1, project(series.basis, pull)


def coefficients(
    gaps: Gaps,
    variance: Float[Array, "column lane"],
    mean: Float[Array, "column lane"],
    noise: Float[Array, " lane"],
    correlation: Float[Array, " lane"],
    white: Float[Array, "column lane"],
) -> Float[Array, "column lane"]:
    """Coefficients along the basis, in prior standard deviations, drawn given all else.

    Args:
        gaps: Of the unit that all lanes are of.
        variance: Prior variances along its basis.
        mean: As `evaluate` gives it.
        noise: Standard deviation of the noise.
        correlation: Of one week's noise with the next one's.
        white: Standard normal numbers.
    """
    library = library_of(mean)
    root = library.sqrt(variance)
    parts = _taps(gaps, correlation).parts()
    if (
        isinstance(mean, np.ndarray)
        and native_library.available()
        and root.shape[1] == 1
        and np.shape(gaps.gram)[-1] == 1
    ):
        # On the host, all lanes of one unit with one prior.
        gram, weight = np.asarray(gaps.gram)[..., 0], np.stack(parts)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return native.coefficients(gram, weight, root[:, 0], mean, np.asarray(noise), np.asarray(white))  # pyright: ignore[reportReturnType]
    return dense.drawn(_gram(gaps, parts), root + library.zeros_like(mean), mean, noise, white)


class Last(NamedTuple):
    """What the weeks say of the block's last coefficients, and of the first ones given these."""

    precision: Float[Array, "last last lane"]
    """The first ones integrated out."""
    total: Float[Array, "last lane"]
    """Precision times mean."""
    mean: Float[Array, "first lane"]
    """Of the first ones where the last are zero, in prior standard deviations."""
    slope: Float[Array, "first last lane"]
    """By how much less it is for each of the last."""


def of_last(
    gaps: Gaps,
    variance: Float[Array, "column lane"],
    mean: Float[Array, "column lane"],
    noise: Float[Array, " lane"],
    correlation: Float[Array, " lane"],
    count: int,
) -> Last:
    """What the weeks alone say of the last coefficients, from the posterior mean of all under some prior.

    M a = D U'W'W r gives back the residual's products with the columns.

    Args:
        gaps: Distances between the fitted weeks, with the units last.
        variance: Prior variances along the basis that the mean is under; of the last ones above zero.
        mean: As `evaluate` gives it.
        noise: Standard deviation of the noise.
        correlation: Of one week's noise with the next one's.
        count: How many are the last.
    """
    first, s2, root = slice(len(mean) - count), noise**2, jnp.sqrt(variance)
    gram = _gram(gaps, _taps(gaps, correlation).parts())
    scaled = dense.scaled(gram, root)
    product = s2[None] * mean + jnp.einsum("ijl,jl->il", scaled, mean, precision="highest")
    own, inverse, _ = dense.solved(gram[first, first], root[first], s2, product[first])
    with_last = root[first][:, None] * gram[first, first.stop :]
    slope = jnp.einsum("ijl,jkl->ikl", inverse, with_last, precision="highest")
    taken = jnp.einsum("ijl,ikl->jkl", with_last, slope, precision="highest")
    total = product[first.stop :] / root[first.stop :] - jnp.einsum("ijl,il->jl", with_last, own, precision="highest")
    return Last((gram[first.stop :, first.stop :] - taken) / s2[None, None], total / s2[None], own, slope)


class _Whitening(NamedTuple):
    """W and its adjoint, week by week."""

    spans: Float[Array, "week gap lane"]
    phi: Float[Array, "week lane"]
    scale: Float[Array, "week lane"]
    """One over the standard deviation of what is new in a week; zero in weeks that are not fitted."""
    places: tuple[Int[Array, "week lane"], Int[Array, "week lane"]] | None
    """Of the fitted weeks before and after; None where they are neighbours."""

    def earlier(self, values: Float[Array, "week lane"]) -> Float[Array, "week lane"]:
        """The values of the fitted weeks before."""
        if self.places is None:
            return jnp.roll(values, 1, axis=0)
        return jnp.take_along_axis(values, self.places[0], axis=0, mode="promise_in_bounds")

    def whitened(self, values: Float[Array, "week lane"]) -> Float[Array, "week lane"]:
        """W times the values."""
        return self.scale * (values - self.phi * self.earlier(values))

    def back(self, values: Float[Array, "week lane"]) -> Float[Array, "week lane"]:
        """W' times the values."""
        own = self.scale * values
        if self.places is None:
            # The first week, whose phi is zero, comes behind the last one.
            return own - jnp.roll(self.phi * own, -1, axis=0)
        after = self.places[1]
        later = jnp.take_along_axis(self.phi * own, after, axis=0, mode="promise_in_bounds")
        return own - jnp.where(after > jnp.arange(len(after))[:, None], later, 0.0)

    def by_gap(self, values: Float[Array, "week lane"]) -> Float[Array, "gap lane"]:
        """Sums over the weeks of each distance."""
        return sum_weeks(self.spans * values[:, None])


def _whitening(gaps: Gaps, taps: "_Taps", chains: int) -> _Whitening:
    spans = jnp.repeat(gaps.spans, chains, axis=-1)
    before, after = (jnp.repeat(places.astype(int), chains, axis=-1) for places in (gaps.before, gaps.after))
    return _Whitening(
        spans=spans,
        phi=jnp.sum(spans * taps.phi[None], axis=1),
        scale=jnp.sum(spans * jnp.sqrt(taps.precision)[None], axis=1),
        places=None if gaps.length.shape[0] == NEIGHBOURS else (before, after),
    )


class _Taps(NamedTuple):
    """By distance: what the week before says of a week, and the inverse of the variance that is left."""

    phi: Float[Array, "gap lane"]
    precision: Float[Array, "gap lane"]
    by_correlation: Float[Array, "gap lane"]
    """Derivative of `phi`."""

    def parts(self) -> tuple[Array, Array, Array]:
        """What the products of weeks with themselves, with the week before, and of that one count for."""
        return self.precision, -self.phi * self.precision, self.phi**2 * self.precision

    def slopes(self) -> tuple[Array, Array, Array]:
        """Derivatives of `parts` by the correlation."""
        phi, precision, by = self
        moved = 2 * phi * by * precision**2
        return moved, -(by * precision + phi * moved), 2 * phi * by * precision + phi**2 * moved


def _taps(gaps: Gaps, correlation: Float[Array, " lane"]) -> _Taps:
    library = library_of(correlation)
    length = library.repeat(gaps.length, len(correlation) // gaps.length.shape[1], axis=-1)
    size, negative = library.abs(correlation)[None], (correlation < 0)[None]

    def power(exponent: Array) -> Array:
        # Two numbers of Python's would be double precision where that is enabled, on a GPU too.
        found = size ** library.maximum(exponent, 0)
        return library.where(negative & (exponent % 2 == 1), -found, found)

    phi = library.where(length > 0, power(length), 0.0)
    return _Taps(phi, 1 / ((1 - phi) * (1 + phi)), library.where(length > 0, length * power(length - 1), 0.0))


def _gram(gaps: Gaps, parts: tuple[Array, Array, Array]) -> Float[Array, "column column lane"]:
    """The basis' products after whitening, or their derivatives."""
    units = gaps.length.shape[1]
    total = 0.0
    for table, weight in zip(gaps.gram, parts, strict=True):
        for own, by_lane in zip(table, weight, strict=True):
            total = total + own[..., None] * by_lane.reshape(1, 1, units, -1)
    return library_of(gaps.gram).reshape(total, (*gaps.gram.shape[2:4], -1))
