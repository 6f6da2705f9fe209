"""Coordinates against forty digits of mpmath, values and slopes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from mixfleet.models.priors.bijectors import log_normal_cdf, log_softplus_normal

POINTS = np.concatenate([np.linspace(-37, 12, 148), -4 + np.linspace(-1e-3, 1e-3, 11), [0.0]])
"""Both tails, and the seam between the two ways of computing."""

DIGITS = 40


def exact_log_cdf(z: float) -> mpmath.mpf:
    return mpmath.log(mpmath.erfc(-mpmath.mpf(z) / mpmath.sqrt(2)) / 2)


def exact_log_ramp(z: float) -> mpmath.mpf:
    cdf = mpmath.erfc(-mpmath.mpf(z) / mpmath.sqrt(2)) / 2
    return mpmath.log(z * cdf + mpmath.npdf(z))


def exact_log_cdf_slope(z: float) -> mpmath.mpf:
    return mpmath.npdf(z) / (mpmath.erfc(-mpmath.mpf(z) / mpmath.sqrt(2)) / 2)


def exact_log_ramp_slope(z: float) -> mpmath.mpf:
    return (mpmath.erfc(-mpmath.mpf(z) / mpmath.sqrt(2)) / 2) / mpmath.exp(exact_log_ramp(z))


def exact(function: Callable[[float], mpmath.mpf], points: np.ndarray) -> np.ndarray:
    with mpmath.workdps(DIGITS):
        return np.array([float(function(float(z))) for z in points])


FUNCTIONS = {
    "log_normal_cdf": (log_normal_cdf, exact_log_cdf, exact_log_cdf_slope),
    "log_ramp": (log_softplus_normal, exact_log_ramp, exact_log_ramp_slope),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_value_and_slope_are_exact_in_both_tails(name, dtype, tolerance):
    function, value, slope = FUNCTIONS[name]
    points = POINTS.astype(dtype)
    with jax.enable_x64(dtype is np.float64):
        both = jax.jvp(function, (jnp.asarray(points),), (jnp.ones(len(points), dtype),))
    found, found_slope = (np.asarray(part) for part in both)
    assert found.dtype == dtype
    # Near a zero of the logarithm what counts is the error of the number itself.
    expected = exact(value, points)
    assert np.max(np.abs(found - expected) / np.maximum(np.abs(expected), 1.0)) < tolerance
    # The slope is the exponential of a difference of logarithms: out in the tail it has fewer digits than they.
    expected = exact(slope, points)
    digits = np.maximum(3.0, points**2 / 50) * tolerance
    assert np.all(np.abs(found_slope - expected) < digits * np.abs(expected))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_far_out_it_stays_finite_and_increasing(name):
    points = jnp.linspace(-1e3, 1e3, 2001, dtype=np.float32)
    value, slope = jax.jvp(FUNCTIONS[name][0], (points,), (jnp.ones_like(points),))
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(slope))
    assert np.all(np.diff(value) >= 0)
