"""The likelihood in jax with prior standard deviations of the linear block's coefficients that are parameters too.

With Z the columns at reference standard deviations, D the diagonal matrix of the coefficients' own over these, s the
standard deviation of the noise, U an orthonormal basis of the columns and r the residual,

    M = s2 I + D Z'Z D,   a = M^-1 D Z'r,   x = r - Z D a
    -2 log L = |x|^2 / s2 + |a|^2 + log det M + (T - p) log s2 + T log 2 pi

and a and s2 M^-1 are the posterior's mean and covariance of the coefficients in prior standard deviations, so that the
derivative by the logarithm of one of these is a_k^2 + s2 (M^-1)_kk - 1: what its square is expected to be, less one.
The residual is formed at the coefficients' mean before it is squared, as in the likelihood of known scales.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from mixfleet_kernels.dtypes import library_of
from mixfleet_kernels.likelihood import dense
from mixfleet_kernels.likelihood.arrays import Likelihood, Response, Series
from mixfleet_kernels.likelihood.xla import at_strength, expand, project, sum_weeks
from mixfleet_kernels.reductions import sum_rows

__all__ = ["Block", "coefficients", "evaluate"]


class Block(NamedTuple):
    """The linear block, and how far its coefficients reach."""

    turned: Float[Array, "along column unit"]
    """U'Z: the columns at reference standard deviations along the basis."""
    gram: Float[Array, "column column unit"]
    """Z'Z."""
    ratio: Float[Array, "column lane"]
    """Standard deviations over those of reference."""

    @property
    def by_lane(self) -> Float[Array, "column column lane"]:
        """Z'Z for each lane."""
        return library_of(self.ratio).repeat(self.gram, self.ratio.shape[1] // self.gram.shape[2], axis=-1)


def evaluate(
    series: Series,
    block: Block,
    response: Response,
    strength: Float[Array, "channel lane"],
    log_noise: Float[Array, " lane"],
    *,
    strength_is_mean: bool,
) -> tuple[Likelihood, Float[Array, "column lane"]]:
    """Log-likelihood of every lane with its gradient, and that by the logarithm of each coefficient's scale.

    Args:
        series: The data; its basis is orthonormal and holds every column.
        block: The columns and the coefficients' scales.
        response: The channels' responses.
        strength: Effect of each channel, or its mean contribution over the weeks of the likelihood.
        log_noise: Logarithm of the noise's standard deviation.
        strength_is_mean: Whether `strength` is the mean contribution, so that effect = strength / mean response.

    Returns:
        In place of the projection the likelihood has the mean of the coefficients, in prior standard deviations.
    """
    found = at_strength(series, response, strength, strength_is_mean=strength_is_mean)
    weeks, s2 = found.weeks[0], jnp.exp(2 * log_noise)
    columns, units = block.gram.shape[1:]

    def turn(equation: str, values: Float[Array, "column lane"]) -> Float[Array, "column lane"]:
        lanes = values.reshape(columns, units, -1)
        return jnp.einsum(equation, block.turned, lanes, precision="highest").reshape(columns, -1)

    product = block.ratio * turn("iju,iuk->juk", project(series.basis, found.residual))
    mean, diagonal, log_determinant = dense.factored(block.by_lane, block.ratio, s2, product)
    error = found.residual - expand(series.basis, turn("iju,juk->iuk", block.ratio * mean))
    squares = sum_weeks(error * error) / s2
    spread = s2[None] * diagonal
    spare = weeks - columns
    total = squares + sum_rows(mean**2) + log_determinant + spare * 2 * log_noise + weeks * math.log(2 * math.pi)
    pull = error / s2[None] * series.weight
    value = found.likelihood(-0.5 * total, pull, squares - sum_rows(spread) - spare, mean)
    return value, mean**2 + spread - 1


def coefficients(
    block: Block,
    mean: Float[Array, "column lane"],
    noise: Float[Array, " lane"],
    white: Float[Array, "column lane"],
) -> Float[Array, "column lane"]:
    """Coefficients in reference standard deviations, drawn given all else.

    Args:
        block: Of the unit that all lanes are of.
        mean: As `evaluate` gives it.
        noise: Standard deviation of the noise.
        white: Standard normal numbers.
    """
    return block.ratio * dense.drawn(block.by_lane, block.ratio, mean, noise, white)
