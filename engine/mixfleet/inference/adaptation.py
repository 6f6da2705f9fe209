"""Warm-up: a metric per unit from its own chains' draws, and the step size that suits it."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixfleet.inference.hmc import Metric, State, Stepping, metric_of, restart

__all__ = ["HARDER_ACCEPT", "first_stepping", "learn_metric", "restarted", "settle", "shrunken_covariance"]

HARDER_ACCEPT = 0.95
"""Acceptance that is aimed for where the usual one failed, or where trajectories diverged."""

FIRST_STEP = 0.3
"""In units of the whitened posterior, where 1 would be a step of one standard deviation."""


def first_stepping(units: int, target_accept: Float[Array, " unit"]) -> Stepping:
    """Step sizes before any trajectory."""
    log_step = jnp.full(units, jnp.log(FIRST_STEP), target_accept.dtype)
    return restarted(log_step, jnp.ones(units, bool), target_accept)


def learn_metric(
    state: State,
    positions: Float[Array, "unit draw coordinate chain"],
    count: Int[Array, " unit"],
    which: Bool[Array, " unit"],
) -> State:
    """The state with a new metric, and the step size's adaptation begun again, in the units of `which`.

    Args:
        state: Between two ticks.
        positions: The window's draws, of which the first `count` are valid.
        count: Draws per chain in the window.
        which: Units whose window is over.
    """
    _, draws, _, chains = positions.shape
    valid = (jnp.arange(draws) < count[:, None])[:, :, None, None]
    total = jnp.maximum(count * chains, 1).astype(positions.dtype)
    mean = jnp.sum(jnp.where(valid, positions, 0), axis=(1, 3), keepdims=True) / total[:, None, None, None]
    centred = jnp.where(valid, positions - mean, 0)
    scatter = jnp.einsum("udik,udjk->uij", centred, centred, precision="highest")
    learnt = metric_of(shrunken_covariance(scatter, total[:, None, None], state.metric.covariance))
    good = which & jnp.all(jnp.isfinite(learnt.inverse), axis=(1, 2))
    chosen = good[:, None, None]
    metric = Metric(*(jnp.where(chosen, new, old) for new, old in zip(learnt, state.metric, strict=True)))
    stepping = state.stepping
    again = restarted(stepping.log_average, stepping.adapting, stepping.target_accept)
    kept = [jnp.where(which, new, old) for new, old in zip(again, stepping, strict=True)]
    return restart(state._replace(metric=metric, stepping=Stepping(*kept)), which)


def shrunken_covariance(scatter: Any, draws: Any, known: Any) -> Any:
    """Covariance of a window's draws, shrunk towards the metric that made them.

    As if that were known from as many draws as there are coordinates. Of arrays of numpy or jax alike.

    Args:
        scatter: Sum of the outer products of centred draws, by unit [unit, coordinate, coordinate].
        draws: How many they are: a number, or one by unit [unit, 1, 1].
        known: Covariance of the metric before, by unit [unit, coordinate, coordinate].
    """
    coordinates = float(known.shape[-1])
    return (scatter + coordinates * known) / (draws + coordinates)


def settle(stepping: Stepping, which: Bool[Array, " unit"]) -> Stepping:
    """The stepping with adaptation over in the units of `which`: the averaged step size holds from now on."""
    return stepping._replace(
        log_step=jnp.where(which, stepping.log_average, stepping.log_step),
        adapting=stepping.adapting & ~which,
    )


def restarted(
    log_step: Float[Array, " unit"], adapting: Bool[Array, " unit"], target_accept: Float[Array, " unit"]
) -> Stepping:
    """Adaptation from the beginning, around these step sizes."""
    nothing = jnp.zeros_like(log_step)
    return Stepping(
        log_step=log_step,
        log_average=log_step,
        shortfall=nothing,
        centre=log_step + jnp.log(2.0).astype(log_step.dtype),
        updates=nothing,
        adapting=adapting,
        target_accept=target_accept,
    )
