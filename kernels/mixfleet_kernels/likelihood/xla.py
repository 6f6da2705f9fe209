"""The likelihood in jax: elementwise passes that XLA fuses, and three small matrix products per lane."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet_kernels import adstock, saturation
from mixfleet_kernels.likelihood.arrays import Likelihood, Response, Series

SLICES = 16
"""Sums over weeks are this many slices added to each other: XLA on CPU runs its own reduction over a leading axis
one number at a time, slices as vectors. Padded weeks are a multiple of it."""

LEAST_MEAN_RESPONSE = 1e-30
"""Keeps the logarithm of a mean response finite where a steep saturation underflows."""


def respond(
    media: Float[Array, "week channel lane"],
    *,
    weights: Float[Array, "window channel lane"],
    tangents: tuple[Float[Array, "window channel lane"], ...],
    family: str | tuple[str, ...],
    parameters: tuple[Float[Array, "channel lane"], ...],
    adstock_first: bool | tuple[bool, ...] = True,
) -> Response:
    """Adstock and saturation of the media, with derivatives.

    Args:
        media: Scaled media.
        weights: Adstock window per channel.
        tangents: Its derivative with respect to each adstock parameter.
        family: Saturation family, a key of `saturation.PARAMETERS`, of all channels or of each.
        parameters: The first, second, ... parameter of each channel's family; anything where it has fewer.
        adstock_first: Whether carry-over comes before saturation, for all channels or for each.
    """
    forms = by_channel(media.shape[1], family, adstock_first)
    if len(set(forms)) > 1:
        return _mixed(media, weights, tangents, parameters, forms)
    family, adstock_first = forms[0]
    if adstock_first:
        carried = adstock.convolve(media, weights)
        value, slope, partials = saturation.value_and_partials(family, carried, parameters)
        by_adstock = tuple(slope * adstock.convolve(media, tangent) for tangent in tangents)
        return Response(value, by_adstock + partials)
    saturated, _, partials = saturation.value_and_partials(family, media, parameters)
    return Response(
        adstock.convolve(saturated, weights),
        tuple(adstock.convolve(saturated, tangent) for tangent in tangents)
        + tuple(adstock.convolve(partial, weights) for partial in partials),
    )


def by_channel(
    channels: int, family: str | tuple[str, ...], adstock_first: bool | tuple[bool, ...]
) -> list[tuple[str, bool]]:
    """Saturation family and order of each channel."""
    families = (family,) * channels if isinstance(family, str) else family
    orders = (adstock_first,) * channels if isinstance(adstock_first, bool) else adstock_first
    return list(zip(families, orders, strict=True))


def _mixed(
    media: Float[Array, "week channel lane"],
    weights: Float[Array, "window channel lane"],
    tangents: tuple[Float[Array, "window channel lane"], ...],
    parameters: tuple[Float[Array, "channel lane"], ...],
    forms: list[tuple[str, bool]],
) -> Response:
    """`respond` form by form; a partial by a parameter that a channel has not is zero."""
    parts, order = [], []
    for family, first in dict.fromkeys(forms):
        places = np.flatnonzero([form == (family, first) for form in forms])
        order.extend(places)
        count = len(saturation.PARAMETERS[family])
        own = respond(
            media[:, places],
            weights=weights[:, places],
            tangents=tuple(tangent[:, places] for tangent in tangents),
            family=family,
            parameters=tuple(parameter[places] for parameter in parameters[:count]),
            adstock_first=first,
        )
        nothing = [jnp.zeros_like(own.value)] * (len(parameters) - count)
        parts.append(Response(own.value, (*own.partials, *nothing)))
    back = np.argsort(order)
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis=1)[:, back], *parts)


def evaluate(
    series: Series,
    response: Response,
    strength: Float[Array, "channel lane"],
    log_noise: Float[Array, " lane"],
    *,
    strength_is_mean: bool,
) -> Likelihood:
    """Log-likelihood of every lane, its gradient, and what the linear coefficients need.

    Args:
        series: The data.
        response: The channels' responses, from `respond`.
        strength: Effect of each channel, or its mean contribution over the weeks of the likelihood.
        log_noise: Logarithm of the noise's standard deviation.
        strength_is_mean: Whether `strength` is the mean contribution, so that effect = strength / mean response.
    """
    found = at_strength(series, response, strength, strength_is_mean=strength_is_mean)
    weeks, residual = found.weeks, found.residual
    projection = project(series.basis, residual)
    outside = residual - expand(series.basis, projection)

    s2 = jnp.exp(2 * log_noise)[None]
    inside = _shrink(series.variance, s2, projection)
    outside_squares = sum_weeks(outside * outside) / s2[0]
    spare = weeks[0] - series.basis.shape[-1]
    total = inside.value + outside_squares + spare * 2 * log_noise + weeks[0] * math.log(2 * math.pi)
    by_log_noise = s2[0] * inside.by_variance + outside_squares - spare
    # The derivative with respect to the media's total, week by week.
    pull = (outside / s2 + expand(series.basis, inside.shrunk)) * series.weight
    return found.likelihood(-0.5 * total, pull, by_log_noise, projection)


class AtStrength(NamedTuple):
    """What media of some strength leave of the KPI, and the way back from its derivative."""

    response: Response
    share: Float[Array, "week 1 lane"]
    """Of each week in the means over the weeks of the likelihood."""
    weeks: Float[Array, "1 lane"]
    effect: Float[Array, "channel lane"]
    mean: Float[Array, "channel lane"]
    residual: Float[Array, "week lane"]

    def likelihood(
        self,
        value: Float[Array, " lane"],
        pull: Float[Array, "week lane"],
        by_log_noise: Float[Array, " lane"],
        projection: Float[Array, "column lane"],
    ) -> Likelihood:
        """The likelihood of this value and this derivative by the media's total of each week."""
        weighted = pull[:, None] * self.effect[None]
        return Likelihood(
            value=value,
            by_shape=tuple(sum_weeks(weighted * partial) for partial in self.response.partials),
            by_effect=sum_weeks(pull[:, None] * self.response.value),
            by_log_noise=by_log_noise,
            effect=self.effect,
            mean_response=self.mean,
            mean_by_shape=tuple(sum_weeks(self.share * partial) for partial in self.response.partials),
            projection=projection,
        )


def at_strength(
    series: Series, response: Response, strength: Float[Array, "channel lane"], *, strength_is_mean: bool
) -> AtStrength:
    """The residual of media of this strength: effect of each channel, or its mean contribution."""
    shape = response.value
    channels, weeks = shape.shape[1], sum_weeks(series.weight)[None]
    share = series.weight[:, None] / weeks[:, None]
    absent = 1 - series.active
    mean = jnp.maximum(sum_weeks(shape * share), LEAST_MEAN_RESPONSE) * series.active + absent
    effect = strength / mean if strength_is_mean else strength

    media = effect[:1] * shape[:, 0]
    for c in range(1, channels):
        media = media + effect[c : c + 1] * shape[:, c]
    residual = (series.kpi - media) * series.weight
    return AtStrength(response, share, weeks, effect, mean, residual)


class _Inside(NamedTuple):
    """What value and noise's gradient owe the basis, and the projection over its covariance."""

    value: Float[Array, " lane"]
    by_variance: Float[Array, " lane"]
    shrunk: Float[Array, "column lane"]


def _shrink(variance: Array, s2: Float[Array, "1 lane"], projection: Float[Array, "column lane"]) -> _Inside:
    if variance.ndim == projection.ndim:
        total = s2 + variance
        shrunk = projection / total
        value = jnp.sum(projection * shrunk + jnp.log(total), axis=0)
        return _Inside(value, jnp.sum(shrunk**2 - 1 / total, axis=0), shrunk)
    # Unit lower factor, pivots and transposed factor of the covariance, lane by lane; columns are few.
    factor: list[list[Array]] = []
    inverse: list[list[Array]] = []
    pivots: list[Array] = []
    for i in range(len(projection)):
        rest: list[Array] = []
        for j in range(i):
            rest.append(variance[i, j] - sum(rest[k] * factor[j][k] for k in range(j)))
        factor.append([left / pivots[j] for j, left in enumerate(rest)])
        pivots.append(s2[0] + variance[i, i] - sum(rest[j] * factor[i][j] for j in range(i)))
        inverse.append([-factor[i][j] - sum(factor[i][k] * inverse[k][j] for k in range(j + 1, i)) for j in range(i)])
    along = [projection[i] + sum(inverse[i][j] * projection[j] for j in range(i)) for i in range(len(projection))]
    solved = [value / pivot for value, pivot in zip(along, pivots, strict=True)]
    shrunk = [
        value + sum(inverse[i][j] * solved[i] for i in range(j + 1, len(solved))) for j, value in enumerate(solved)
    ]
    trace = jnp.stack(
        [(1 + sum(entry**2 for entry in row)) / pivot for row, pivot in zip(inverse, pivots, strict=True)]
    )
    value = jnp.stack([a * b + jnp.log(pivot) for a, b, pivot in zip(along, solved, pivots, strict=True)])
    by_variance = jnp.stack(shrunk) ** 2 - trace
    return _Inside(jnp.sum(value, axis=0), jnp.sum(by_variance, axis=0), jnp.stack(shrunk))


def sum_weeks(values: Float[Array, "week *rest"]) -> Float[Array, "*rest"]:
    """The sum over a padded length of weeks."""
    weeks = values.shape[0]
    step = weeks // SLICES
    if weeks % SLICES:
        raise ValueError(f"padded weeks must be a multiple of {SLICES}, got {weeks}")
    total = values[:step]
    for i in range(1, SLICES):
        total = total + values[i * step : (i + 1) * step]
    while total.shape[0] > 1:
        half = total.shape[0] // 2
        rest = total[2 * half :]
        total = total[:half] + total[half : 2 * half]
        if rest.shape[0]:
            total = total.at[0].add(rest[0])
    return total[0]


def project(basis: Float[Array, "unit week column"], values: Float[Array, "week lane"]) -> Float[Array, "column lane"]:
    """Weeks of every lane onto its unit's basis."""
    units, weeks, columns = basis.shape
    lanes = values.reshape(weeks, units, -1)
    return jnp.einsum("utp,tuk->puk", basis, lanes, precision="highest").reshape(columns, -1)


def expand(basis: Float[Array, "unit week column"], values: Float[Array, "column lane"]) -> Float[Array, "week lane"]:
    """Weeks that coefficients along the basis make."""
    units, weeks, columns = basis.shape
    lanes = values.reshape(columns, units, -1)
    return jnp.einsum("utp,puk->tuk", basis, lanes, precision="highest").reshape(weeks, -1)
