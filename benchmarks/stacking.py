"""Weights of averaged structures, from weeks left out one by one, against those from weeks that had not come.

    python -m benchmarks.stacking --table dma --units 50 --origins 6 --weeks 8

The average is fitted to the whole table, and as at several past days; what came in the weeks after each is told by the
fit as at that day, so that nothing is left out by weights of draws. Both densities are stacked by one rule. The last
column is the standard error of the weights from weeks that had not come, by bootstrap of each unit's weeks; the line
below says by how much the last structure's log density of a week is above the first's, the further ahead a week lies.
Tables but for `simulated` need MIXFLEET_SHARED_DATA.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from benchmarks.candidates import CANDIDATES
from benchmarks.panels import PANELS

if TYPE_CHECKING:
    from mixfleet.posterior.unit_series import UnitSeries
    from mixfleet.run import Run

SEED, SAMPLES = 5, 40

Unit = tuple[str, ...]
Densities = Mapping[Unit, np.ndarray]
"""By unit, log densities by week and structure."""


def main() -> None:
    """Prints one row per set of weeks that were left out."""
    import mixfleet as mf

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=[*PANELS, "simulated"], default="dma")
    averages = [name for name, own in CANDIDATES.items() if "structures" in own]
    parser.add_argument("--candidate", choices=averages, default="averaged")
    parser.add_argument("--units", type=int, default=50)
    parser.add_argument("--origins", type=int, default=6)
    parser.add_argument("--weeks", type=int, default=8, help="from one origin to the next")
    arguments = parser.parse_args()
    table, groups = _table(arguments.table, arguments.units)
    groups["model"] = {**groups.get("model", {}), **CANDIDATES[arguments.candidate]}
    with tempfile.TemporaryDirectory() as folder:
        whole = mf.fit(table, run={"root": folder, "id": "whole"}, **groups)
        past = mf.backtest(
            table, origins=arguments.origins, horizon=arguments.weeks, run={"root": folder, "id": "past"}, **groups
        )
        later = [_together([_foretold(one, arguments.weeks) for one in _structures(run)]) for run in past.runs]
        one_by_one = _together([_left_out(run) for run in _structures(whole)])
    _print(one_by_one, later, arguments.origins * arguments.weeks)


def _table(name: str, units: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    import mixfleet as mf

    if name == "simulated":
        fleet = mf.simulate.fleet(brands=-(-units // 5), markets=5, weeks=156, channels=4, seed=SEED)
        return fleet.table.to_pandas(), {"data": fleet.data}
    panel = PANELS[name]()
    return panel.some(units), {"data": panel.data, **panel.groups}


def _structures(run: "Run") -> list["Run"]:
    """The run of each structure, in their order."""
    import mixfleet as mf

    names = dict.fromkeys(run.table("structures")["structure"].to_pylist())
    return [mf.open(f"{run.path}.structures/{name.replace(', ', '-')}") for name in names]


def _foretold(run: "Run", weeks: int) -> dict[Unit, np.ndarray]:
    """Log density of each of the first weeks that the run held out, of certified units."""
    import jax

    from mixfleet.posterior.counterfactual import weekly
    from mixfleet.posterior.log_densities import log_likelihood
    from mixfleet.posterior.unit_result import CERTIFIED

    fleet = run.fleet()

    def work(place: int, series: "UnitSeries") -> np.ndarray:
        unit = fleet.units[place]
        week, origin = np.arange(len(unit.dates)), len(unit.dates) - (fleet.spec.data.holdout or 0)
        # Noise that lasts is told from the weeks before, of which the last are the fit's.
        known = series.counted[: len(week)] & (week < origin + weeks)
        with jax.enable_x64(True):
            media = np.asarray(weekly(series.media, series.curves, term=fleet.term))
        density = log_likelihood(unit, series, media, known, fleet.spec.model)[:, week[known] >= origin]
        return logsumexp(density, axis=0) - np.log(len(density))

    found = zip(fleet.units, fleet.statuses, fleet.walk(work), strict=True)
    return {unit.labels: density for unit, status, density in found if status in CERTIFIED | {"misfit"}}


def _left_out(run: "Run") -> dict[Unit, np.ndarray]:
    """Log density of each fitted week given all others, NaN where it cannot be told, of certified units."""
    import jax

    from mixfleet.fitting.executors.carry import Base
    from mixfleet.models.batch import prepare
    from mixfleet.posterior.importance import BAD_TAIL
    from mixfleet.posterior.structures.mixture import StructureFit, score_of
    from mixfleet.posterior.unit_result import CERTIFIED
    from mixfleet.storage.reader import read_run

    fleet, base, found = run.fleet(), Base(read_run(run.path)), {}
    with jax.enable_x64(True):
        for unit, status, row in zip(fleet.units, fleet.statuses, fleet.rows, strict=True):
            if status in CERTIFIED | {"misfit"}:
                member = prepare(unit, fleet.panel, fleet.spec)
                score = score_of(StructureFit("", fleet.spec, member, fleet.term, base.result(row)), fleet.panel)
                found[unit.labels] = np.where(score.shape > BAD_TAIL, np.nan, score.log_density)
    return found


def _together(structures: Sequence[Mapping[Unit, np.ndarray]]) -> Densities:
    """Of the units that every structure tells."""
    units = set(structures[0]).intersection(*structures)
    return {unit: np.stack([own[unit] for own in structures], axis=1) for unit in sorted(units)}


def _print(one_by_one: Densities, later: Sequence[Densities], weeks: int) -> None:
    units = sorted(set(one_by_one).intersection(*later))
    come = {unit: np.concatenate([own[unit] for own in later]) for unit in units}
    left = {
        "all weeks": {unit: _known(one_by_one[unit]) for unit in units},
        "the weeks that had not come": {unit: _known(one_by_one[unit][-weeks:]) for unit in units},
    }
    usual, rng = _weights(come), np.random.default_rng(SEED)
    again = [
        _weights({unit: own[rng.integers(0, len(own), len(own))] for unit, own in come.items()}) for _ in range(SAMPLES)
    ]
    error = float(np.std(again, axis=0).mean())
    print("| left out one by one | units | first structure's mean weight; of weeks that had not come "
          "| mean difference | largest | within 0.05 | a weight's standard error |")  # fmt: skip
    print("|---" * 7 + "|")
    for name, own in left.items():
        found = _weights(own)
        away = np.abs(found - usual).max(axis=1)
        print(
            f"| {name} | {len(units)} | {found[:, 0].mean():.3f}; {usual[:, 0].mean():.3f} | {away.mean():.3f} "
            f"| {away.max():.3f} | {np.mean(away <= 0.05):.0%} | {error:.3f} |"
        )
    alone = np.concatenate([np.diff(own[:, [0, -1]]) for own in left["all weeks"].values()]).mean()
    ahead = np.mean([own[unit][:, -1] - own[unit][:, 0] for own in later for unit in units], axis=0)
    print(f"log density left out {alone:.2f} higher; by weeks ahead {' '.join(f'{one:.2f}' for one in ahead)} higher")


def _known(density: np.ndarray) -> np.ndarray:
    return density[np.isfinite(density).all(axis=1)]


def _weights(densities: Densities) -> np.ndarray:
    """Each unit's, as a fit of the average has them."""
    from mixfleet.posterior.structures.stacking import fleet_weights, stacked

    fleet = fleet_weights(list(densities.values()), next(iter(densities.values())).shape[1])
    return np.array([stacked(own, fleet) for own in densities.values()])


if __name__ == "__main__":
    main()
