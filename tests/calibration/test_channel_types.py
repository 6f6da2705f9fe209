"""A channel that few units have is known better where others are of its type."""

from dataclasses import replace

import numpy as np
import pytest

from mixfleet.config import Pooling, Simulation, Spec
from mixfleet.data.panel import Panel, read_panel
from mixfleet.fitting.driver import fit_units
from mixfleet.simulation import fleet as simulate

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

TYPED = Pooling(by="brand", types={"first": ["tv", "search", "social"]}, type=0.2)
MARKETS = 6


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> simulate.Simulated:
    """One brand whose channels are alike, the last of them in one market only."""
    usual = simulate._context

    def thin(labels: tuple[str, str], simulation: Simulation) -> simulate._Context:
        return replace(usual(labels, simulation), present=np.array([True, True, labels[1] == "market_001"]))

    monkeypatch.setattr(simulate, "_context", thin)
    return simulate.fleet(brands=1, markets=MARKETS, weeks=104, channels=3, controls=1, seed=5, pooling=TYPED)


def effects(panel: Panel, spec: Spec) -> np.ndarray:
    """Ends of the 90 % interval of the logarithm of each unit's effect of the thin channel, once all is certified."""
    found = []
    for result in fit_units(panel, spec):
        assert result.status.startswith("ok"), (result.status, result.reason)
        params = result.tables["params"]
        (row,) = np.flatnonzero((params["parameter"] == "effect") & (params["channel"] == "social"))
        found.append((params["q05"][row], params["q95"][row]))
    return np.log(np.array(found, float))


@pytest.mark.slow
@pytest.mark.nightly
def test_a_thin_channel_borrows_from_its_type(fleet: simulate.Simulated) -> None:
    panel = read_panel(fleet.table, fleet.data)
    alone, typed = (
        effects(panel, Spec(data=fleet.data, pooling=pooling)) for pooling in (replace(TYPED, types={}), TYPED)
    )
    assert len(alone) == len(typed) == MARKETS
    assert np.diff(typed).mean() < 0.8 * np.diff(alone).mean()
