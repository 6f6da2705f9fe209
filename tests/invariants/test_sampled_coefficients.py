"""Coefficients of a known sign, and those whose priors are not normal, keep what all parameters keep in a fit."""

import numpy as np
import pytest

from mixfleet.config import Model, Prior, Spec, build
from tests.support.quick import digests, fit, ragged_fleet, settings, with_units


@pytest.mark.nightly
@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("observation", ["normal", "ar1"])
def test_a_fit_keeps_the_signs_and_a_unit_alone_its_bytes(observation: str) -> None:
    fleet = ragged_fleet()
    several, alone = (with_units(fleet, fleet.units[first:3]) for first in (0, 2))
    spec = settings(fleet.data, max_draws=1024)
    prior = build(Prior, {"parameters": {"trend": {"family": "student_t", "df": 5, "mean": 0, "scale": 0.2}}})
    # Of the truth's sign for a coefficient of 0.015, and then against it.
    model = Model(signs={"control_1": "negative", "sin_1": "positive"}, observation=observation)
    spec = Spec(data=spec.data, model=model, prior=prior, inference=spec.inference, compute=spec.compute)
    (labels,) = digests(alone, spec)
    assert digests(several, spec)[labels] == digests(alone, spec)[labels]
    found = fit(alone, spec)[labels]
    assert found.status.startswith("ok"), found.reason
    params = found.tables["params"]

    def told(column: str, parameter: str) -> float:
        return float(params[column][params["parameter"] == parameter][0])

    assert told("q95", "control_1") < 0 < told("q05", "sin_1")
    assert told("prior_mean", "control_1") < 0 < told("prior_mean", "sin_1")
    # Student's t of five degrees of freedom, and a normal, of one scale each.
    assert told("prior_sd", "trend") / told("prior_sd", "cos_1") == pytest.approx(2 * np.sqrt(5 / 3), rel=1e-6)
