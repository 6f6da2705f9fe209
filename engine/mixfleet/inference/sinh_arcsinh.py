"""Sinh-arcsinh coordinates: a smooth map per coordinate that takes skewness and heavy or light tails away.

A posterior's coordinate x is location + scale sinh((arcsinh z + skewness) / tail), where z is nearly normal. The map is
one to one and enters the density with its Jacobian, so that a chain in z leaves the same posterior invariant; how
well it fits decides only how fast that chain mixes.

References:
    Jones and Pewsey (2009), Sinh-arcsinh distributions, doi:10.1093/biomet/asp053.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtri

from mixfleet_kernels.reductions import sum_rows

__all__ = ["LogDensity", "Original", "SinhArcsinh", "fit", "identity"]

LogDensity = Callable[[Any], tuple[Array, Array, Any]]
"""Position [coordinate, lane], of numpy or jax, to (value, gradient, extra) of every lane."""

LEVELS = np.array([0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.975, 0.99])
"""Quantiles of the draws that a map is fitted to."""

NORMAL = ndtri(LEVELS)
WEIGHTS = np.exp(-0.125 * NORMAL**2)
"""Of the quantiles' errors, which grow towards the tails."""

PENALTIES = np.array([0.7, 1.4])
"""What a unit of skewness, and of the tail's logarithm, counts for against errors in shares of the draws' range, over
the square root of how many draws there are: the errors of quantiles fall likewise."""

BOUNDS = np.array([2.0, 1.4])
"""Of skewness and the tail's logarithm: draws that ask for more are those of a chain that has not arrived."""

ITERATIONS, LONGEST = 12, 0.3
"""Steps of the fit, and how far each may go."""


class Original(NamedTuple):
    """What the density says in the coordinates that are mapped."""

    position: Float[Array, "coordinate lane"]
    value: Float[Array, " lane"]
    extra: Any


class _Slope(NamedTuple):
    """A map at a place: where it leads, its derivative, and the derivative of that one's logarithm."""

    position: Float[Array, "coordinate lane"]
    slope: Float[Array, "coordinate lane"]
    bend: Float[Array, "coordinate lane"]


class SinhArcsinh(NamedTuple):
    """The map of each coordinate and unit."""

    location: Float[Array, "coordinate unit"]
    scale: Float[Array, "coordinate unit"]
    skewness: Float[Array, "coordinate unit"]
    tail: Float[Array, "coordinate unit"]

    def density(self, log_density: LogDensity, chains: int) -> LogDensity:
        """The density of z that belongs to `log_density` of x; its extra is an `Original`."""
        lanes = self._lanes(chains)

        def of_mapped(z: Array) -> tuple[Array, Array, Original]:
            there = lanes._at(z)
            value, gradient, extra = log_density(there.position)
            return _mapped(there, value, gradient, extra)

        return of_mapped

    def forget(self, z: Array, gradient: Array, chains: int) -> Float[Array, "coordinate lane"]:
        """The gradient by x from the one by z."""
        there = self._lanes(chains)._at(z)
        return (gradient - there.bend) / there.slope

    def move(self, original: Original, gradient: Array, chains: int) -> tuple[Array, Array, Array]:
        """The z of a position that is known, with value and gradient there from those by x."""
        lanes = self._lanes(chains)
        z = lanes.inverse(original.position)
        value, gradient, _ = _mapped(lanes._at(z), original.value, gradient, original.extra)
        return z, value, gradient

    def inverse(self, x: Any) -> Any:
        """The z of x. Of arrays of numpy or jax alike."""
        np_ = np if isinstance(x, np.ndarray) else jnp
        return np_.sinh(self.tail * np_.arcsinh((x - self.location) / self.scale) - self.skewness)

    def _lanes(self, chains: int) -> "SinhArcsinh":
        return SinhArcsinh(*(jnp.repeat(part, chains, axis=-1) for part in self))

    def _at(self, z: Array) -> _Slope:
        root = jnp.sqrt(1 + z * z)
        arcsinh = jnp.where(z < 0, -1, 1).astype(z.dtype) * jnp.log(jnp.abs(z) + root)
        growth = jnp.exp((arcsinh + self.skewness) / self.tail)
        sinh, cosh = 0.5 * (growth - 1 / growth), 0.5 * (growth + 1 / growth)
        return _Slope(
            position=self.location + self.scale * sinh,
            slope=self.scale / self.tail * cosh / root,
            bend=sinh / (cosh * self.tail * root) - z / (root * root),
        )


def _mapped(there: _Slope, value: Array, gradient: Array, extra: Any) -> tuple[Array, Array, Original]:
    original = Original(there.position, value, extra)
    return value + sum_rows(jnp.log(there.slope)), gradient * there.slope + there.bend, original


def identity(coordinates: int, units: int, dtype: Any) -> SinhArcsinh:
    """The map that leaves everything where it is."""
    zero, one = jnp.zeros((coordinates, units), dtype), jnp.ones((coordinates, units), dtype)
    return SinhArcsinh(zero, one, zero, one)


def fit(draws: Float[np.ndarray, "coordinate draw"]) -> SinhArcsinh:
    """The maps that take the quantiles of one unit's draws nearest to a normal's, on the host; each part [coordinate].

    By least squares: location and scale are solved for, skewness and tail found by damped Gauss-Newton steps. A
    coordinate whose draws are constant has no map: its location and scale are NaN.

    Args:
        draws: Finite.
    """
    ordered = np.sort(draws, axis=1)
    at = LEVELS * (ordered.shape[1] - 1)
    below = at.astype(int)
    above = np.minimum(below + 1, ordered.shape[1] - 1)
    quantiles = ordered[:, below] + (at - below) * (ordered[:, above] - ordered[:, below])
    spread = quantiles[:, -1] - quantiles[:, 0]
    spread = np.where(spread > 0, spread, np.nan)[:, None]
    target = np.nan_to_num(WEIGHTS * quantiles / spread)
    penalties = PENALTIES / np.sqrt(draws.shape[1])
    best, damping = _fitted(np.zeros((len(draws), 2)), target, penalties), np.full(len(draws), 1e-3)
    for _ in range(ITERATIONS):
        transposed = np.swapaxes(best.jacobian, 1, 2)
        normal = transposed @ best.jacobian + damping[:, None, None] * np.eye(2)
        step = -np.linalg.solve(normal, transposed @ best.error[..., None])[..., 0]
        tried = _fitted(np.clip(best.theta + np.clip(step, -LONGEST, LONGEST), -BOUNDS, BOUNDS), target, penalties)
        better = (tried.loss < best.loss) & (tried.scale > 0)
        best = _Fitted(*(np.where(_across(better, new), new, old) for new, old in zip(tried, best, strict=True)))
        damping = np.where(better, damping / 3, damping * 4)
    location, scale = best.location * spread[:, 0], best.scale * spread[:, 0]
    return SinhArcsinh(location, scale, best.theta[:, 0], np.exp(best.theta[:, 1]))  # pyright: ignore[reportArgumentType]


def _across(which: np.ndarray, like: np.ndarray) -> np.ndarray:
    return which.reshape(-1, *[1] * (like.ndim - 1))


class _Fitted(NamedTuple):
    """Maps of such skewness and logarithm of the tail, with the location and scale that suit them best."""

    theta: Float[np.ndarray, "coordinate 2"]
    location: Float[np.ndarray, " coordinate"]
    scale: Float[np.ndarray, " coordinate"]
    error: Float[np.ndarray, "coordinate row"]
    """Of each quantile, weighted, and the penalties."""
    jacobian: Float[np.ndarray, "coordinate row 2"]
    """Of the errors by `theta`, with location and scale solved for anew."""

    @property
    def loss(self) -> Float[np.ndarray, " coordinate"]:
        """Sum of squares."""
        return np.einsum("cr,cr->c", self.error, self.error)


def _fitted(
    theta: Float[np.ndarray, "coordinate 2"],
    target: Float[np.ndarray, "coordinate level"],
    penalties: Float[np.ndarray, " 2"],
) -> _Fitted:
    tail = np.exp(theta[:, 1:])
    moved = (np.arcsinh(NORMAL) + theta[:, :1]) / tail
    sinh = WEIGHTS * np.sinh(moved)
    # The plane of location and scale, by two vectors at right angles.
    one = WEIGHTS / np.linalg.norm(WEIGHTS)
    along = sinh @ one
    rest = sinh - along[:, None] * one
    length = np.linalg.norm(rest, axis=1)
    other = rest / length[:, None]

    def off(values: np.ndarray) -> np.ndarray:
        values = values - (values @ one)[:, None] * one
        return values - np.einsum("cr,cr->c", values, other)[:, None] * other

    scale = np.einsum("cr,cr->c", target, other) / length
    location = (target @ one - scale * along) / np.linalg.norm(WEIGHTS)
    growth = scale[:, None] * WEIGHTS * np.cosh(moved)
    by_penalty = np.broadcast_to(np.diag(penalties), (len(theta), 2, 2))
    by_theta = np.stack([-off(growth / tail), off(growth * moved)], axis=2)
    return _Fitted(
        theta=theta,
        location=location,
        scale=scale,
        error=np.concatenate([off(target), penalties * theta], axis=1),
        jacobian=np.concatenate([by_theta, by_penalty], axis=1),
    )
