"""Power of the model checks: how many units alarm for a fault of a stated size that was planted in them.

    python -m benchmarks.planted_faults --units 50

Units have a fixed truth (156 weeks, two channels that bring 27 % of sales, noise of 3 % of the KPI's scale); each fault
is planted in units of its own, in standard deviations of that noise, and all are fitted together.
"""

import argparse
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.candidates import settings


class Sound(NamedTuple):
    """A unit before its fault."""

    unit: pd.DataFrame
    """One row per week, from 0 on."""
    noise: float
    """Standard deviation, in KPI."""
    rng: np.random.Generator


Fault = Callable[[Sound], None]
"""Changes the columns kpi, spend_tv and spend_search of the unit."""

SEED = 3


def _one_week(one: Sound) -> None:
    one.unit.loc[one.rng.integers(20, 140), "kpi"] += 25 * one.noise


def _typo_of_spend(one: Sound) -> None:
    one.unit.loc[one.rng.integers(20, 140), "spend_tv"] = 10 * one.unit["spend_tv"].max()


def _decisive_week(one: Sound) -> None:
    week = one.rng.integers(20, 140)
    one.unit.loc[week, "spend_tv"] = 3 * one.unit["spend_tv"].max()
    one.unit.loc[week, "kpi"] += 40 * one.noise


def _lasting(one: Sound) -> None:
    level, errors = 0.0, one.rng.standard_normal(len(one.unit))
    for week, error in enumerate(errors):
        level = 0.8 * level + 0.6 * error
        one.unit.loc[week, "kpi"] += 3 * one.noise * level


def _every_year(one: Sound) -> None:
    one.unit["kpi"] += 2.5 * one.noise * np.resize(one.rng.standard_normal(52), len(one.unit))


def _uneven(one: Sound) -> None:
    high = one.unit["kpi"] > one.unit["kpi"].median()
    one.unit["kpi"] += one.noise * np.where(high, 12, 0) * one.rng.standard_normal(len(one.unit))


def _heavy(one: Sound) -> None:
    weeks = one.rng.choice(np.arange(10, 140), 3, replace=False)
    one.unit.loc[weeks, "kpi"] += 10 * one.noise * one.rng.choice([-1, 1], 3)


def _step(one: Sound) -> None:
    one.unit.loc[2 * len(one.unit) // 3 :, "kpi"] += 5 * one.noise


def _fourth_wave(one: Sound) -> None:
    one.unit["kpi"] += 1.5 * one.noise * np.sin(2 * np.pi * 4 * one.unit.index / 52 + one.rng.uniform(0, 2 * np.pi))


def _late_effect(one: Sound) -> None:
    one.unit["kpi"] += 1.5 * one.noise * np.roll(_standard(one.unit, "spend_tv"), 4)


def _months_late(one: Sound) -> None:
    for name in ("spend_tv", "spend_search"):
        one.unit["kpi"] += one.noise * sum(np.roll(_standard(one.unit, name), lag) for lag in range(6, 12))


def _convex(one: Sound) -> None:
    share = one.unit["spend_search"] / one.unit["spend_search"].max()
    one.unit["kpi"] += 8 * one.noise * share**4


def _drift(one: Sound) -> None:
    one.unit["kpi"] += 1.5 * one.noise * _standard(one.unit, "spend_tv") * np.linspace(-1.7, 1.7, len(one.unit))


def _followed(one: Sound) -> None:
    surprise = one.rng.standard_normal(len(one.unit))
    one.unit["kpi"] += 1.5 * one.noise * surprise
    one.unit["spend_search"] *= np.exp(0.5 * np.roll(surprise, 1))


def _together(one: Sound) -> None:
    one.unit["kpi"] += 1.5 * one.noise * _standard(one.unit, "spend_tv") * _standard(one.unit, "spend_search")


def _unforeseen(one: Sound) -> None:
    one.unit.loc[len(one.unit) - 52 :, "kpi"] += 6 * one.noise * np.repeat([1.0, -1.0, 1.0, -1.0], 13)


def _shuffled(one: Sound) -> None:
    one.unit["kpi"] = one.rng.permutation(one.unit["kpi"])


FAULTS: dict[str, tuple[str, Fault]] = {
    "kpi_outlier": ("one week of the KPI 25 sd too high", _one_week),
    "media_spike": ("one week's spend ten times its highest", _typo_of_spend),
    "decisive_week": ("one week with three times the highest spend and 40 sd more KPI", _decisive_week),
    "autocorrelation": ("noise of 3 sd with a correlation of 0.8 from week to week", _lasting),
    "yearly_pattern": ("a pattern of 2.5 sd by week that comes every year", _every_year),
    "uneven_noise": ("noise 12 times as large in the upper half of the KPI", _uneven),
    "heavy_tails": ("three weeks 10 sd away", _heavy),
    "level_break": ("a step of 5 sd at two thirds", _step),
    "sharp_season": ("four waves a year of 1.5 sd", _fourth_wave),
    "carry_over_form": ("an effect of 1.5 sd that comes four weeks later", _late_effect),
    "long_carry_over": (
        "an effect of two channels of 1 sd in each of the weeks from the sixth to the eleventh after",
        _months_late,
    ),
    "curve_form": ("8 sd more at the highest spend, with its fourth power", _convex),
    "drifting_effect": ("an effect that grows by 1.5 sd for each sd of time", _drift),
    "media_follow_kpi": ("spend 1.6 times as high after each 1.5 sd more KPI", _followed),
    "synergy": ("1.5 sd for each product of two channels' sd", _together),
    "forecast": ("the last four quarters 6 sd up and down", _unforeseen),
    "unexplained": ("the weeks of the KPI in random order", _shuffled),
}
"""By kind of alarm, the fault and what plants it."""


def _standard(unit: pd.DataFrame, column: str) -> np.ndarray:
    values = np.asarray(unit[column], float)
    return (values - values.mean()) / values.std()


def main() -> None:
    """Prints one row per fault."""
    import mixfleet as mf

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=50, help="of each fault")
    parser.add_argument("--preset", default="default", help="of configs/model or benchmarks.candidates, to fit with")
    arguments = parser.parse_args()
    simulated = mf.simulate.fleet(
        brands=len(FAULTS), markets=arguments.units, weeks=156, channels=2, controls=1, truth="fixed", seed=SEED
    )
    linear = simulated.truth_linear.to_pandas().pivot(index=["brand", "market"], columns="column", values="value")
    kinds = dict(zip(sorted(linear.index.unique("brand")), FAULTS, strict=True))
    units = []
    for i, (labels, unit) in enumerate(simulated.table.to_pandas().groupby(["brand", "market"])):
        own, noise = unit.reset_index(drop=True), linear.loc[labels, "noise"] * linear.loc[labels, "kpi_scale"]
        FAULTS[kinds[labels[0]]][1](Sound(own, noise, np.random.default_rng([SEED, i])))
        units.append(own)
    with tempfile.TemporaryDirectory() as folder:
        run = mf.fit(
            pd.concat(units), data=simulated.data, model=settings(arguments.preset), run={"root": folder, "id": "p"}
        )
        checks, status = run.checks(), run.status
    print("| alarm | planted | power | not plain ok |")
    print("|---" * 4 + "|")
    for brand, kind in kinds.items():
        own = checks[(checks["brand"] == brand) & (checks["kind"] == kind)]
        flagged = status.loc[status["brand"] == brand, "status"] != "ok"
        print(f"| {kind} | {FAULTS[kind][0]} | {np.mean(own['verdict'] != 'passed'):.2f} | {flagged.mean():.2f} |")


if __name__ == "__main__":
    main()
