"""Whether what a plan truly gains lies in the interval that it states, where the true curves are of other families.

    python -m benchmarks.plan_gain                                     # the default model
    python -m benchmarks.plan_gain --preset averaged --units 12

Tables are drawn from the prior with each curve of `benchmarks.curves` in turn, fitted and planned with the same
settings, and the plan is weighed on the true curves.
"""

import argparse
import tempfile

import numpy as np

from benchmarks.candidates import settings
from benchmarks.curves import CURVES
from benchmarks.reallocation import WEEKS, simulated_truth, true_outcome


def main() -> None:
    """Prints one row per table, and how many stated intervals hold the true gain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=2, help="of each curve")
    parser.add_argument("--units", type=int, default=12)
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=list(CURVES))
    parser.add_argument("--preset", default="default", help="of configs/model or benchmarks.candidates")
    arguments = parser.parse_args()
    print("| true curve | seed | ROI covered | gain stated (90 %) | true gain | inside |")
    print("|---" * 6 + "|")
    inside = []
    for curve in arguments.curves:
        for seed in range(arguments.tables):
            covered, stated, true = _judged(curve, seed, arguments.units, arguments.preset)
            inside.append(bool(stated["q05"] <= true <= stated["q95"]))
            interval = f"{stated['mean']:,.0f} ({stated['q05']:,.0f} to {stated['q95']:,.0f})"
            print(f"| {curve} | {seed} | {covered:.0%} | {interval} | {true:,.0f} | {inside[-1]} |", flush=True)
    print(f"{sum(inside)} of {len(inside)} intervals hold the true gain")


def _judged(curve: str, seed: int, units: int, preset: str) -> tuple[float, dict[str, float], float]:
    """Share of ROI intervals that cover, the gain as the plan states it, and the true one."""
    import mixfleet as mf
    from mixfleet.budgeting.outcome import outcome_of_spend

    saturation, prior = CURVES[curve]
    drawn = mf.Model(saturation=saturation, observation="normal")
    simulated = mf.simulate.fleet(
        brands=units, markets=1, seed=seed, model=drawn, prior=mf.config.build(mf.Prior, prior)
    )
    truth = simulated.truth.to_pandas()
    with tempfile.TemporaryDirectory() as folder:
        run = mf.fit(simulated.table.to_pandas(), data=simulated.data, model=settings(preset), run={"root": folder})
        plan, fleet = run.budget(weeks=WEEKS), run.fleet()
        outcome = outcome_of_spend(fleet, WEEKS, even=False)
        contribution = simulated_truth(run, truth, drawn)
        spend = np.stack([plan.cells["spend_plan"].to_numpy(), outcome.today], axis=1)
        true = true_outcome(fleet, outcome, contribution, spend)[outcome.certified].sum(axis=0)
        roi = run.roi().merge(truth[["brand", "market", "channel", "roi"]], on=["brand", "market", "channel"])
        covered = roi["roi"].between(roi["q05"], roi["q95"]).mean()
        return float(covered), plan.totals["gain"], float(true[0] - true[1])


if __name__ == "__main__":
    main()
