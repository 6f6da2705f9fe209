"""Whether intervals hold true returns where the true curve and carry-over are of other families, and what that costs.

    python -m benchmarks.curves                                        # every table and candidate, 48 units each
    python -m benchmarks.curves --units 12 --candidates logistic hill averaged

Tables are drawn from the prior with each saturation and carry-over in turn, so what varies is the form alone; `hill` is
drawn as its prior has it, `s-shaped` with slopes around 3. Every table is fitted with each of the candidates, models of
`benchmarks.candidates` or presets. Cost is in processor seconds, compiling included, over those of the first candidate.
"""

import argparse
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.candidates import FORMS, cpu_seconds, settings

STEEP = {"family": "gamma", "shape": 36, "rate": 12}
"""Law of the slopes of S-shaped curves."""

CURVES: dict[str, tuple[str, dict[str, Any]]] = {
    "logistic": ("logistic", {}),
    "hill": ("hill", {}),
    "s-shaped": ("hill", {"parameters": {"slope": STEEP}}),
    "michaelis_menten": ("michaelis_menten", {}),
    "exponential": ("exponential", {}),
    "root": ("root", {}),
}
"""True saturation and what its truth is drawn from otherwise than usual, by name."""

CARRY_OVER = ("geometric", "weibull_pdf")


class Judged(NamedTuple):
    """What a candidate said of one table."""

    covered: float
    """Share of true returns of certified units in 90 % intervals."""
    everywhere: float
    """The same of all units, certified or not."""
    bias: float
    """Mean return over the true one, both weighted by spend."""
    width: float
    """Median width of an interval, in true returns."""
    certified: float
    doubted: float
    seconds: float


COLUMNS = {
    "covered": ".3f",
    "everywhere": ".3f",
    "bias": ".2f",
    "width": ".2f",
    "certified": ".0%",
    "doubted": ".0%",
    "seconds": ".1f",
}


def main() -> None:
    """Prints one row per table and candidate, then the range and the cost of each candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=list(CURVES))
    parser.add_argument("--carry-over", nargs="+", choices=CARRY_OVER, default=list(CARRY_OVER))
    parser.add_argument("--candidates", nargs="+", default=list(FORMS), help="of benchmarks.candidates, or presets")
    arguments = parser.parse_args()
    print("| true curve, carry-over | candidate | ROI covered | of all units | mean / true | width | certified "
          "| doubted | CPU s |")  # fmt: skip
    print("|---" * 9 + "|")
    found: dict[str, list[Judged]] = {name: [] for name in arguments.candidates}
    for curve in arguments.curves:
        for adstock in arguments.carry_over:
            for name, one in _judged(curve, adstock, arguments):
                found[name].append(one)
                cells = (f"{getattr(one, column):{form}}" for column, form in COLUMNS.items())
                print(f"| {curve}, {adstock} | {name} | {' | '.join(cells)} |", flush=True)
    print("\n| candidate | least covered | most | in all | tables of 85-95 % | cost |")
    print("|---" * 6 + "|")
    usual = sum(one.seconds for one in found[arguments.candidates[0]])
    for name, judged in found.items():
        covered = np.array([one.covered for one in judged])
        within = np.sum((covered >= 0.85) & (covered <= 0.95))
        cost = sum(one.seconds for one in judged) / usual
        print(
            f"| {name} | {covered.min():.3f} | {covered.max():.3f} | {covered.mean():.3f} | {within} of {len(covered)} "
            f"| {cost:.1f} x |"
        )


def _judged(curve: str, adstock: str, arguments: argparse.Namespace) -> Iterator[tuple[str, Judged]]:
    """What each candidate says of the table."""
    import mixfleet as mf

    saturation, prior = CURVES[curve]
    drawn = mf.Model(saturation=saturation, adstock=adstock, observation="normal")
    simulated = mf.simulate.fleet(
        brands=arguments.units, markets=1, seed=arguments.seed, model=drawn, prior=mf.config.build(mf.Prior, prior)
    )
    table, truth = simulated.table.to_pandas(), simulated.truth.to_pandas()
    for name in arguments.candidates:
        began = cpu_seconds()
        with tempfile.TemporaryDirectory() as folder:
            run = mf.fit(table, data=simulated.data, model=settings(name), run={"root": folder})
            roi, status = run.roi(), run.status["status"]
        seconds = cpu_seconds() - began
        every = roi.merge(truth[["brand", "market", "channel", "roi"]], on=["brand", "market", "channel"])
        every["inside"] = every["roi"].between(every["q05"], every["q95"])
        both = every[every["status"].str.startswith("ok")]
        yield (
            name,
            Judged(
                covered=float(both["inside"].mean()),
                everywhere=float(every["inside"].mean()),
                bias=float(np.sum(both["mean"] * both["spend"]) / np.sum(both["roi"] * both["spend"])),
                width=float(np.median((both["q95"] - both["q05"]) / both["roi"])),
                certified=float(status.str.startswith("ok").mean()),
                doubted=float((status != "ok").mean()),
                seconds=seconds,
            ),
        )


if __name__ == "__main__":
    main()
