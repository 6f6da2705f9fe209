"""Decomposition: the linear block along an orthonormal basis, in which its coefficients are independent."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.models.baseline.column_laws import ColumnLaw

__all__ = ["LinearBlock", "Pilot", "decompose", "linear_block", "pilot"]

NEGLIGIBLE = 1e-24
"""Relative variance below which a direction of the linear block is rounding, and left out of the basis."""


def decompose(
    design: Float[np.ndarray, "week column"], sd: Float[np.ndarray, " column"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Basis, variances and loading of `design diag(sd) = basis diag(sqrt(variance)) rotation'`."""
    columns = design.shape[1]
    left, singular, right = np.linalg.svd(design * sd, full_matrices=False)
    basis = np.zeros((design.shape[0], columns))
    variance = np.zeros(columns)
    used = singular**2 > NEGLIGIBLE * np.max(singular, initial=0.0) ** 2
    basis[:, : len(singular)] = np.where(used, left, 0.0)
    variance[: len(singular)] = np.where(used, singular**2, 0.0)
    # The full rotation: directions that the data never touch keep their prior.
    rotation = np.linalg.svd(design * sd, full_matrices=True)[2] if len(singular) < columns else right
    return basis, variance, sd[:, None] * rotation.T


class LinearBlock(NamedTuple):
    """A unit's linear block, along an orthonormal basis over the weeks of its likelihood."""

    basis: Float[np.ndarray, "week column"]
    variance: Float[np.ndarray, " column"]
    """Of the coefficients along the basis, in shares of the KPI's scale."""
    loading: Float[np.ndarray, "column column"]
    """Takes them, in prior standard deviations, to the columns' own; sampled coefficients as they are. Where scales
    are learned, takes the columns' own in standard deviations at the scales' priors to those in shares of the KPI's."""
    mean: Float[np.ndarray, " column"]
    """Prior mean; zero where a coefficient is sampled, and said by its coordinate."""
    laws: tuple[ColumnLaw, ...]
    """Of the sampled coefficients, which come last along the basis."""
    seen: Float[np.ndarray, "week sampled"]
    """Their columns; zero where not fitted."""
    turned: Float[np.ndarray, "column column"] = np.zeros((0, 0))
    """Where scales are learned, each column times its coefficient's standard deviation at the scales' priors, along
    the basis."""

    @property
    def along(self) -> Float[np.ndarray, "column sampled"]:
        """The sampled columns along the basis."""
        return self.basis.T @ self.seen


def linear_block(
    design: Float[np.ndarray, "week column"], laws: Sequence[ColumnLaw], sampled: Sequence[int]
) -> LinearBlock:
    """The block of these columns, of which some are sampled: what these add to the others' span comes last.

    Along those last directions nothing has a variance.

    Args:
        design: Zero in weeks that are not fitted.
        laws: Prior of every column's coefficient.
        sampled: Places of those that are sampled, in their order.
    """
    mean, sd = np.array([law.moments for law in laws]).T
    if any(law.scale is not None for law in laws):
        basis, variance, loading = decompose(design, sd)
        turned = np.sqrt(variance)[:, None] * (loading / sd[:, None]).T
        return LinearBlock(basis, variance, np.diag(sd), mean, (), np.zeros((len(design), 0)), turned)
    if not sampled:
        return LinearBlock(*decompose(design, sd), mean, (), np.zeros((len(design), 0)))
    columns = design.shape[1]
    rest = [k for k in range(columns) if k not in sampled]
    basis, variance, loading = np.zeros(design.shape), np.zeros(columns), np.zeros((columns, columns))
    own = decompose(design[:, rest], sd[rest])
    basis[:, : len(rest)], variance[: len(rest)], loading[rest, : len(rest)] = own
    seen = design[:, list(sampled)]
    left, singular, _ = np.linalg.svd(seen - basis @ (basis.T @ seen), full_matrices=False)
    kept = np.flatnonzero(singular**2 > NEGLIGIBLE * np.sum(seen**2))
    basis[:, len(rest) + kept] = left[:, kept]
    loading[list(sampled), len(rest) + np.arange(len(sampled))] = 1.0
    mean = np.where(np.isin(np.arange(columns), sampled), 0.0, mean)
    return LinearBlock(basis, variance, loading, mean, tuple(laws[k] for k in sampled), seen)


class Pilot(NamedTuple):
    """What a regression without media says of the sampled coefficients; signed where a sign is known."""

    unit: Float[np.ndarray, " sampled"]
    """Standard errors: what the coordinates are measured in."""
    start: Float[np.ndarray, " sampled"]
    """Coordinates where optimisation starts."""


def pilot(block: LinearBlock, kpi: Float[np.ndarray, " week"], fitted: Bool[np.ndarray, " week"]) -> Pilot:
    """A ridge regression of the KPI on the sampled columns, whose ridge is their prior.

    Args:
        block: Says which they are.
        kpi: Less the prior mean of the other columns; zero where not fitted.
        fitted: Weeks in the likelihood.
    """
    others = block.basis[:, : block.basis.shape[1] - len(block.laws)]
    columns, residual = (values - others @ (others.T @ values) for values in (block.seen, kpi))
    noise = (np.std(residual[fitted]) ** 2 if fitted.any() else 1.0) + 1e-12
    mean, sd = np.array([law.moments for law in block.laws]).T
    covariance = np.linalg.inv(columns.T @ columns / noise + np.diag(sd**-2.0))
    estimate, error = covariance @ (columns.T @ residual / noise + mean / sd**2), np.sqrt(np.diag(covariance))
    sign = np.array([law.sign for law in block.laws])
    start = np.where(sign == 0, estimate, np.maximum(sign * estimate, 0.0)) / error
    return Pilot(np.where(sign < 0, -error, error), start)
