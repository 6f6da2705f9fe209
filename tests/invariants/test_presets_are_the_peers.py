"""The presets of peers have the peers' own density: log densities that these gave, at 1,000 points, up to a constant.

`tests/support/peers` holds what PyMC-Marketing 1.3.0 and Google's Meridian 2.1.0 made of one table in float64: the
table, points in the values of their parameters, and the joint log density of parameters and KPI without any Jacobian.
The two scale KPI and coefficients as the presets do, so that only a constant is left.
"""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpyro.infer.util import log_density

from mixfleet.config import Channel, Data, Prior, Spec, build, preset, to_mapping
from mixfleet.data.panel import read_panel
from mixfleet.models.reference import media_mix, unit_arguments

PEERS = Path(__file__).parents[1] / "support" / "peers"
CHANNELS, CONTROLS = ("tv", "search", "social"), ("price", "rain")
LOG_LINK = {"effect": {"sd": 2}, "control": {"sd": 2}, "intercept": {"mean": 0, "sd": 5}, "noise": {"sd": 0.5}}
OF_CHANNELS = ("decay", "rate", "half_saturation", "effect", "roi")


@pytest.mark.parametrize("peer", ["pymc_marketing", "pymc_marketing_log", "meridian"])
def test_log_densities_differ_from_the_peers_by_a_constant(peer: str):
    frozen = np.load(PEERS / f"{peer}.npz")
    dates = np.datetime64("2022-01-03") + 7 * np.arange(len(frozen["kpi"]))
    frame = pd.DataFrame({"date": dates, "kpi": frozen["kpi"]})
    frame[list(CHANNELS)], frame[list(CONTROLS)] = frozen["spend"], frozen["controls"]
    channels = tuple(Channel(name=name, spend=name) for name in CHANNELS)
    data = Data(keys=(), channels=channels, controls=CONTROLS)
    panel = read_panel(frame, data, today=np.datetime64("2026-01-01"))
    model, prior = preset("model", peer.removesuffix("_log")), preset("prior", peer.removesuffix("_log"))
    if peer.endswith("_log"):
        # With `link="log"` that package has other priors.
        model, prior = replace(model, link="log"), build(Prior, {**to_mapping(prior), "parameters": LOG_LINK})
    spec = Spec(data=data, model=model, prior=prior)
    series, priors = unit_arguments(panel.units[0], panel, spec)
    assert series.fitted.all()
    points = {name: frozen[name].astype(float) for name in OF_CHANNELS if name in frozen}
    points["noise"] = frozen["noise"].astype(float)[:, None]
    points["coefficients"] = np.column_stack([frozen["intercept"], frozen["control"]]).astype(float)

    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        found = jax.lax.map(
            lambda point: log_density(media_mix, (series, priors, spec.model), {}, point)[0],
            jax.tree.map(jnp.asarray, points),
        )
    away = np.asarray(found) - frozen["log_density"]
    assert len(away) == 1000
    assert np.isfinite(away).all()
    assert np.ptp(frozen["log_density"]) > 1000
    np.testing.assert_allclose(away, away[0], rtol=0, atol=1e-8)
