"""How tests run the plain reference model."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

PLAINLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""It runs once: to compile it well would take longer than to run it."""


def at_each(function: Callable[[Any], Any], points: Any) -> Any:
    """The function's values at points along the first axis.

    One point after the other: LAPACK's batched calls in jax can wait for ever for threads that they hold themselves.
    """
    program = jax.jit(partial(jax.lax.map, function)).lower(points).compile(compiler_options=PLAINLY)
    return jax.block_until_ready(program(points))
