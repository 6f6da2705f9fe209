"""The model checks measured: their constants, false alarms, and what they say of worlds that break an assumption.

python -m benchmarks.model_checks constants     # quantiles behind the thresholds, from independent normal numbers
python -m benchmarks.model_checks rates         # alarms by kind in units drawn from a model's prior, fitted with it
python -m benchmarks.model_checks panels        # alarms by kind on real tables; needs MIXFLEET_SHARED_DATA
python -m benchmarks.model_checks worlds        # coverage and alarms by world; needs MIXFLEET_SHARED_DATA
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from benchmarks.candidates import settings

if TYPE_CHECKING:
    from mixfleet.simulation.fleet import Simulated

WORLDS = "sim_worlds"
NEAR = 0.1

WRONG = 0.7
"""Coverage of 90 % intervals below which a world's answer is wrong."""
FAR = 5.0
"""Posterior standard deviations from its mean at which a true return is told quite wrongly, whatever the others are."""
SAMPLES = 60_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("constants", "rates", "panels", "worlds"))
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--preset", default="default", help="of configs/model or benchmarks.candidates")
    parser.add_argument("--experiments", type=int, default=0, help="lift tests of each unit of `rates`")
    arguments = parser.parse_args()
    if arguments.what == "constants":
        _constants()
    elif arguments.what == "rates":
        _rates(arguments.units, arguments.seed, arguments.preset, arguments.experiments)
    elif arguments.what == "panels":
        _panels(arguments.preset)
    else:
        _worlds(arguments.preset)


def _constants() -> None:
    """How much further out than a normal's the quantiles lie, times the square root of the number of weeks."""
    from mixfleet.posterior.model_checks.check import FALSE_ALARMS
    from mixfleet.posterior.model_checks.residuals import LAGS, MOST, ONE_SIDED, TWO_SIDED

    rng = np.random.default_rng(0)
    for weeks in (40, 60, 104, 156, 300, 700):
        errors = rng.standard_normal((SAMPLES, weeks))
        total, variance = np.zeros(SAMPLES), 0.0
        for lag in range(1, LAGS + 1):
            weight = 2 * (1 - lag / (LAGS + 1))
            total += weight * np.sum(errors[:, lag:] * errors[:, :-lag], axis=1)
            variance += weight**2 * (weeks - lag)
        tails = np.sum(errors**4 - 6 * errors**2 + 3, axis=1) / np.sqrt(24 * weeks)
        spread = np.median(np.abs(errors), axis=1) / norm.ppf(0.75)
        outlier = np.quantile(np.max(np.abs(errors), axis=1) / spread, 1 - FALSE_ALARMS)
        first, last = (
            np.quantile(np.abs(third), MOST, axis=1) for third in (errors[:, : weeks // 3], errors[:, -(weeks // 3) :])
        )
        uneven = np.quantile(np.abs(np.log(first / last)), 1 - FALSE_ALARMS) / TWO_SIDED * np.sqrt(weeks)
        found = [
            (np.quantile(values, 1 - FALSE_ALARMS) / ONE_SIDED - 1) * np.sqrt(weeks)
            for values in (total / np.sqrt(variance), tails)
        ]
        print(
            f"{weeks} weeks: long-run variance {found[0]:.2f}, kurtosis {found[1]:.2f}, outlier {outlier:.2f} sds, "
            f"log ratio of thirds {uneven:.2f}"
        )


def _rates(units: int, seed: int, preset: str, experiments: int) -> None:
    import mixfleet as mf

    model = settings(preset)
    fleet = mf.simulate.fleet(
        brands=-(-units // 4),
        markets=4,
        weeks=104,
        channels=2,
        controls=1,
        model=model,
        seed=seed,
        experiments=experiments,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = mf.fit(
            fleet.table.to_pandas(),
            data=fleet.data,
            experiments=fleet.experiments,
            model=model,
            inference={"ess_target": 800},
            run={"root": folder, "id": "r"},
        )
        checks, status = run.checks(), run.status["status"]
    print(status.value_counts().to_string())
    print(_by_kind(checks).to_string())
    _of_the_unexplained(checks, fleet)


def _of_the_unexplained(checks: pd.DataFrame, fleet: "Simulated") -> None:
    """The check of the explained share is no test of chance: whether the noise is so large where it speaks."""
    table, linear = fleet.table.to_pandas(), fleet.truth_linear.to_pandas()
    truth = linear.pivot(index=["brand", "market"], columns="column", values="value")
    share = (truth["noise"] * truth["kpi_scale"]) ** 2 / table.groupby(["brand", "market"])["kpi"].var()
    own = checks[checks["kind"] == "unexplained"].set_index(["brand", "market"])
    alarmed, share = own["verdict"] != "passed", share.reindex(own.index)
    right = np.mean(share[alarmed] > own["threshold"].iloc[0] - NEAR)
    missed = np.mean(~alarmed[share > own["threshold"].iloc[0] + NEAR])
    print(
        f"unexplained: noise is as large a share of the KPI's variance, within {NEAR}, in {right:.1%} of those alarmed"
    )
    print(f"unexplained: {missed:.1%} of units whose noise is a larger share by more than {NEAR} are not alarmed")


def _by_kind(checks: pd.DataFrame) -> pd.DataFrame:
    by_kind = checks.groupby("kind")
    return pd.DataFrame(
        {
            "tested": by_kind["statistic"].apply(lambda own: own.notna().mean()),
            "note": by_kind["verdict"].apply(lambda own: (own == "note").mean()),
            "doubt": by_kind["verdict"].apply(lambda own: (own == "doubt").mean()),
            "misfit": by_kind["verdict"].apply(lambda own: (own == "misfit").mean()),
            "median": by_kind["statistic"].median(),
            "threshold": by_kind["threshold"].median(),
        }
    ).round(3)


def _panels(preset: str) -> None:
    """Shares of the fitted units of each table, by kind of alarm."""
    import mixfleet as mf
    from benchmarks import panels

    found, noted = {}, {}
    for read in (panels.dma, panels.cheese, panels.tuna, panels.pasta):
        panel = read()
        model = replace(settings(preset), **panel.groups.get("model", {}))
        with tempfile.TemporaryDirectory() as folder:
            run = mf.fit(panel.table, data=panel.data, model=model, run={"root": folder, "id": "r"})
            checks, status = run.checks(), run.status["status"]
        units = len(checks[panel.data["keys"]].drop_duplicates())
        spoken = checks[checks["verdict"] != "passed"]
        found[f"{read.__name__} ({units})"] = spoken.groupby("kind").size() / units
        noted[read.__name__] = spoken[spoken["verdict"] == "note"].groupby("kind").size() / units
        print(f"{read.__name__}: {', '.join(f'{name} {count}' for name, count in status.value_counts().items())}")
    for title, shares in (("all that is said", found), ("notes among it", noted)):
        table = pd.DataFrame(shares).fillna(0.0)
        print(title, table[table.max(axis=1) > 0].map("{:.0%}".format).to_string(), sep="\n")


def _worlds(preset: str) -> None:
    import mixfleet as mf
    from tests.support.shared_data import shared

    table = pd.read_parquet(shared(f"{WORLDS}/national.parquet")).astype({"seed": str})
    truth = {one["world"]: one for one in json.loads(shared(f"{WORLDS}/national_truth.json").read_text())}
    alike: dict[tuple[str, ...], list[str]] = {}
    for world, own in table.groupby("world"):
        alike.setdefault(tuple(own.columns[own.notna().any()]), []).append(str(world))
    judged = []
    for columns, worlds in alike.items():
        data = mf.Data(
            keys=("world", "seed"),
            date="week",
            kpi="sales",
            channels=tuple(mf.Channel(name=name[6:], spend=name) for name in columns if name.startswith("spend_")),
            controls=tuple(name for name in columns if name.startswith("ctrl_")),
        )
        with tempfile.TemporaryDirectory() as folder:
            rows = table.loc[table["world"].isin(worlds), list(columns)]
            run = mf.fit(rows, data=data, model=settings(preset), run={"root": folder, "id": "r"})
            roi, status, checks = run.roi(), run.status.set_index("world"), run.checks()
        for world in worlds:
            own = roi[(roi["world"] == world) & roi["channel"].isin(truth[world]["true_roas"])]
            true = own["channel"].map(truth[world]["true_roas"])
            spoken = checks[(checks["world"] == world) & (checks["verdict"] != "passed")]
            kinds = spoken["kind"].where(spoken["verdict"] != "note", spoken["kind"] + " (note)")
            inside = np.sum((true >= own["q05"]) & (true <= own["q95"]))
            away = float(np.max(np.abs(true - own["mean"]) / own["sd"]))
            # What is said of how the draws were made is no doubt about the model.
            doubted = bool(spoken["verdict"].isin(["doubt", "misfit"]).any())
            said = status.loc[world, "status"]
            certified = said == "misfit" or said.startswith("ok")
            judged.append(World(world, int(inside), len(own), away, doubted, certified, truth[world]["representable"]))
            print(
                f"{world:<24} covers {judged[-1].coverage:.2f} of {len(own)}, furthest {away:.1f} sd  {said:<8} "
                f"{', '.join(kinds)}"
            )
    _summed_up(judged)


class World(NamedTuple):
    """What a fit said of one world: true returns in 90 % intervals, and whether a check doubts the model."""

    name: str
    inside: int
    channels: int
    away: float
    """Of the furthest true return from its posterior mean, in posterior standard deviations."""
    doubted: bool
    certified: bool
    """Whether the draws are good, whatever the checks say of the model."""
    representable: bool
    """Whether the truth is one of the model's."""

    @property
    def coverage(self) -> float:
        return self.inside / self.channels

    @property
    def wrong(self) -> bool:
        return self.coverage < WRONG or self.away >= FAR


def _summed_up(worlds: Sequence[World]) -> None:
    silent = [world.name for world in worlds if world.wrong and world.certified and not world.doubted]
    harmless = [world for world in worlds if not world.wrong]
    flagged = [world.name for world in harmless if world.doubted]
    told = [world for world in worlds if world.representable]
    inside, channels = sum(world.inside for world in told), sum(world.channels for world in told)
    print(
        f"silently wrong (certified, coverage below {WRONG} or a return {FAR:g} sd away, no check doubts it): "
        f"{len(silent)} of {len(worlds)}  "
        f"{', '.join(silent)}"
    )
    print(f"doubted though none of this is so: {len(flagged)} of {len(harmless)}  {', '.join(flagged)}")
    print(f"representable worlds: {inside} of {channels} intervals hold the truth ({inside / channels:.2f})")


if __name__ == "__main__":
    main()
