"""Cholesky factors of many small matrices at once, in plain loops over columns.

Not LAPACK's: on CPU its batched calls wait on threads of the pool that they run on, so that two of them at a time, from
two tiles, can wait for each other for ever.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["factor", "inverse"]


def factor(matrices: Float[Array, "unit row column"]) -> Float[Array, "unit row column"]:
    """Lower factors L with L L' = matrix; NaN where a matrix is not positive definite."""
    size = matrices.shape[-1]
    if size == 0:
        return matrices
    row = jnp.arange(size)

    def eliminate(j: Array, carried: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, lower = carried
        column = jnp.where(row[None] >= j, rest[:, :, j], 0)
        column = column / jnp.sqrt(rest[:, j, j])[:, None]
        rest = rest - column[:, :, None] * column[:, None, :]
        return rest, lower.at[:, :, j].set(column)

    return jax.lax.fori_loop(0, size, eliminate, (matrices, jnp.zeros_like(matrices)))[1]


def inverse(lower: Float[Array, "unit row column"]) -> Float[Array, "unit row column"]:
    """Inverses of lower triangular matrices, row by row."""
    size = lower.shape[-1]
    if size == 0:
        return lower
    one = jnp.eye(size, dtype=lower.dtype)

    def substitute(i: Array, solved: Array) -> Array:
        known = jnp.sum(lower[:, i, :, None] * solved, axis=1)
        return solved.at[:, i].set((one[i][None] - known) / lower[:, i, i][:, None])

    return jax.lax.fori_loop(0, size, substitute, jnp.zeros_like(lower))
