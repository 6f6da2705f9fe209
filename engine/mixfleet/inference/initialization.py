"""Where chains start: modes found by several optimisations at once, and the Laplace approximation at the best one.

All but the density is the host's: it is little, and would be a dozen programs to compile.

References:
    Kingma and Ba (2015), Adam: a method for stochastic optimization, arXiv:1412.6980.
"""

from typing import Any

import numpy as np
from jaxtyping import Array, Float, UInt32

from mixfleet.inference.adaptation import Metric, metric_of
from mixfleet.inference.hmc import LogDensity
from mixfleet.inference.random_numbers import white_numbers
from mixfleet_kernels.hmc import Adam

__all__ = ["HOPELESS", "SHARES", "adam", "laplace", "lowest_start", "optimise", "scatter", "scattered", "starts"]

OPTIMISER_STEPS = 160
GREATEST_RATE, LEAST_RATE = 0.2, 0.01
"""Learning rate of Adam, from its first step to its last, in units of log and logit coordinates."""

MEAN_DECAY, SQUARE_DECAY, SMALLEST = 0.9, 0.999, 1e-8
"""Adam's beta 1, beta 2 and epsilon."""

NUDGE = 0.02
"""Half the distance over which gradients are differenced into a Hessian."""

LEAST_CURVATURE = 0.25
"""A coordinate's standard deviation is not believed beyond 2: logs and logits of every default prior stay below."""

ROUNDING = (0.0, 0.25, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
"""What may be added to all curvatures of a unit whose mode is a saddle or a ridge; the warm-up learns the rest."""

JITTERING, SCATTERING = 2**32 - 1, 2**32 - 2
"""Numbers that no trajectory reaches, for the random draws made before the first."""

SHARES = (1.0, 0.5, 0.25, 0.1, 0.0)
"""How much of a Laplace draw's distance from its mode is tried, from the whole to none."""

HOPELESS = 12.0
"""A mode this far below the unit's best, in log density, holds a share of the posterior that no chain should start
with; its chain starts at the best mode instead."""

Lanes = Float[np.ndarray, "coordinate lane"]


def adam() -> Adam:
    """How the optimiser goes."""
    rate = GREATEST_RATE * (LEAST_RATE / GREATEST_RATE) ** (np.arange(OPTIMISER_STEPS) / OPTIMISER_STEPS)
    return Adam(rate, MEAN_DECAY, SQUARE_DECAY, SMALLEST)


def starts(centre: Float[Array | np.ndarray, "coordinate unit"], chains: int, key: Any) -> Lanes:
    """Where each of a unit's chains is optimised from: somewhere around the centre."""
    position = np.repeat(np.asarray(centre), chains, axis=1)
    return position + 0.5 * _white_numbers(key, JITTERING, position).reshape(position.shape)


def optimise(
    log_density: LogDensity, centre: Float[Array | np.ndarray, "coordinate unit"], chains: int, key: Any
) -> tuple[Lanes, Float[np.ndarray, " lane"]]:
    """The highest point that Adam reaches from each chain's start, and the log density there.

    `mixfleet_kernels.hmc.climb` does the same of a density that is native.

    Args:
        log_density: Of every lane, compiled.
        centre: Where to start.
        chains: Lanes per unit.
        key: uint32[unit, 2].
    """
    position, how = starts(centre, chains, key), adam()
    best, top = position, np.full(position.shape[1], -np.inf, position.dtype)
    mean, square = np.zeros_like(position), np.zeros_like(position)
    with np.errstate(all="ignore"):
        for step, rate in enumerate(how.rate.tolist(), 1):
            value, gradient = (np.asarray(part) for part in log_density(position)[:2])
            higher = value > top
            best, top = np.where(higher, position, best), np.where(higher, value, top)
            # A start outside the density's reach stays where it is; its chain will be sent to the best mode.
            gradient = np.where(np.isfinite(gradient), gradient, 0)
            mean = how.mean_decay * mean + (1 - how.mean_decay) * gradient
            square = how.square_decay * square + (1 - how.square_decay) * gradient**2
            unbiased, spread = mean / (1 - how.mean_decay**step), square / (1 - how.square_decay**step)
            position = position + rate * unbiased / (np.sqrt(spread) + how.smallest)
    return best, top


def laplace(
    log_density: LogDensity, modes: Lanes, values: Float[np.ndarray, " lane"], units: int
) -> tuple[Lanes, Float[np.ndarray, " lane"], Metric]:
    """Modes with the hopeless ones replaced by the unit's best, their log densities, and the metric at the best.

    The Hessian is differenced from gradients, two per coordinate, spread over the unit's chains.
    """
    coordinates, lanes = modes.shape
    by_unit, heights = modes.reshape(coordinates, units, -1), values.reshape(units, -1)
    top = heights.max(axis=1, keepdims=True)
    best = by_unit[:, np.arange(units), heights.argmax(axis=1)]
    with np.errstate(invalid="ignore"):
        keep = heights > top - HOPELESS
    starts = np.where(keep, by_unit, best[..., None]).reshape(modes.shape)
    firsts = range(0, 2 * coordinates, lanes // units)
    moved = [np.asarray(log_density(_nudge(best, first, lanes // units))[1]) for first in firsts]
    by_move = np.concatenate([part.reshape(coordinates, units, -1) for part in moved], axis=2)
    forth, back = by_move[..., 0 : 2 * coordinates : 2], by_move[..., 1 : 2 * coordinates : 2]
    with np.errstate(invalid="ignore", over="ignore"):
        curvature = -np.moveaxis(forth - back, 1, 0).astype(float) / (2 * NUDGE)
        curvature = 0.5 * (curvature + np.swapaxes(curvature, 1, 2))
    covariance = np.stack([_covariance(own) for own in curvature])
    return starts, np.where(keep, heights, top).reshape(lanes), metric_of(covariance, modes.dtype)


def _nudge(best: Float[np.ndarray, "coordinate unit"], first: int, chains: int) -> Lanes:
    """The mode moved along one coordinate in each chain, forth and back, from the `first` such move on."""
    moved = np.repeat(best[..., None], chains, axis=2)
    for chain, move in enumerate(range(first, first + chains)):
        if move // 2 < len(best):
            moved[move // 2, :, chain] += NUDGE if move % 2 == 0 else -NUDGE
    return moved.reshape(len(best), -1)


def _covariance(curvature: Float[np.ndarray, "coordinate coordinate"]) -> Float[np.ndarray, "coordinate coordinate"]:
    """Inverse of the curvature, made as round as it takes for its least eigenvalue to reach the floor.

    Where none of it is usable, that of a standard normal: the warm-up then learns the metric from the draws.
    """
    one = np.eye(len(curvature))
    if not np.all(np.isfinite(curvature)):
        return one
    least = np.linalg.eigvalsh(curvature)[0] if len(curvature) else LEAST_CURVATURE
    more = next((more for more in ROUNDING if least + more > LEAST_CURVATURE), None)
    return one if more is None else np.linalg.inv(curvature + more * one)


def scatter(
    log_density: LogDensity, modes: Lanes, values: Float[np.ndarray, " lane"], metric: Metric, key: Any
) -> tuple[Lanes, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A draw of the Laplace approximation around each chain's mode, and what the density says of it.

    It is pulled in towards the mode where the posterior falls off faster. A chain that starts far out on a steep side
    would be stuck there: the step size that suits the bulk is unstable where the density drops by hundreds.
    """
    coordinates, spread = len(modes), scattered(metric, key, modes)
    lowest = lowest_start(values, coordinates)
    position, evaluation = modes, None
    for share in SHARES:
        tried = (modes + share * spread).astype(modes.dtype)
        found = tuple(np.asarray(part) for part in log_density(tried))
        if evaluation is None:
            position, evaluation = tried, found
        else:
            far = ~(evaluation[0] > lowest)
            position = np.where(far, tried, position)
            evaluation = tuple(np.where(far, new, old) for new, old in zip(found, evaluation, strict=True))
        if np.all(evaluation[0] > lowest):
            break
    assert evaluation is not None
    return position, evaluation  # pyright: ignore[reportReturnType]


def lowest_start(highest: Any, coordinates: int) -> Any:
    """The least log density at which a chain should begin, given that of its mode.

    Of a Gaussian's own draws, one in a million lies further below.
    """
    return highest - 0.5 * (coordinates + 5 * (2 * coordinates) ** 0.5)


def scattered(metric: Metric, key: Any, like: Lanes) -> Lanes:
    """Normal numbers with the metric's covariance, of the shape and type of `like`."""
    numbers = _white_numbers(key, SCATTERING, like)
    return np.einsum("uji,juk->iuk", np.asarray(metric.upper), numbers).reshape(like.shape)


def _white_numbers(key: UInt32[Array | np.ndarray, "unit 2"], number: int, like: Lanes) -> np.ndarray:
    """Standard normal numbers [coordinate, unit, chain] of the type of `like`, drawn before the first trajectory."""
    coordinates, lanes = like.shape
    return white_numbers(key, number, coordinates, lanes // len(key), like.dtype.name)
