"""How much of what the best plan would gain our plan gains, on fleets whose true curves are known.

    python -m benchmarks.reallocation simulated --units 300
    python -m benchmarks.reallocation simulated --truth fixed --units 150
    python -m benchmarks.reallocation brands

The oracle allocates the same total between the same limits on the true curves; both plans are weighed on these. Fleets
are those of `benchmarks.recovery`. With `--run` a run that was fitted before is planned. Where the plan's expected gain
is what it gains, what is missing to the oracle is what the data do not tell.
"""

import argparse
import json
import tempfile
import time
from typing import Any

import numpy as np
import pandas as pd

BRANDS = "sim_param_recovery/brands_6x8"
WEEKS = 13
LEVELS = 65


def main() -> None:
    """Fits or opens a run, plans, and prints each plan's share of the oracle's gain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fleet", choices=("simulated", "brands"))
    parser.add_argument("--units", type=int, default=300)
    parser.add_argument("--truth", choices=("prior", "fixed"), default="prior")
    parser.add_argument("--run", help="folder of a finished run of that fleet")
    arguments = parser.parse_args()
    import mixfleet as mf

    with tempfile.TemporaryDirectory() as folder:
        run = mf.open(arguments.run) if arguments.run else _fit(arguments, folder)
        if arguments.fleet == "simulated":
            contribution = simulated_truth(run, pd.read_parquet(run.path / "truth.parquet"), mf.Model())
        else:
            contribution = _brands_truth(run)
        statuses = run.status["status"]
        print(f"{statuses.str.startswith('ok').sum()} of {len(statuses)} units certified")
        for change in (0.3, 1.0):
            for flighting in ("today", "even"):
                _compare(run, contribution, change, flighting)


def _fit(arguments: argparse.Namespace, folder: str) -> Any:
    import mixfleet as mf
    from tests.support.shared_data import shared

    if arguments.fleet == "simulated":
        size = {"brands": -(-arguments.units // 15), "markets": 15, "truth": arguments.truth}
        return mf.fit(data={"source": "simulated", "simulated": size}, run={"root": folder})
    table = pd.read_parquet(shared(f"{BRANDS}.parquet"))
    channels = tuple(mf.Channel(name=name, spend=name) for name in table if name.startswith("x"))
    controls = tuple(name for name in table if name.startswith("c"))
    data = mf.Data(keys=("brand", "geo"), kpi="y", channels=channels, controls=controls)
    return mf.fit(table, data=data, model={"saturation": "hill"}, run={"root": folder})


def _compare(run: Any, contribution: Any, change: float, flighting: Any) -> None:
    from mixfleet.budgeting.outcome import outcome_of_spend
    from mixfleet.budgeting.solvers.lagrangian import allocate, interpolate

    fleet = run.fleet()
    began = time.perf_counter()
    plan = run.budget(weeks=WEEKS, change=change, flighting=flighting)
    seconds = time.perf_counter() - began
    spend_outcome = outcome_of_spend(fleet, WEEKS, even=flighting == "even")
    ours = plan.cells["spend_plan"].to_numpy()
    share = np.linspace(max(0.0, 1 - change), 1 + change, LEVELS)
    levels = spend_outcome.today[:, None] * share
    # The true outcome at every level, of our plan and of today's, cell by cell.
    wanted = np.concatenate([levels, ours[:, None], spend_outcome.today[:, None]], axis=1)
    true = true_outcome(fleet, spend_outcome, contribution, wanted)
    certified = spend_outcome.certified
    best = allocate(levels[certified], true[certified, :LEVELS], float(spend_outcome.today[certified].sum()))
    today = true[certified, -1].sum()
    gain = true[certified, -2].sum() - today
    oracle = interpolate(levels[certified], true[certified, :LEVELS], best.spend).sum() - today
    print(
        f"change {change:.0%}, flighting {flighting}: {gain / oracle:.1%} of the oracle's gain of "
        f"{oracle / today:.1%}; "
        f"expected {plan.totals['gain']['mean'] / oracle:.1%} of it; {len(ours)} cells in {seconds:.1f} s"
    )


def true_outcome(fleet: Any, spend_outcome: Any, contribution: Any, wanted: np.ndarray) -> np.ndarray:
    """KPI that each cell's spend of the coming weeks truly brings, until it has faded."""
    true = np.empty_like(wanted)
    window = fleet.spec.model.window
    for place, unit in enumerate(fleet.units):
        rows = np.flatnonzero(spend_outcome.unit == place)
        for column in range(wanted.shape[1]):
            ahead = np.zeros((WEEKS + window, unit.spend.shape[1]))
            ahead[:WEEKS, spend_outcome.channel[rows]] = (spend_outcome.pattern[rows] * wanted[rows, column][:, None]).T
            brought = contribution(unit, np.concatenate([unit.spend, ahead]))[len(unit.dates) :].sum(axis=0)
            true[rows, column] = brought[spend_outcome.channel[rows]]
    return true


def simulated_truth(run: Any, truth: pd.DataFrame, model: Any) -> Any:
    """What each channel of a unit truly brings week by week, from the parameters that a simulation drew."""
    from mixfleet.simulation.truth import saturated_adstock

    truth = truth.set_index(["brand", "market", "channel"])
    channels = run.fleet().channels

    def contribution(unit: Any, spend: np.ndarray) -> np.ndarray:
        own = truth.loc[unit.labels].reindex(channels)
        parameters = {name: own[name].fillna(0.5).to_numpy() for name in model.channel_parameters}
        largest = unit.spend.max(axis=0)
        parts = saturated_adstock(spend / np.where(largest > 0, largest, 1.0), parameters, model)
        # With fixed truth the scale is the largest KPI, as the table does not name one.
        scale = np.abs(unit.kpi).max() if unit.kpi_scale is None else unit.kpi_scale
        return parts * own["effect"].fillna(0.0).to_numpy() * scale

    return contribution


def _brands_truth(run: Any) -> Any:
    from mixfleet.config import Model
    from mixfleet.simulation.truth import saturated_adstock
    from tests.support.shared_data import shared

    brands = {
        brand["brand"]: brand["transforms"]["channels"]
        for brand in json.loads(shared(f"{BRANDS}_truth.json").read_text())
    }
    actual = pd.read_parquet(shared(f"{BRANDS}_truth_contributions.parquet"))
    channels = run.fleet().channels
    by_unit = dict(list(actual.groupby(["brand", "geo"])))
    model = Model(adstock="geometric", window=8, normalise=False, saturation="hill")

    def shapes(unit: Any, spend: np.ndarray) -> np.ndarray:
        brand, geo = unit.labels
        own = [brands[brand][name.split("_", 1)[1]][geo] for name in channels]
        parameters = {
            "decay": np.array([one["adstock_params"]["alpha"] for one in own], float),
            "slope": np.array([one["saturation_params"]["slope"] for one in own], float),
            "half_saturation": np.array([one["saturation_params"]["kappa"] for one in own], float),
        }
        return saturated_adstock(spend / unit.spend.max(axis=0), parameters, model)

    def contribution(unit: Any, spend: np.ndarray) -> np.ndarray:
        # The generator's strength of each channel, from what it says the channels brought.
        brought = by_unit[unit.labels].sort_values("date")[[f"contribution_{name}" for name in channels]].to_numpy()
        shape = shapes(unit, unit.spend)
        strength = brought.sum(axis=0) / shape.sum(axis=0)
        assert np.allclose(shape * strength, brought, rtol=1e-6, atol=1e-6 * brought.max()), unit.labels
        return shapes(unit, spend) * strength

    return contribution


if __name__ == "__main__":
    main()
