"""Dense posteriors of the linear block's coefficients, lane by lane: where its basis does not make them independent.

In prior standard deviations the coefficients have the precision matrix M / s2, with M = s2 I + D G D: G are products of
the block's columns, D is a diagonal matrix of roots and s the standard deviation of the noise.
"""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from mixfleet_kernels.dtypes import library_of

__all__ = ["drawn", "factored", "scaled", "solved"]


def drawn(
    gram: Float[Array, "column column lane"],
    root: Float[Array, "column lane"],
    mean: Float[Array, "column lane"],
    noise: Float[Array, " lane"],
    white: Float[Array, "column lane"],
) -> Float[Array, "column lane"]:
    """Coefficients in prior standard deviations, drawn given all else.

    Args:
        gram: Products of the block's columns.
        root: Of each coefficient's prior variance, in what the columns are measured in.
        mean: Posterior means.
        noise: Standard deviation of the noise.
        white: Standard normal numbers.
    """
    library = library_of(mean)
    identity = library.eye(len(mean), dtype=mean.dtype)[..., None]
    left = scaled(gram, root) + (noise**2)[None, None] * identity
    factor = []  # its columns, from the diagonal on
    for _ in range(len(mean)):
        factor.append(left[:, 0] / library.sqrt(left[0, 0])[None])
        left = left[1:, 1:] - factor[-1][1:, None] * factor[-1][None, 1:]
    solved: list[Array] = []
    for k in reversed(range(len(mean))):
        below = sum(entry * value for entry, value in zip(factor[k][:0:-1], solved, strict=True))
        solved.append((white[k] - below) / factor[k][0])
    return mean + noise[None] * library.stack(solved[::-1])


def factored(
    gram: Float[Array, "column column lane"],
    root: Float[Array, "column lane"],
    s2: Float[Array, " lane"],
    product: Float[Array, "column lane"],
) -> tuple[Float[Array, "column lane"], Float[Array, "column lane"], Float[Array, " lane"]]:
    """M^-1 times the product, the diagonal of M^-1, and log det M, by a Cholesky factor of each lane.

    Args:
        gram: Products of the block's columns.
        root: Of each coefficient's prior variance, in what the columns are measured in.
        s2: Variance of the noise.
        product: D times the columns' products with the residual.
    """
    identity = jnp.eye(len(product), dtype=gram.dtype)
    lanes = jnp.moveaxis(scaled(gram, root) + s2[None, None] * identity[..., None], -1, 0)
    factor = jnp.linalg.cholesky(lanes, symmetrize_input=False)
    inverse = solve_triangular(factor, jnp.broadcast_to(identity, lanes.shape), lower=True)
    along = jnp.einsum("lij,jl->li", inverse, product, precision="highest")
    mean = jnp.einsum("lij,li->jl", inverse, along, precision="highest")
    pivots = jnp.diagonal(factor, axis1=1, axis2=2)
    return mean, jnp.sum(inverse**2, axis=1).T, 2 * jnp.sum(jnp.log(pivots), axis=1)


def scaled(
    gram: Float[Array, "column column lane"], root: Float[Array, "column lane"]
) -> Float[Array, "column column lane"]:
    """D G D."""
    return gram * root[:, None] * root[None]


def solved(
    gram: Array, root: Float[Array, "column lane"], s2: Float[Array, " lane"], product: Float[Array, "column lane"]
) -> tuple[Float[Array, "column lane"], Float[Array, "column column lane"], Float[Array, " lane"]]:
    """M^-1 times the product, M^-1, and log det M, by sweeps: whole matrices at a time, so that little is compiled.

    Args:
        gram: Products of the block's columns.
        root: Of each coefficient's prior variance, in what the columns are measured in.
        s2: Variance of the noise.
        product: D times the columns' products with the residual.
    """
    columns = len(product)

    def sweep(k: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        matrix, log_determinant = state
        row = jax.lax.dynamic_index_in_dim(matrix, k, keepdims=False)
        pivot = jax.lax.dynamic_index_in_dim(row, k, keepdims=False)
        here = (jnp.arange(columns) == k)[:, None]
        # The row of the pivot becomes row / pivot, its column the same, and itself -1 / pivot.
        above = jnp.where(here, -1.0, row)
        share = above / pivot[None]
        kept = jnp.where(here[:, None] | here[None], 0.0, matrix)
        return kept - above[:, None] * share[None], log_determinant + jnp.log(pivot)

    first = scaled(gram, root) + s2[None, None] * jnp.eye(columns, dtype=gram.dtype)[..., None]
    swept, log_determinant = jax.lax.fori_loop(0, columns, sweep, (first, jnp.zeros_like(s2)))
    mean = sum(-swept[:, j] * product[j][None] for j in range(columns))
    return jnp.asarray(mean), -swept, log_determinant
