"""Evidence: what lift tests and a belief about all media say of a unit's channels, as terms of its log density.

A test's estimate is normal around the model's own lift, with its standard error and bias: the response of the
channel's media with the test less that without it, over the virtual weeks that the test can have changed, times the
effect. The share of the KPI that all media bring together is normal around what is believed of it, if anything is; the
term multiplies the priors of the channels. Both are added to either density.

References:
    Zhang et al. (2024), Media Mix Model Calibration With Bayesian Priors, Google research, for calibration by
    experiments; as a likelihood of lifts: PyMC-Marketing, `add_lift_measurements_to_likelihood_from_saturation`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from mixfleet.models.batch import Structure, UnitBatch
from mixfleet.models.transforms import decay_of, windows
from mixfleet_kernels.evidence import Evidence, LiftTests, lifts
from mixfleet_kernels.evidence import evidence as evaluate_evidence
from mixfleet_kernels.likelihood import Likelihood

__all__ = ["evidence", "expected_lifts", "log_evidence", "log_total", "with_evidence"]


def evidence(
    shape: tuple[Float[Array, "channel lane"], ...],
    effect: Float[Array, "channel lane"],
    batch: UnitBatch,
    structure: Structure,
) -> Evidence:
    """The tests' log likelihood given the channels' curves, and its gradient.

    Args:
        shape: Adstock, then saturation parameters, by slot of the kernels.
        effect: On the model's scale.
        batch: The units' data.
        structure: The program's structure; its units must have tests.
    """
    weights, tangents, parameters = windows(shape, effect.shape, structure)
    forms = structure.term.forms
    return evaluate_evidence(
        _tests_of(batch),
        *(weights, tangents, tuple(form.saturation for form in forms), parameters, effect),
        adstock_first=tuple(form.adstock_first for form in forms),
        decay=decay_of(shape, structure),
        normalised=forms[0].normalise,
    )


def expected_lifts(
    shape: tuple[Float[Array, "channel lane"], ...],
    effect: Float[Array, "channel lane"],
    batch: UnitBatch,
    structure: Structure,
) -> Float[Array, "test lane"]:
    """The model's own lift of each test, in standard deviations of the test; arguments as of `evidence`."""
    weights, _, parameters = windows(shape, effect.shape, structure)
    forms = structure.term.forms
    return lifts(
        _tests_of(batch),
        *(weights, tuple(form.saturation for form in forms), parameters, effect),
        adstock_first=tuple(form.adstock_first for form in forms),
    )


def _tests_of(batch: UnitBatch) -> LiftTests:
    return LiftTests(batch.lift_media, batch.lift_weight, batch.lift_channel, batch.lift_test, batch.lift_estimate)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def log_evidence(
    shape: tuple[Float[Array, "channel lane"], ...],
    effect: Float[Array, "channel lane"],
    batch: UnitBatch,
    structure: Structure,
) -> Float[Array, " lane"]:
    """The value of `evidence`, whose gradient jax takes as the kernel gives it."""
    return evidence(shape, effect, batch, structure).value


def _forward(shape: Any, effect: Array, batch: UnitBatch, structure: Structure) -> tuple[Array, Any]:
    told = evidence(shape, effect, batch, structure)
    return told.value, (told, batch)


def _backward(structure: Structure, kept: Any, along: Array) -> tuple[Any, Array, Any]:
    del structure
    told, batch = kept
    by_shape = tuple(along * partial for partial in told.by_shape)
    return by_shape, along * told.by_effect, jax.tree.map(jax.numpy.zeros_like, batch)


log_evidence.defvjp(_forward, _backward)


def log_total(
    contribution: Float[Array, "channel lane"], batch: UnitBatch
) -> tuple[Float[Array, " lane"], Float[Array, " lane"]]:
    """Log density of the share that these mean contributions make, as it is believed to be, and its slope.

    Args:
        contribution: On the model's scale, zero where a channel is absent.
        batch: The units' data; there must be a belief.
    """
    mean, precision, share = jnp.repeat(batch.total, contribution.shape[-1] // batch.total.shape[-1], axis=-1)
    away = (jnp.sum(contribution, axis=0) * share - mean) * precision
    return norm.logpdf(away) + jnp.log(precision), -away * precision * share


def _with_total(data: Likelihood, active: Float[Array, "channel lane"], batch: UnitBatch) -> Likelihood:
    """The likelihood, and what is believed of all media together."""
    value, slope = log_total(data.effect * data.mean_response * active, batch)
    by_mean = slope[None] * data.effect * active
    return data._replace(
        value=data.value + value,
        by_shape=tuple(own + by_mean * of_mean for own, of_mean in zip(data.by_shape, data.mean_by_shape, strict=True)),
        by_effect=data.by_effect + slope[None] * data.mean_response * active,
    )


def with_evidence(
    data: Likelihood,
    shape: tuple[Float[Array, "channel lane"], ...],
    active: Float[Array, "channel lane"],
    batch: UnitBatch,
    structure: Structure,
) -> Likelihood:
    """The likelihood of the series, of the tests and of what is believed of all media, where there are any."""
    if structure.total:
        data = _with_total(data, active, batch)
    if not structure.evidence.rows:
        return data
    tests = evidence(shape, data.effect, batch, structure)
    return data._replace(
        value=data.value + tests.value,
        by_shape=tuple(own + told for own, told in zip(data.by_shape, tests.by_shape, strict=True)),
        by_effect=data.by_effect + tests.by_effect,
    )
