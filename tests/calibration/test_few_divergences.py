"""Units of which a few trajectories diverged have the posterior of careful runs in which none diverges."""

from pathlib import Path

import numpy as np
import pytest

import mixfleet as mf

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

CAREFUL = {"seed": 7, "target_accept": 0.95, "ess_target": 6000, "max_draws": 20_000}
KEYS = ["brand", "market"]
ALL = {"draws": "full"}
"""A thousand draws, as are usually kept, have Monte Carlo errors that would hide a shift."""


@pytest.mark.nightly
def test_few_divergences_leave_the_posterior_as_it_is(tmp_path: Path) -> None:
    fleet = mf.simulate.fleet(brands=10, markets=10)
    table = fleet.table.to_pandas()
    run = mf.fit(table, data=fleet.data, output=ALL, run={"root": str(tmp_path), "id": "usual"})
    status = run.status.query("divergences > 0 and status in ('ok', 'ok_warn')")
    assert len(status) >= 5
    careful = mf.fit(
        table.merge(status[KEYS], on=KEYS),
        data=fleet.data,
        inference=CAREFUL,
        output=ALL,
        run={"root": str(tmp_path), "id": "careful"},
    )
    calm = careful.status.query("divergences == 0")[KEYS]
    assert len(calm) >= 0.8 * len(status)
    shifts, ratios = [], []
    for _, unit in status.merge(calm, on=KEYS).iterrows():
        own, other = (one.unit(*unit[KEYS]).draws().draws["contribution"].astype(float) for one in (run, careful))
        spread = other.std(axis=(0, 1))
        shifts.append((own.mean(axis=(0, 1)) - other.mean(axis=(0, 1))) / spread)
        ratios.append(np.log(own.std(axis=(0, 1)) / spread))
        assert np.abs(shifts[-1]).max() < 5 * np.sqrt(1 / unit.ess_bulk_min + 1 / CAREFUL["ess_target"])
    for found in (shifts, ratios):
        means = np.mean(found, axis=1)
        assert abs(means.mean()) < 4 * means.std() / np.sqrt(len(means))
