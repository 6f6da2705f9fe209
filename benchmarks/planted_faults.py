"""Power of the model checks: how many units alarm for a fault of a stated size that was planted in them.

    python -m benchmarks.planted_faults --units 50
    python -m benchmarks.planted_faults --kinds level_break --times 0.5 1 2    # at other multiples of the stated sizes

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
    brings: float
    """What tv brings in all weeks, in KPI."""
    tests: list[dict[str, object]]
    """Takes rows of lift tests, without the keys."""
    rng: np.random.Generator


class Fault(NamedTuple):
    """What is planted for one kind of alarm."""

    said: str
    """What it is, with a place for its size."""
    plant: Callable[[Sound, float], None]
    """Changes the columns kpi, spend_tv and spend_search of the unit."""
    size: float


SEED = 3

EXACT = 0.15
"""Standard error of a lift test, in shares of what it finds."""


def _one_week(one: Sound, size: float) -> None:
    one.unit.loc[one.rng.integers(20, 140), "kpi"] += size * one.noise


def _typo_of_spend(one: Sound, size: float) -> None:
    one.unit.loc[one.rng.integers(20, 140), "spend_tv"] = size * one.unit["spend_tv"].max()


def _decisive_week(one: Sound, size: float) -> None:
    week = one.rng.integers(20, 140)
    one.unit.loc[week, "spend_tv"] = 3 * one.unit["spend_tv"].max()
    one.unit.loc[week, "kpi"] += size * one.noise


def _bent(one: Sound, size: float) -> None:
    one.unit["kpi"] += size * one.noise * np.sin(3 * np.pi * one.unit.index / len(one.unit))


def _every_year(one: Sound, size: float) -> None:
    one.unit["kpi"] += size * one.noise * np.resize(one.rng.standard_normal(52), len(one.unit))


def _uneven(one: Sound, size: float) -> None:
    high = one.unit["kpi"] > one.unit["kpi"].median()
    one.unit["kpi"] += one.noise * np.where(high, size, 0) * one.rng.standard_normal(len(one.unit))


def _in_per_cent(one: Sound, size: float) -> None:
    wave = np.sin(2 * np.pi * one.unit.index / 52)
    one.unit["kpi"] *= np.exp(np.log(size) * wave + 0.2 * one.rng.standard_normal(len(one.unit)))


def _heavy(one: Sound, size: float) -> None:
    weeks = one.rng.choice(np.arange(10, 140), 3, replace=False)
    one.unit.loc[weeks, "kpi"] += size * one.noise * one.rng.choice([-1, 1], 3)


def _step(one: Sound, size: float) -> None:
    one.unit.loc[2 * len(one.unit) // 3 :, "kpi"] += size * one.noise


def _fourth_wave(one: Sound, size: float) -> None:
    wave = np.sin(2 * np.pi * 4 * one.unit.index / 52 + one.rng.uniform(0, 2 * np.pi))
    one.unit["kpi"] += size * one.noise * wave


def _late_effect(one: Sound, size: float) -> None:
    one.unit["kpi"] += size * one.noise * np.roll(_standard(one.unit, "spend_tv"), 4)


def _months_late(one: Sound, size: float) -> None:
    for name in ("spend_tv", "spend_search"):
        late = sum(np.roll(_standard(one.unit, name), lag) for lag in range(6, 12))
        one.unit["kpi"] += size * one.noise * late


def _falling(one: Sound, size: float) -> None:
    share = one.unit["spend_search"] / one.unit["spend_search"].max()
    one.unit["kpi"] -= size * one.noise * share**2


def _drift(one: Sound, size: float) -> None:
    time = np.linspace(-1.7, 1.7, len(one.unit))
    one.unit["kpi"] += size * one.noise * _standard(one.unit, "spend_tv") * time


def _followed(one: Sound, size: float) -> None:
    surprise = one.rng.standard_normal(len(one.unit))
    one.unit["kpi"] += size * one.noise * surprise
    one.unit["spend_search"] *= np.exp(0.5 * np.roll(surprise, 1))


def _together(one: Sound, size: float) -> None:
    one.unit["kpi"] += size * one.noise * _standard(one.unit, "spend_tv") * _standard(one.unit, "spend_search")


def _unforeseen(one: Sound, size: float) -> None:
    one.unit.loc[len(one.unit) - 52 :, "kpi"] += size * one.noise * np.repeat([1.0, -1.0, 1.0, -1.0], 13)


def _shuffled(one: Sound, size: float) -> None:
    moved = one.rng.permutation(len(one.unit))[: int(size * len(one.unit))]
    one.unit.loc[moved, "kpi"] = one.unit.loc[np.roll(moved, 1), "kpi"].to_numpy()


def _contrary_test(one: Sound, size: float) -> None:
    first, last = one.unit["date"].iloc[0], one.unit["date"].iloc[-1] + np.timedelta64(6, "D")
    days = {"start": str(first)[:10], "end": str(last)[:10], "measured_until": str(last)[:10]}
    found = {"lift": -size * one.brings, "se": EXACT * size * one.brings}
    one.tests.append({"channel": "tv", "factor": 0.0, **days, **found})


FAULTS = {
    "kpi_outlier": Fault("one week of the KPI {:g} sd too high", _one_week, 25),
    "media_spike": Fault("one week's spend {:g} times its highest", _typo_of_spend, 10),
    "decisive_week": Fault("one week with three times the highest spend and {:g} sd more KPI", _decisive_week, 40),
    "autocorrelation": Fault("a level that goes up by {:g} sd, down and up again in three years", _bent, 10),
    "yearly_pattern": Fault("a pattern of {:g} sd by week that comes every year", _every_year, 2.5),
    "uneven_noise": Fault("noise {:g} times as large in the upper half of the KPI", _uneven, 12),
    "link": Fault("all sales {:g} times up and down over the year, with noise of 20 % of them", _in_per_cent, 2),
    "heavy_tails": Fault("three weeks {:g} sd away", _heavy, 10),
    "level_break": Fault("a step of {:g} sd at two thirds", _step, 5),
    "sharp_season": Fault("four waves a year of {:g} sd", _fourth_wave, 1.5),
    "carry_over_form": Fault("an effect of {:g} sd that comes four weeks later", _late_effect, 1.5),
    "long_carry_over": Fault(
        "an effect of two channels of {:g} sd in each of the weeks from the sixth to the eleventh after",
        _months_late,
        3,
    ),
    "curve_form": Fault("{:g} sd less at the highest spend, with its square, so that more sells less", _falling, 8),
    "drifting_effect": Fault("an effect that grows by {:g} sd for each sd of time", _drift, 1.5),
    "media_follow_kpi": Fault("spend 1.6 times as high after each {:g} sd more KPI", _followed, 1.5),
    "synergy": Fault("{:g} sd for each product of two channels' sd", _together, 1.5),
    "forecast": Fault("the last four quarters {:g} sd up and down", _unforeseen, 6),
    "experiment_conflict": Fault(
        "a lift test that finds {:g} times what tv brings, give or take 15 %", _contrary_test, 3
    ),
    "unexplained": Fault("{:.0%} of the weeks of the KPI in random order", _shuffled, 1),
}
"""By kind of alarm."""


def _standard(unit: pd.DataFrame, column: str) -> np.ndarray:
    values = np.asarray(unit[column], float)
    return (values - values.mean()) / values.std()


def main() -> None:
    """Prints one row per fault and size."""
    import mixfleet as mf

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=50, help="of each fault")
    parser.add_argument("--preset", default="default", help="of configs/model or benchmarks.candidates, to fit with")
    parser.add_argument("--kinds", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--times", nargs="+", type=float, default=[1.0], help="multiples of the stated sizes")
    arguments = parser.parse_args()
    asked = [(kind, times) for kind in arguments.kinds for times in arguments.times]
    simulated = mf.simulate.fleet(
        brands=len(asked), markets=arguments.units, weeks=156, channels=2, controls=1, truth="fixed", seed=SEED
    )
    linear = simulated.truth_linear.to_pandas().pivot(index=["brand", "market"], columns="column", values="value")
    truth = simulated.truth.to_pandas()
    brings = truth[truth["channel"] == "tv"].set_index(["brand", "market"])["contribution"]
    planted = dict(zip(sorted(linear.index.unique("brand")), asked, strict=True))
    units, tests = [], list[dict[str, object]]()
    for i, (labels, unit) in enumerate(simulated.table.to_pandas().groupby(["brand", "market"])):
        own, noise = unit.reset_index(drop=True), linear.loc[labels, "noise"] * linear.loc[labels, "kpi_scale"]
        kind, times = planted[labels[0]]
        sound = Sound(own, noise, brings[labels], [], np.random.default_rng([SEED, i]))
        FAULTS[kind].plant(sound, times * FAULTS[kind].size)
        units.append(own)
        tests += [{"brand": labels[0], "market": labels[1], **test} for test in sound.tests]
    with tempfile.TemporaryDirectory() as folder:
        run = mf.fit(
            pd.concat(units),
            data=simulated.data,
            experiments=pd.DataFrame(tests) if tests else None,
            model=settings(arguments.preset),
            run={"root": folder, "id": "p"},
        )
        checks, status = run.checks(), run.status
    print("| alarm | planted | power | doubted | not plain ok |")
    print("|---" * 5 + "|")
    for brand, (kind, times) in planted.items():
        own = checks.loc[(checks["brand"] == brand) & (checks["kind"] == kind), "verdict"]
        flagged = np.mean(status.loc[status["brand"] == brand, "status"] != "ok")
        said = FAULTS[kind].said.format(times * FAULTS[kind].size)
        print(f"| {kind} | {said} | {np.mean(own != 'passed'):.2f} | {_doubted(own):.2f} | {flagged:.2f} |")


def _doubted(verdicts: pd.Series) -> float:
    return float(np.mean(verdicts.isin(["doubt", "misfit"])))


if __name__ == "__main__":
    main()
