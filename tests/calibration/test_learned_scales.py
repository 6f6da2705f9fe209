"""Learned scales: one setting for units whose level drifts and for units whose level stands still."""

from dataclasses import replace

import numpy as np
import pytest

from mixfleet.config import Inference, Model, Override, Pooling, Prior, Simulation, Spec, build
from mixfleet.config.priors import distribution
from mixfleet.config.schema import FrozenMapping
from mixfleet.data.panel import read_panel
from mixfleet.fitting.driver import fit_units
from mixfleet.simulation import fleet as simulate

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

MODEL = build(
    Model,
    {
        "baseline": [
            {"term": "intercept"},
            {"term": "random_walk", "scale": "learned"},
            {"term": "fourier"},
        ]
    },
)
FLAT, DRIFTING = 0.01, 0.3
UNITS = 8


def known(brand: str, scale: float) -> Override:
    return Override(
        parameter="random_walk_scale",
        unit=FrozenMapping({"brand": brand}),
        hyperparameters=FrozenMapping({"mean_log": float(np.log(scale)), "sd_log": 1e-6}),
    )


@pytest.mark.slow
@pytest.mark.nightly
def test_a_level_that_drifts_and_one_that_stands_still_have_the_same_settings() -> None:
    scale = distribution("lognormal", mean_log=0.0, sd_log=1.0)
    truth = replace(
        Prior(parameters=FrozenMapping({"random_walk_scale": scale})),
        overrides=(known("brand_001", FLAT), known("brand_002", DRIFTING)),
    )
    sizes = Simulation(brands=2, markets=UNITS, weeks=130, channels=3, controls=1, truth="prior", seed=5)
    fleet = simulate.from_config(sizes, truth, MODEL, Pooling())
    panel = read_panel(fleet.table, fleet.data)
    spec = Spec(data=fleet.data, model=MODEL, inference=Inference(ess_target=1000))
    # By brand: what the fit says of the scale, in shares of the KPI's.
    drawn: dict[str, list[np.ndarray]] = {"brand_001": [], "brand_002": []}
    statuses = []
    for result in fit_units(panel, spec):
        unit = next(unit for unit in panel.units if unit.labels == result.labels)
        statuses.append(result.status)
        drawn[result.labels[0]].append(result.draws["random_walk_scale"].ravel() / unit.kpi_scale)
    assert np.mean([status in ("ok", "ok_warn", "misfit") for status in statuses]) >= 0.97
    flat, drifting = drawn.values()
    low, high = np.quantile(drifting, [0.05, 0.95], axis=1)
    assert np.mean((low < DRIFTING) & (high > DRIFTING)) > 0.7
    assert 0.7 * DRIFTING < np.median(drifting) < 1.4 * DRIFTING
    # The half-normal prior of 0.15 is drawn towards nothing where nothing moves.
    assert np.mean(np.quantile(flat, 0.05, axis=1) < FLAT) > 0.8
    assert np.median(flat) < 0.06
