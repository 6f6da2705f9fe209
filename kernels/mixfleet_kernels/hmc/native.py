"""The native density and block of HMC, called from compiled programs on CPU."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from mixfleet_kernels import native_library
from mixfleet_kernels.hmc.arrays import Chains, Data, Draws, Evaluation, Form, Geometry, Tuning
from mixfleet_kernels.likelihood.native import FAMILIES as SATURATIONS

__all__ = ["FAMILIES", "advance", "evaluate"]

FAMILIES = (
    *("fixed", "half_normal", "lognormal", "gamma", "inverse_gamma", "exponential", "lower_truncated_normal"),
    *("half_student_t", "beta", "uniform", "truncated_normal", "probit_normal"),
)
"""Prior families in the order in which `native.h` numbers them."""


def evaluate(data: Data, position: Float[Array, "coordinate lane"], form: Form) -> Evaluation:
    """Log density of every lane, its gradient and what is kept with a draw."""
    _, channels, _ = data.media.shape
    dimension, lanes = position.shape
    sizes = ((lanes,), (dimension, lanes), (channels + data.basis.shape[-1], lanes))
    made = jax.ffi.ffi_call(
        _target("density", position.dtype), tuple(jax.ShapeDtypeStruct(size, position.dtype) for size in sizes)
    )(*data, position, **_described(data, position, form))
    return Evaluation(*made)


def advance(
    data: Data, geometry: Geometry, chains: Chains, draws: Draws, form: Form, tuning: Tuning
) -> tuple[Chains, Draws]:
    """Chains and draws after `tuning.ticks` leapfrog steps of every lane; in place where the caller donates them."""
    position = chains.here.position
    leaves, tree = jax.tree.flatten((chains, draws))
    first = len(data) + len(geometry)
    made = jax.ffi.ffi_call(
        _target("block", position.dtype),
        tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves),
        input_output_aliases={first + i: i for i in range(len(leaves))},
    )(
        *(*data, *geometry, *leaves),
        **_described(data, position, form),
        ticks=np.int64(tuning.ticks),
        most_steps=np.int64(tuning.most_steps),
        **{name: np.float64(value) for name, value in tuning._asdict().items() if name not in ("ticks", "most_steps")},
    )
    return jax.tree.unflatten(tree, made)


def _target(operation: str, dtype: Any) -> str:
    native_library.loaded()
    return native_library.target(f"mixfleet_hmc_{operation}_f{8 * np.dtype(dtype).itemsize}")


def _described(data: Data, position: Array, form: Form) -> dict[str, np.ndarray]:
    """Sizes and form as the library's attributes."""
    weeks, channels, units = data.media.shape
    dimension, lanes = position.shape
    columns, prior_columns = data.basis.shape[-1], data.hyper.shape[1]
    noise, noise_family = form.noise
    flags = (form.strength_is_mean, form.normalised, form.measured)
    described = dict(
        sizes=(
            *(weeks, channels, columns, units, lanes // units, form.window, dimension, prior_columns),
            *(data.lift_media.shape[0], *data.lift_weight.shape[:2]),
        ),
        form=(SATURATIONS.index(form.saturation), form.effect_first, noise, FAMILIES.index(noise_family), *flags),
        first=[first for first, _ in form.shapes],
        families=[FAMILIES.index(family) for _, family in form.shapes],
        strengths=[FAMILIES.index(family) for family in form.strengths],
    )
    return {name: np.array(values, np.int64) for name, values in described.items()}
