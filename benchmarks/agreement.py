"""How closely a fit's posterior is that of long float64 NUTS on the plain model, unit by unit.

    python -m benchmarks.agreement                  # ten units of different shapes and models, about an hour
    python -m benchmarks.agreement hill_208x6

The limits are those of `tests/calibration/test_same_posterior.py`, which fails where this table would show it.
"""

import argparse
import time

from tests.support.agreement import CASES, Agreement, compare, fitted, sampled, unit_of


def main() -> None:
    """Prints one line per unit: its worst mean and its standard deviations, with their Monte Carlo errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="unit", help=f"any of {', '.join(CASES)}; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the NUTS run: another seed is another reference")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"no unit {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    print("| unit | status | parameters | worst shift of a mean, sd | sd ratios | seconds, NUTS seconds |")
    print("|---|---|---|---|---|---|")
    for name in arguments.cases or CASES:
        panel, spec = unit_of(CASES[name])
        began = time.perf_counter()
        status, mine = fitted(panel, spec)
        middle = time.perf_counter()
        rows = compare(mine, sampled(panel, spec, seed=arguments.seed))
        seconds = f"{middle - began:.0f}, {time.perf_counter() - middle:.0f}"
        shift = max(rows, key=lambda row: abs(row.shift))
        low, high = min(rows, key=lambda row: row.ratio), max(rows, key=lambda row: row.ratio)
        cells = (name, status, str(len(rows)), _shift(shift), f"{_ratio(low)} to {_ratio(high)}", seconds)
        print(f"| {' | '.join(cells)} |", flush=True)


def _shift(row: Agreement) -> str:
    return f"{row.shift:+.3f} (error {row.shift_error:.3f}), {row.name}"


def _ratio(row: Agreement) -> str:
    return f"{row.ratio:.3f} (error {row.ratio_error:.3f}), {row.name},"


if __name__ == "__main__":
    main()
