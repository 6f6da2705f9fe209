"""Models that could be the default, compared by what they foretold on open tables.

    python -m benchmarks.candidates                                        # every table and candidate: hours
    python -m benchmarks.candidates --tables dma --candidates logistic logistic+ar1 --units 24 --origins 1

Each candidate is fitted as at four past days, 13 weeks apart, and judged on the 13 weeks after each: continuous ranked
probability scores in those of the same week last year and of the last week's value, where below 1 is better, and the
share of weeks in 90 % intervals. Needs MIXFLEET_SHARED_DATA.
"""

import argparse
import resource
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.panels import PANELS, Panel

if TYPE_CHECKING:
    from mixfleet.config import Model

INDEPENDENT = {"observation": "normal"}
AUTOCORRELATED = {"observation": "ar1"}
LOGISTIC = {"saturation": "logistic"}
HILL = {"saturation": "hill"}
NARROW = {"adstock": "geometric", "saturation": "michaelis_menten"}
WIDE = {"adstock": "weibull_pdf", "saturation": "hill"}

FORMS: dict[str, dict[str, Any]] = {
    "logistic": {**LOGISTIC, **INDEPENDENT},
    "logistic+ar1": {**LOGISTIC, **AUTOCORRELATED},
    "hill": {**HILL, **INDEPENDENT},
    "hill+ar1": {**HILL, **AUTOCORRELATED},
    "wide": {**WIDE, **INDEPENDENT},
    "wide+ar1": {**WIDE, **AUTOCORRELATED},
    "hill+both": {**HILL, **INDEPENDENT, "structures": [{"adstock": "geometric"}, {"adstock": "weibull_pdf"}]},
    "averaged": {**INDEPENDENT, "structures": [NARROW, WIDE]},
    "averaged+ar1": {**AUTOCORRELATED, "structures": [NARROW, WIDE]},
    "averaged+either": {
        **AUTOCORRELATED,
        "structures": [{**one, "observation": noise} for noise in ("normal", "ar1") for one in (NARROW, WIDE)],
    },
}
"""Settings of the models whose curves and carry-over are compared, by name; declared before any was."""

CANDIDATES: dict[str, dict[str, Any]] = {
    **FORMS,
    "narrow": {**NARROW, **INDEPENDENT},
    "logistic+either": {**LOGISTIC, **AUTOCORRELATED, "structures": [INDEPENDENT, AUTOCORRELATED]},
    "log": {**LOGISTIC, **INDEPENDENT, "link": "log"},
    "hill+ar1+log": {**HILL, **AUTOCORRELATED, "link": "log"},
}
"""Settings of the model, by name; declared before any was compared, but for the logarithms, which what `tuna` showed
asked for, averages over noise, which there were not then, and the two structures of `averaged` alone."""


def settings(name: str) -> "Model":
    """The model of a candidate, or of a preset of configs/model."""
    import mixfleet as mf
    from mixfleet.config import build

    return build(mf.Model, CANDIDATES[name]) if name in CANDIDATES else mf.preset("model", name)


def main() -> None:
    """Prints one row per table and candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=PANELS, default=list(PANELS))
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--units", type=int, default=1000, help="of each table, at most")
    parser.add_argument("--origins", type=int, default=4)
    arguments = parser.parse_args()
    print("| table | candidate | units | coverage | CRPS / last year's | CRPS / last value's | CRPS / logistic's "
          "| certified | misfit | autocorrelation | forecast | gradients | CPU s |")  # fmt: skip
    print("|---" * 13 + "|")
    for name in arguments.tables:
        panel, usual = PANELS[name](), None
        for candidate in arguments.candidates:
            row, scores = _judged(panel, CANDIDATES[candidate], arguments.units, arguments.origins)
            usual = scores if usual is None else usual
            both = scores.assign(crps_usual=usual["crps"]).dropna()
            row["relative"] = np.exp(np.mean(np.log(both["crps"] / both["crps_usual"])))
            cells = (name, candidate, *(f"{row[key]:{form}}" for key, form in COLUMNS.items()))
            print(f"| {' | '.join(cells)} |", flush=True)


COLUMNS = {
    "units": ".0f",
    "coverage": ".3f",
    "last_year": ".3f",
    "last_value": ".3f",
    "relative": ".3f",
    "certified": ".0%",
    "misfit": ".0%",
    "autocorrelation": ".0%",
    "forecast": ".0%",
    "gradients": ".2e",
    "cpu": ".0f",
}


def _judged(panel: Panel, model: dict[str, Any], units: int, origins: int) -> tuple[dict[str, float], pd.DataFrame]:
    import mixfleet as mf

    groups = {**panel.groups, "model": {**panel.groups.get("model", {}), **model}}
    began = cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        found = mf.backtest(
            panel.some(units), data=panel.data, origins=origins, run={"root": folder, "id": "b"}, **groups
        )
        table, runs = found.table.to_pandas(), found.runs
        status = pd.concat([run.status for run in runs])
        alarms = pd.concat([run.checks() for run in runs])
    whole = table[table["status"].notna() & (table["horizon"] == "1-13")]
    keys = [*panel.data["keys"], "origin"]
    by = {name: own.set_index(keys) for name, own in whole.groupby("forecast")}
    mine = by.pop("model")[["crps", "coverage90"]]

    def against(name: str) -> float:
        both = mine.assign(crps_other=by[name]["crps"]).dropna()
        return float(np.exp(np.mean(np.log(both["crps"] / both["crps_other"])))) if len(both) else np.nan

    def share(kind: str) -> float:
        own = alarms[alarms["kind"] == kind]
        return float(np.mean(own["verdict"] != "passed"))

    return {
        "units": float(len(mine)),
        "coverage": float(np.mean(mine["coverage90"])),
        "last_year": against("last_year"),
        "last_value": against("last_value"),
        "certified": float(np.mean(status["status"].str.startswith("ok"))),
        "misfit": float(np.mean(status["status"] == "misfit")),
        "autocorrelation": share("autocorrelation"),
        "forecast": share("forecast"),
        "gradients": float(np.sum(status["gradients"])),
        "cpu": cpu_seconds() - began,
    }, mine


def cpu_seconds() -> float:
    """That this process has used, compiling included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
