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

from mixfleet_kernels import coordinates, native_library
from mixfleet_kernels.dtypes import library_of
from mixfleet_kernels.reductions import sum_rows

__all__ = ["LogDensity", "Original", "SinhArcsinh", "fit", "identity", "mapped", "pulled"]

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
    if native_library.available():
        how = coordinates.Fit(ARCSINH, WEIGHTS, BOUNDS, LONGEST, ITERATIONS)
        location, scale, skewness, tail = coordinates.fit(how, target, penalties)
    else:
        location, scale, skewness, tail = _fit(target, penalties)
    parts = (location * spread[:, 0], scale * spread[:, 0], skewness, np.exp(tail))
    ends = np.cumsum([len(own) for own in draws])
    return [SinhArcsinh(*own) for own in zip(*(np.split(part, ends[:-1]) for part in parts), strict=True)]


def _fit(
    target: Float[np.ndarray, "coordinate level"], penalties: Float[np.ndarray, "coordinate 2"]
) -> tuple[np.ndarray, ...]:
    """As `mixfleet_kernels.coordinates.fit`, for machines without the native library."""
    best, damping = _fitted(np.zeros((len(target), 2)), target, penalties), np.full(len(target), 1e-3)
    for _ in range(ITERATIONS):
        step = np.clip(best.step(damping), -LONGEST, LONGEST)
        tried = _fitted(np.clip(best.theta + step, -BOUNDS, BOUNDS), target, penalties)
        better = (tried.loss < best.loss) & (tried.scale > 0)
        for old, new in zip(best, tried, strict=True):
            old[better] = new[better]
        damping = np.where(better, damping / 3, damping * 4)
    return best.location, best.scale, *best.theta.T


def mapped(maps: SinhArcsinh, draws: Float[np.ndarray, "coordinate draw"]) -> Float[np.ndarray, "coordinate draw"]:
    """A unit's draws in its maps, of which each part is [coordinate], on the host."""
    if native_library.available():
        return coordinates.mapped(np.stack(maps), draws)
    return _by_draw(maps).inverse(draws)


def pulled(
    maps: SinhArcsinh, draws: Float[np.ndarray, "coordinate draw"], gradients: Float[np.ndarray, "coordinate draw"]
) -> tuple[Float[np.ndarray, "coordinate draw"], Float[np.ndarray, "coordinate draw"]]:
    """The draws as `mapped` has them, and the log density's gradients by them from those by the draws."""
    if native_library.available():
        return coordinates.pulled(np.stack(maps), draws, gradients)
    with np.errstate(all="ignore"):
        z = mapped(maps, draws)
        return z, _by_draw(maps).by_mapped(z, gradients)


def _by_draw(maps: SinhArcsinh) -> SinhArcsinh:
    return SinhArcsinh(*(np.asarray(part, float)[:, None] for part in maps))  # pyright: ignore[reportArgumentType]


def _quantiles(draws: Float[np.ndarray, "coordinate draw"]) -> Float[np.ndarray, "coordinate level"]:
    ordered = np.sort(draws, axis=1)
    at = LEVELS * (ordered.shape[1] - 1)
    below = at.astype(int)
    above = np.minimum(below + 1, ordered.shape[1] - 1)
    return ordered[:, below] + (at - below) * (ordered[:, above] - ordered[:, below])


class _Fitted(NamedTuple):
    """Maps of such skewness and logarithm of the tail, with the location and scale that suit them best."""

    theta: Float[np.ndarray, "coordinate 2"]
    location: Float[np.ndarray, " coordinate"]
    scale: Float[np.ndarray, " coordinate"]
    loss: Float[np.ndarray, " coordinate"]
    """Sum of squares of the weighted errors of the quantiles and of the penalties."""
    normal: Float[np.ndarray, "coordinate 3"]
    """Of the equations for the Gauss-Newton step both diagonal elements, then the other."""
    pull: Float[np.ndarray, "coordinate 2"]
    """Their right sides."""

    def step(self, damping: Float[np.ndarray, " coordinate"]) -> Float[np.ndarray, "coordinate 2"]:
        """The damped Gauss-Newton step, by Cramer's rule."""
        a, c, b = self.normal.T
        a, c, (u, v) = a + damping, c + damping, self.pull.T
        return np.stack([c * u - b * v, a * v - b * u], axis=1) / (a * c - b * b)[:, None]


def _fitted(
    theta: Float[np.ndarray, "coordinate 2"],
    target: Float[np.ndarray, "coordinate level"],
    penalties: Float[np.ndarray, "coordinate 2"],
) -> _Fitted:
    tail = np.exp(theta[:, 1:])
    moved = (ARCSINH + theta[:, :1]) / tail
    grown = 0.5 * np.exp(moved)
    shrunk = 0.25 / grown
    cosh = WEIGHTS * (grown + shrunk)
    # All that is asked for are products of these vectors: the location's direction, the map's of no location and a
    # scale of one, the target, and the map's derivatives by skewness and by the tail's logarithm.
    vectors = np.empty((len(target), 5, len(LEVELS)))
    vectors[:, 0], vectors[:, 1], vectors[:, 2] = ONE, WEIGHTS * (grown - shrunk), target
    vectors[:, 3], vectors[:, 4] = cosh / tail, -cosh * moved
    products = vectors @ np.swapaxes(vectors, 1, 2)
    # Location and scale are solved for: the plane of the first two is taken out, by two vectors at right angles.
    along = products[:, 0]
    length = np.sqrt(products[:, 1, 1] - along[:, 1] ** 2)
    across = (products[:, 1] - along[:, 1:2] * along) / length[:, None]
    left = products - along[:, :, None] * along[:, None] - across[:, :, None] * across[:, None]
    scale = across[:, 2] / length
    squares = penalties**2
    normal = np.empty((len(target), 3))
    normal[:, 0], normal[:, 1], normal[:, 2] = left[:, 3, 3], left[:, 4, 4], left[:, 3, 4]
    normal *= scale[:, None] ** 2
    normal[:, :2] += squares
    return _Fitted(
        theta=theta,
        location=(along[:, 2] - scale * along[:, 1]) / SIZE,
        scale=scale,
        loss=left[:, 2, 2] + np.sum(squares * theta**2, axis=1),
        normal=normal,
        pull=scale[:, None] * left[:, 2, 3:] - squares * theta,
    )
