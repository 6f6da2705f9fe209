"""How long a plan of a large fleet takes, and how it compares with the usual optimisers on the same curves.

    python -m benchmarks.budget                     # 500 units, 12 channels, 13 weeks
    python -m benchmarks.budget --units 50

The run is made up, as `tests.support.saved_run` makes them: curves of all kinds, nothing fitted. The plan is timed from
opening the run to the plan, with compiling and then without. The comparison gives every optimiser the same curves of
one unit (12 cells) or five units (60 cells), known at 129 levels, total and limits: ours; a greedy climb of the levels,
one step after the other, as Meridian's; and SLSQP from today's spend on smooth curves through them, as
PyMC-Marketing's. All plans are weighed on straight lines between the levels.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

CHANNELS, WEEKS, DRAWS = 12, 13, 1000
GRID = 129


def main() -> None:
    """Makes a run, plans it, and prints seconds and the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=500)
    parser.add_argument("--change", type=float, default=0.3)
    parser.add_argument("--flighting", choices=("today", "even", "free"), default="today")
    arguments = parser.parse_args()
    import mixfleet as mf

    with tempfile.TemporaryDirectory() as folder:
        path = _made_up(arguments.units, Path(folder)).path
        for name in ("first", "second"):
            began, used = time.perf_counter(), time.process_time()
            plan = mf.open(path).budget(weeks=WEEKS, change=arguments.change, flighting=arguments.flighting)
            print(
                f"{name} plan of {arguments.units} units x {CHANNELS} channels x {WEEKS} weeks: "
                f"{time.perf_counter() - began:.1f} s ({time.process_time() - used:.1f} CPU s), "
                f"gap {plan.totals['gap_share']:.1e}, "
                f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
            )
        _side_by_side(mf.open(path).fleet(), min(arguments.units, 20))


def _made_up(units: int, folder: Path) -> Any:
    from mixfleet.config import Model
    from mixfleet.data.panel import read_panel
    from mixfleet.simulation import fleet as simulate
    from tests.support.saved_run import saved_run

    # The slowest family, and the one with S-shaped curves.
    model = Model(saturation="hill")
    made = simulate.fleet(brands=-(-units // 10), markets=10, channels=CHANNELS, truth="fixed")
    panel = read_panel(made.table, made.data, seasonality=model.seasonality, window=model.window)
    return saved_run(folder, model, chains=4, draws=DRAWS // 4, of=panel)


def _side_by_side(fleet: Any, units: int) -> None:
    from mixfleet.budgeting.outcome import outcome_of_spend
    from mixfleet.budgeting.solvers.lagrangian import allocate, interpolate

    spend_outcome = outcome_of_spend(fleet, WEEKS)
    print("change cells problems  greedy less ours  SLSQP less ours  largest gap")
    for change in (0.3, 1.0):
        levels = spend_outcome.today[:, None] * np.linspace(max(0.0, 1 - change), 1 + change, GRID)
        expected = spend_outcome.expected(levels, 100)
        for size in (1, 5):
            worst = {"greedy": -np.inf, "slsqp": -np.inf, "gap": 0.0}
            for first in range(0, units - size + 1, size):
                rows = (spend_outcome.unit >= first) & (spend_outcome.unit < first + size)
                own, curve, total = levels[rows], expected[rows], float(spend_outcome.today[rows].sum())
                ours = allocate(own, curve, total)
                worst["gap"] = max(worst["gap"], ours.gap / ours.outcome)
                for name, spend in (("greedy", _greedy(own, curve, total)), ("slsqp", _slsqp(own, curve, total))):
                    reached = float(interpolate(own, curve, spend).sum())
                    worst[name] = max(worst[name], reached / ours.outcome - 1)
            cells, problems = size * CHANNELS, units // size
            greedy, slsqp, gap = worst.values()
            print(f"{change:6.0%} {cells:5d} {problems:8d} {greedy:17.1e} {slsqp:16.1e} {gap:12.1e}")


def _greedy(levels: np.ndarray, outcome: np.ndarray, total: float) -> np.ndarray:
    """From the lowest spends, the step that earns most per money, again and again while the total lasts."""
    rows, place = np.arange(len(levels)), np.zeros(len(levels), int)
    left = total - levels[:, 0].sum()
    while True:
        after = np.minimum(place + 1, levels.shape[1] - 1)
        cost = levels[rows, after] - levels[rows, place]
        room = (cost > 0) & (cost <= left)
        if not room.any():
            return levels[rows, place]
        gain = np.where(room, (outcome[rows, after] - outcome[rows, place]) / np.where(room, cost, 1.0), -np.inf)
        best = int(np.argmax(gain))
        place[best] += 1
        left -= cost[best]


def _slsqp(levels: np.ndarray, outcome: np.ndarray, total: float) -> np.ndarray:
    from scipy.interpolate import PchipInterpolator
    from scipy.optimize import minimize

    size, worth = levels[:, -1], float(outcome.sum())
    # A gradient method is owed curves without corners.
    curves = [PchipInterpolator(own, curve) for own, curve in zip(levels, outcome, strict=True)]
    steep = [curve.derivative() for curve in curves]

    def negative(share: np.ndarray) -> tuple[float, np.ndarray]:
        spend = share * size
        reached = sum(float(curve(x)) for curve, x in zip(curves, spend, strict=True))
        slope = np.array([float(one(x)) for one, x in zip(steep, spend, strict=True)])
        return -reached / worth, -slope * size / worth

    middle = (levels[:, 0] + levels[:, -1]) / 2 / size
    whole = {"type": "eq", "fun": lambda share: share @ size / total - 1, "jac": lambda _: size / total}
    limits = list(zip(levels[:, 0] / size, np.ones(len(size)), strict=True))
    options = {"maxiter": 1000, "ftol": 1e-9}
    found = minimize(negative, middle, jac=True, method="SLSQP", bounds=limits, constraints=whole, options=options)
    spend = np.clip(found.x * size, levels[:, 0], levels[:, -1])
    # What a stopped search leaves over or under is spread, so that all spend the same.
    off = total - spend.sum()
    room = levels[:, -1] - spend if off > 0 else spend - levels[:, 0]
    return spend + off * room / max(room.sum(), 1e-300)


if __name__ == "__main__":
    main()
