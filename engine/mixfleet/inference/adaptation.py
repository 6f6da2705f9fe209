"""What the warm-up learns of each unit from its own chains: coordinates near a normal's, a metric there, a step size.

References:
    Hoffman and Gelman (2014), The No-U-Turn Sampler, section 3.2 (dual averaging), arXiv:1111.4246.
    Seyboldt, Carlson, Carpenter (2026), Preconditioning Hamiltonian Monte Carlo by minimizing Fisher divergence,
        arXiv:2603.18845.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mixfleet.inference import sinh_arcsinh
from mixfleet.inference.sinh_arcsinh import SinhArcsinh
from mixfleet_kernels.dtypes import library_of

__all__ = [
    "GRADIENTS_SHARE",
    "HARDER_ACCEPT",
    "HARDEST_ACCEPT",
    "STEEPEST",
    "Adaptation",
    "Metric",
    "Stepping",
    "Window",
    "adapt_step",
    "covariance_between",
    "first_adaptation",
    "first_stepping",
    "learn",
    "metric_of",
    "restarted",
    "settle",
    "shrunken_covariance",
]

HARDER_ACCEPT, HARDEST_ACCEPT = 0.95, 0.99
"""Acceptance that is aimed for where the usual one failed or trajectories diverged, and where that failed too."""

FIRST_STEP = 0.3
"""In units of the whitened posterior, where 1 would be a step of one standard deviation."""

ADAPTATION_GAIN, ADAPTATION_DELAY, ADAPTATION_DECAY = 0.05, 10.0, 0.75
"""Dual averaging's gamma, t0 and kappa, as in Hoffman and Gelman (2014)."""

GRADIENTS_SHARE = 0.35
"""How far a metric is from the draws' covariance on the way to what gradients alone tell. 300 simulated units took 12.4
million gradients at 0, 8.3 at 0.35 and 8.6 at 0.5."""

STEEPEST = 1.5
"""A draw's squared gradient counts for so many of the median draw's at most: the few in the neck of a funnel would make
steps of all so small that its mouth is seldom seen."""


class Metric(NamedTuple):
    """What each unit's covariance is taken for, its upper Cholesky factor, and the inverse of the lower one.

    As they stand, the product of each one's transpose and the lanes needs no copy of it.
    """

    covariance: Float[Array, "unit coordinate coordinate"]
    upper: Float[Array, "unit coordinate coordinate"]
    inverse: Float[Array, "unit coordinate coordinate"]

    def inverse_mass_gradient(self, gradient: Float[Array, "coordinate lane"]) -> Float[Array, "coordinate lane"]:
        """Covariance times gradient."""
        return _times(self.covariance, gradient)

    def velocity(self, white: Float[Array, "coordinate lane"]) -> Float[Array, "coordinate lane"]:
        """Velocities whose covariance is the metric's, from standard normal numbers."""
        return _times(self.upper, white)

    def momentum(self, white: Float[Array, "coordinate lane"]) -> Float[Array, "coordinate lane"]:
        """The momenta of those velocities."""
        return _times(self.inverse, white)


class Stepping(NamedTuple):
    """Each unit's step size and the state of its adaptation."""

    log_step: Float[Array, " unit"]
    log_average: Float[Array, " unit"]
    shortfall: Float[Array, " unit"]
    centre: Float[Array, " unit"]
    updates: Float[Array, " unit"]
    adapting: Bool[Array, " unit"]
    target_accept: Float[Array, " unit"]


class Adaptation(NamedTuple):
    """All that moves of a sampler are fitted to, by unit: what a warm-up leaves behind."""

    coordinates: SinhArcsinh
    metric: Metric
    """In those coordinates."""
    stepping: Stepping


def metric_of(covariance: Float[np.ndarray, "unit coordinate coordinate"], dtype: Any) -> Metric:
    """The metric of these covariances, on the host; not finite where one is not positive definite.

    Not in XLA, whose batched factors on CPU wait on threads of the pool that they run on: two tiles can wait for ever.
    """
    lower = np.stack([_factor(own) for own in covariance])
    inverse = np.linalg.inv(lower)
    parts = (covariance, np.swapaxes(lower, 1, 2), inverse)
    return Metric(*(np.ascontiguousarray(part, dtype) for part in parts))  # pyright: ignore[reportArgumentType]


def _factor(covariance: Float[np.ndarray, "coordinate coordinate"]) -> Float[np.ndarray, "coordinate coordinate"]:
    """The lower Cholesky factor; NaN where there is none."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return np.full_like(covariance, np.nan)


def first_adaptation(metric: Metric, target_accept: Float[Array, " unit"]) -> Adaptation:
    """Before any draw: the coordinates as they are, a metric that something else gave, the usual first step."""
    units, coordinates, _ = metric.covariance.shape
    return Adaptation(
        coordinates=sinh_arcsinh.identity(coordinates, units, metric.covariance.dtype),
        metric=metric,
        stepping=first_stepping(units, target_accept),
    )


class Window(NamedTuple):
    """What one unit learns from."""

    draws: Float[np.ndarray, "draw coordinate chain"]
    """In the model's own coordinates."""
    gradients: Float[np.ndarray, "draw coordinate chain"]
    """Of the log density in these coordinates, at each draw."""
    coordinates: SinhArcsinh
    """That made the draws; each part [coordinate]."""
    covariance: Float[np.ndarray, "coordinate coordinate"]
    """In those coordinates, of the metric that made them."""
    mapped: bool
    """Coordinates are fitted to the draws; else they stay as they are."""


def learn(windows: Sequence[Window]) -> list[tuple[SinhArcsinh, Metric] | None]:
    """Coordinates and metric of units from a window's draws each, on the host; None where the draws allow none.

    No unit's depend on the others.
    """
    usable = [window.draws.size > 0 and bool(np.all(np.isfinite(window.draws))) for window in windows]
    flat = [_flat(window.draws) for window in windows]
    fitted = [i for i, window in enumerate(windows) if usable[i] and window.mapped]
    maps = dict(zip(fitted, sinh_arcsinh.fit([flat[i] for i in fitted]) if fitted else (), strict=True))
    every = enumerate(windows)
    return [_learnt(window, flat[i], maps.get(i)) if usable[i] else None for i, window in every]


def _learnt(
    window: Window, flat: Float[np.ndarray, "coordinate draw"], fitted: SinhArcsinh | None
) -> tuple[SinhArcsinh, Metric] | None:
    coordinates, covariance, draws = fitted or window.coordinates, window.covariance, flat.shape[1]
    positions, gradients = sinh_arcsinh.pulled(coordinates, flat, _flat(window.gradients))
    if fitted is not None:
        before = sinh_arcsinh.mapped(window.coordinates, flat)
        with np.errstate(divide="ignore", invalid="ignore"):
            stretch = positions.std(axis=1) / before.std(axis=1)
        covariance = covariance * np.outer(stretch, stretch)
    gradients = np.where(np.isfinite(gradients), gradients, 0)
    centred = positions - positions.mean(axis=1, keepdims=True)
    known = np.linalg.inv(covariance)
    covariance = shrunken_covariance(centred @ centred.T, draws, covariance)
    size = np.sum(gradients * (covariance @ gradients), axis=0)
    weight = np.minimum(1, STEEPEST * np.median(size) / np.maximum(size, np.finfo(float).tiny))
    curvature = shrunken_covariance((weight * gradients) @ gradients.T, draws, known)
    between, _ = covariance_between(covariance[None], curvature[None], GRADIENTS_SHARE)
    metric = Metric(*(part[0] for part in metric_of(between, float)))
    return (coordinates, metric) if np.all(np.isfinite(metric.inverse)) else None


def _flat(draws: Float[np.ndarray, "draw coordinate chain"]) -> Float[np.ndarray, "coordinate number"]:
    """All chains' draws side by side, in double precision."""
    return np.ascontiguousarray(np.moveaxis(draws, 1, 0), float).reshape(draws.shape[1], -1)


def shrunken_covariance(scatter: Any, draws: Any, known: Any) -> Any:
    """Covariance of a window's draws, shrunk towards the metric that made them.

    As if that were known from as many draws as there are coordinates.

    Args:
        scatter: Sum of the outer products of centred draws [*unit, coordinate, coordinate].
        draws: How many they are.
        known: Covariance of the metric before [*unit, coordinate, coordinate].
    """
    coordinates = float(known.shape[-1])
    return (scatter + coordinates * known) / (draws + coordinates)


def covariance_between(
    covariance: Float[np.ndarray, "unit coordinate coordinate"],
    curvature: Float[np.ndarray, "unit coordinate coordinate"],
    share: float,
) -> tuple[Float[np.ndarray, "unit coordinate coordinate"], Float[np.ndarray, " unit"]]:
    """A covariance between that of draws and the inverse of their mean curvature; NaN where there is none.

    Half way it is the one of least Fisher divergence. Where a density is a narrow ridge that lies now here, now there,
    the draws alone do not tell how narrow, and few draws tell little of a covariance.

    Args:
        covariance: Of the draws.
        curvature: Mean outer product of the log density's gradients at the draws.
        share: How far from the former to the latter.

    Returns:
        It, and the greatest curvature in coordinates in which the draws' covariance is one.
    """
    lower = np.stack([_factor(own) for own in covariance])
    inner = np.swapaxes(lower, 1, 2) @ curvature @ lower
    known = np.isfinite(inner).all(axis=(1, 2), keepdims=True)
    values, vectors = np.linalg.eigh(np.where(known, inner, np.eye(inner.shape[1])))
    half = lower @ (vectors * np.maximum(values, np.finfo(float).tiny)[:, None] ** (-0.5 * share))
    return half @ np.swapaxes(half, 1, 2), values[:, -1]


def first_stepping(units: int, target_accept: Float[Array, " unit"]) -> Stepping:
    """Step sizes before any trajectory."""
    library = library_of(target_accept)
    log_step = library.full(units, math.log(FIRST_STEP), target_accept.dtype)
    return restarted(log_step, library.ones(units, bool), target_accept)


def restarted(
    log_step: Float[Array, " unit"], adapting: Bool[Array, " unit"], target_accept: Float[Array, " unit"]
) -> Stepping:
    """Adaptation from the beginning, around these step sizes."""
    nothing = library_of(log_step).zeros_like(log_step)
    return Stepping(
        log_step=log_step,
        log_average=log_step,
        shortfall=nothing,
        centre=log_step + log_step.dtype.type(math.log(2.0)),
        updates=nothing,
        adapting=adapting,
        target_accept=target_accept,
    )


def adapt_step(stepping: Stepping, done: Bool[Array, " unit"], accept: Float[Array, " unit"]) -> Stepping:
    """The stepping after one more trajectory, in the units whose trajectory is `done` and whose step is adapting."""
    updates = stepping.updates + 1
    weight = 1 / (updates + ADAPTATION_DELAY)
    shortfall = (1 - weight) * stepping.shortfall + weight * (stepping.target_accept - accept)
    log_step = stepping.centre - jnp.sqrt(updates) / ADAPTATION_GAIN * shortfall
    forget = updates**-ADAPTATION_DECAY
    log_average = forget * log_step + (1 - forget) * stepping.log_average
    adapted = stepping._replace(log_step=log_step, log_average=log_average, shortfall=shortfall, updates=updates)
    which = done & stepping.adapting
    return jax.tree.map(lambda new, old: jnp.where(which, new, old), adapted, stepping)


def settle(stepping: Stepping, which: Bool[Array, " unit"]) -> Stepping:
    """The stepping with adaptation over in the units of `which`: the averaged step size holds from now on."""
    return stepping._replace(
        log_step=library_of(stepping.log_step).where(which, stepping.log_average, stepping.log_step),
        adapting=stepping.adapting & ~which,
    )


def _times(matrices: Float[Array, "unit row column"], lanes: Float[Array, "row lane"]) -> Float[Array, "column lane"]:
    """Each unit's transposed matrix times its lanes; of several matrices a lane, each that of every so many-th row."""
    by_unit = lanes.reshape(matrices.shape[1], len(matrices), -1)
    return jnp.einsum("uji,juk->iuk", matrices, by_unit, precision="highest").reshape(lanes.shape)
