"""Sinh-arcsinh coordinates: a smooth map per coordinate that takes skewness and heavy or light tails away.

A posterior's coordinate x is location + scale sinh((arcsinh z + skewness) / tail), where z is nearly normal. The map is
one to one and enters the density with its Jacobian, so that a chain in z leaves the same posterior invariant; how
well it fits decides only how fast that chain mixes.

References:
    Jones and Pewsey (2009), Sinh-arcsinh distributions, doi:10.1093/biomet/asp053.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtri

from mixfleet_kernels.dtypes import library_of
from mixfleet_kernels.reductions import sum_rows

__all__ = ["LogDensity", "Original", "SinhArcsinh", "fit", "identity"]

LogDensity = Callable[[Any], tuple[Array, Array, Any]]
"""Position [coordinate, lane], of numpy or jax, to (value, gradient, extra) of every lane."""

LEVELS = np.array([0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.975, 0.99])
"""Quantiles of the draws that a map is fitted to."""

NORMAL = ndtri(LEVELS)
WEIGHTS = np.exp(-0.125 * NORMAL**2)
"""Of the quantiles' errors, which grow towards the tails."""

ARCSINH, SIZE = np.arcsinh(NORMAL), np.sqrt(np.sum(WEIGHTS**2))
ONE = WEIGHTS / SIZE
"""The direction of the location, of length one."""

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

    def pull(self, gradient: Array) -> Array:
        """The gradient by z from the one by x."""
        return gradient * self.slope + self.bend


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

    def by_mapped(self, z: Any, gradient: Any) -> Any:
        """The gradient by z from the one by x, a map for every place. Of arrays of numpy or jax alike."""
        return self._at(z).pull(gradient)

    def move(self, original: Original, gradient: Array, chains: int) -> tuple[Array, Array, Array]:
        """The z of a position that is known, with value and gradient there from those by x."""
        lanes = self._lanes(chains)
        z = lanes.inverse(original.position)
        value, gradient, _ = _mapped(lanes._at(z), original.value, gradient, original.extra)
        return z, value, gradient

    def inverse(self, x: Any) -> Any:
        """The z of x. Of arrays of numpy or jax alike."""
        library = library_of(x)
        return library.sinh(self.tail * library.arcsinh((x - self.location) / self.scale) - self.skewness)

    def _lanes(self, chains: int) -> "SinhArcsinh":
        return SinhArcsinh(*(library_of(part).repeat(part, chains, axis=-1) for part in self))

    def _at(self, z: Array) -> _Slope:
        library = library_of(z)
        root = library.sqrt(1 + z * z)
        arcsinh = library.where(z < 0, -1, 1).astype(z.dtype) * library.log(library.abs(z) + root)
        growth = library.exp((arcsinh + self.skewness) / self.tail)
        sinh, cosh = 0.5 * (growth - 1 / growth), 0.5 * (growth + 1 / growth)
        return _Slope(
            position=self.location + self.scale * sinh,
            slope=self.scale / self.tail * cosh / root,
            bend=sinh / (cosh * self.tail * root) - z / (root * root),
        )


def _mapped(there: _Slope, value: Array, gradient: Array, extra: Any) -> tuple[Array, Array, Original]:
    original = Original(there.position, value, extra)
    return value + sum_rows(jnp.log(there.slope)), there.pull(gradient), original


def identity(coordinates: int, units: int, dtype: Any) -> SinhArcsinh:
    """The map that leaves everything where it is."""
    zero, one = np.zeros((coordinates, units), dtype), np.ones((coordinates, units), dtype)
    return SinhArcsinh(zero, one, zero, one)  # pyright: ignore[reportArgumentType]


def fit(draws: Sequence[Float[np.ndarray, "coordinate draw"]]) -> list[SinhArcsinh]:
    """The maps that take the quantiles of units' draws nearest to a normal's, on the host; each part [coordinate].

    By least squares: location and scale are solved for, skewness and tail found by damped Gauss-Newton steps. A
    coordinate whose draws are constant has no map: its location and scale are NaN. No unit's maps depend on the others.

    Args:
        draws: Of each unit, finite.
    """
    quantiles = np.concatenate([_quantiles(own) for own in draws])
    spread = quantiles[:, -1] - quantiles[:, 0]
    spread = np.where(spread > 0, spread, np.nan)[:, None]
    target = np.nan_to_num(WEIGHTS * quantiles / spread)
    penalties = np.concatenate([np.tile(PENALTIES / np.sqrt(own.shape[1]), (len(own), 1)) for own in draws])
    best, damping = _fitted(np.zeros((len(target), 2)), target, penalties), np.full(len(target), 1e-3)
    for _ in range(ITERATIONS):
        step = _step(best, damping)
        tried = _fitted(np.clip(best.theta + np.clip(step, -LONGEST, LONGEST), -BOUNDS, BOUNDS), target, penalties)
        better = (tried.loss < best.loss) & (tried.scale > 0)
        best = _Fitted(*(np.where(_across(better, new), new, old) for new, old in zip(tried, best, strict=True)))
        damping = np.where(better, damping / 3, damping * 4)
    location, scale = best.location * spread[:, 0], best.scale * spread[:, 0]
    parts = (location, scale, best.theta[:, 0], np.exp(best.theta[:, 1]))
    ends = np.cumsum([len(own) for own in draws])
    return [SinhArcsinh(*own) for own in zip(*(np.split(part, ends[:-1]) for part in parts), strict=True)]


def _quantiles(draws: Float[np.ndarray, "coordinate draw"]) -> Float[np.ndarray, "coordinate level"]:
    ordered = np.sort(draws, axis=1)
    at = LEVELS * (ordered.shape[1] - 1)
    below = at.astype(int)
    above = np.minimum(below + 1, ordered.shape[1] - 1)
    return ordered[:, below] + (at - below) * (ordered[:, above] - ordered[:, below])


def _step(best: "_Fitted", damping: Float[np.ndarray, " coordinate"]) -> Float[np.ndarray, "coordinate 2"]:
    """The damped Gauss-Newton step of two numbers, by Cramer's rule."""
    by_skewness, by_tail = np.moveaxis(best.jacobian, 2, 0)
    (a, b, u), (_, c, v) = (
        [np.einsum("cr,cr->c", one, other) for other in (by_skewness, by_tail, best.error)]
        for one in (by_skewness, by_tail)
    )
    a, c = a + damping, c + damping
    return np.stack([b * v - c * u, b * u - a * v], axis=1) / (a * c - b * b)[:, None]


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
    penalties: Float[np.ndarray, "coordinate 2"],
) -> _Fitted:
    tail = np.exp(theta[:, 1:])
    moved = (ARCSINH + theta[:, :1]) / tail
    grown = 0.5 * np.exp(moved)
    shrunk = 0.25 / grown
    sinh = WEIGHTS * (grown - shrunk)
    # The plane of location and scale, by two vectors at right angles.
    along = np.einsum("cr,r->c", sinh, ONE)
    rest = sinh - along[:, None] * ONE
    length = np.sqrt(np.einsum("cr,cr->c", rest, rest))
    other = rest / length[:, None]

    def off(values: np.ndarray) -> np.ndarray:
        values = values - np.einsum("cr,r->c", values, ONE)[:, None] * ONE
        return values - np.einsum("cr,cr->c", values, other)[:, None] * other

    scale = np.einsum("cr,cr->c", target, other) / length
    location = (np.einsum("cr,r->c", target, ONE) - scale * along) / SIZE
    growth = scale[:, None] * WEIGHTS * (grown + shrunk)
    by_penalty = penalties[:, :, None] * np.eye(2)
    by_theta = np.stack([-off(growth / tail), off(growth * moved)], axis=2)
    return _Fitted(
        theta=theta,
        location=location,
        scale=scale,
        error=np.concatenate([off(target), penalties * theta], axis=1),
        jacobian=np.concatenate([by_theta, by_penalty], axis=1),
    )
