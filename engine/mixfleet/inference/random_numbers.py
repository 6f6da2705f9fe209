"""Random numbers as a function of a key, a trajectory's number and a place, all in one elementwise pass.

`jax.random` gives the same from the same generator, but on CPU it runs its rounds as a loop over small arrays, which
costs more than the numbers where a few are wanted at every tick.

References:
    Salmon, Moraes, Dror, Shaw (2011), Parallel random numbers: as easy as 1, 2, 3. doi:10.1145/2063384.2063405.
"""

import hashlib
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from mixfleet_kernels import hmc, native_library

__all__ = ["hashed_key", "normals", "threefry", "uniforms", "white_numbers"]

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = 0x1BD11BDA


def hashed_key(seed: int, name: str) -> UInt32[np.ndarray, "2"]:
    """The key of whoever has this name: a hash of who it is, never of where it stands."""
    return np.frombuffer(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], np.uint32)


def threefry(
    key: tuple[UInt32[Array, "*#shape"], UInt32[Array, "*#shape"]],
    counter: tuple[UInt32[Array, "*#shape"], UInt32[Array, "*#shape"]],
) -> tuple[UInt32[Array, "*shape"], UInt32[Array, "*shape"]]:
    """Two random words for every key and counter: Threefry-2x32 with 20 rounds."""
    keys = (*key, key[0] ^ key[1] ^ jnp.uint32(PARITY))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x = x + y
            y = ((y << rotation) | (y >> (32 - rotation))) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


def uniforms(
    key: UInt32[Array, "unit 2"], number: int | Int[Array, " unit"], rows: int, lanes: int, dtype: jnp.dtype
) -> Float[Array, "row lane"]:
    """Numbers strictly between 0 and 1, `rows` for each lane of a unit's trajectory `number`.

    They lie on the midpoints of a grid, of 2**23 cells in float32 and of 2**52 in float64.
    """
    chains = lanes // len(key)
    number = jnp.broadcast_to(jnp.asarray(number, jnp.uint32), len(key))
    keys, numbers = (jnp.repeat(values, chains, axis=0) for values in (key, number))
    place = jax.lax.broadcasted_iota(jnp.uint32, (rows, lanes), 0) * chains
    place = place + jax.lax.broadcasted_iota(jnp.uint32, (rows, lanes), 1) % chains
    first, second = threefry((keys[None, :, 0], keys[None, :, 1]), (numbers[None], place))
    if dtype == jnp.float64:
        cell = first.astype(dtype) * 2.0**20 + (second >> 12).astype(dtype)
        return (cell + 0.5) * 2.0**-52
    return ((first >> 9).astype(dtype) + 0.5) * jnp.asarray(2.0**-23, dtype)


def normals(uniform: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Standard normal numbers from uniform ones."""
    return math.sqrt(2) * jax.lax.erf_inv(2 * uniform - 1)


def white_numbers(
    key: UInt32[Array | np.ndarray, "unit 2"], number: int, rows: int, chains: int, dtype: str
) -> Float[np.ndarray, "row unit chain"]:
    """Standard normal numbers of each unit's trajectory `number`, on the host; in native code where there is any."""
    if native_library.available():
        own = [hmc.normals(one, number, rows * chains, dtype) for one in np.asarray(key)]
        return np.stack([values.reshape(rows, chains) for values in own], axis=1)
    return np.asarray(_white(key, np.uint32(number), rows, len(key) * chains, dtype)).reshape(rows, len(key), chains)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _white(key: Array, number: Array, rows: int, lanes: int, dtype: str) -> Array:
    return normals(uniforms(key, number, rows, lanes, jnp.dtype(dtype)))
