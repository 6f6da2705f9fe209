"""The same likelihood the plain way: one unit, one point, the full covariance of its weeks, in float64 numpy."""

import math

import numpy as np
from jaxtyping import Float


def log_likelihood(
    kpi: Float[np.ndarray, " week"],
    responses: Float[np.ndarray, "week channel"],
    effect: Float[np.ndarray, " channel"],
    design: Float[np.ndarray, "week column"],
    prior_mean: Float[np.ndarray, " column"],
    prior_sd: Float[np.ndarray, " column"],
    noise: float,
) -> float:
    """Log density at kpi of a normal with the responses' mean and the full covariance of noise and linear block."""
    weeks = len(kpi)
    covariance = noise**2 * np.eye(weeks) + (design * prior_sd**2) @ design.T
    residual = kpi - responses @ effect - design @ prior_mean
    sign, log_determinant = np.linalg.slogdet(covariance)
    assert sign > 0
    squares = residual @ np.linalg.solve(covariance, residual)
    return float(-0.5 * (squares + log_determinant + weeks * math.log(2 * math.pi)))
