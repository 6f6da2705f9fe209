"""Columns: what those of a table of tests mean, whatever tool wrote it.

| written by | columns |
|---|---|
| PyMC-Marketing, `add_lift_test_measurements` | channel, x, delta_x, delta_y, sigma |
| Robyn, `calibration_input` | channel, liftStartDate, liftEndDate, liftAbs, spend, confidence, metric |
| Meridian | channel, roi_mean, roi_sd and a period |
| GeoX (GeoexperimentsResearch) | estimate, lower, upper, level, incr.cost |
| GeoLift | incremental, ATT, Lower.Conf.Int, Upper.Conf.Int |
"""

import re
from collections.abc import Mapping, Sequence

from mixfleet.config.experiments import MEANINGS
from mixfleet.data.validation.finding import refusal

__all__ = ["meanings"]

KNOWN: Mapping[str, tuple[str, ...]] = {
    "name": ("test", "experiment", "test_name"),
    "channel": ("medium",),
    "start": ("start_date", "test_start", "date_start", "lift_start_date"),
    "end": ("end_date", "test_end", "date_end", "lift_end_date"),
    "spend_test": ("test_spend",),
    "spend_control": ("control_spend",),
    "delta_spend": ("incr_cost", "incremental_cost", "incremental_spend"),
    "lift": ("lift_abs", "incremental", "incremental_kpi"),
    "revenue": ("lift_revenue", "incremental_revenue"),
    "roi": ("roi_mean", "iroas", "roas", "iroi", "incremental_roas"),
    "se": ("sd", "sigma", "std_error", "standard_error", "stderr", "roi_sd", "lift_se"),
    "lower": ("lower_ci", "ci_lower", "lower_conf_int", "lower_bound"),
    "upper": ("upper_ci", "ci_upper", "upper_conf_int", "upper_bound"),
    "level": ("confidence", "confidence_level", "conf_level"),
}

FORMS: tuple[tuple[frozenset[str], Mapping[str, str]], ...] = (
    (frozenset({"x", "delta_x", "delta_y"}), {"delta_y": "lift"}),
    (
        frozenset({"lift_abs", "lift_start_date", "lift_end_date"}),
        # Robyn's lift is that of the spend named against none, and its confidence one less the p-value.
        {"spend": "spend_all", "confidence": "one_less_p", "metric": "metric", "calibration_scope": "scope"},
    ),
    (frozenset({"estimate", "incr_cost"}), {"estimate": "roi"}),
    (frozenset({"incremental", "att"}), {"att": "att"}),
)
"""What only means something beside others: the columns that tell a tool's table, and what its words are."""


def meanings(names: Sequence[str], chosen: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    """Which column has which meaning.

    Args:
        names: The table's columns.
        chosen: Meaning to column, from the settings.
        keys: Key columns of the panel, which keep their names.

    Raises:
        TableError: A chosen column is not there, or two columns have one meaning.
    """
    for meaning, name in chosen.items():
        if name not in names:
            message = f"data.experiments.columns.{meaning}: the table of tests has no column {name}; it has "
            raise refusal("column_missing", message + ", ".join(names), name)
    plain = {name: _plain(name) for name in names if name not in keys}
    words = {word: meaning for meaning, known in KNOWN.items() for word in known} | {name: name for name in MEANINGS}
    for told_by, form in FORMS:
        if told_by <= set(plain.values()):
            words |= form
    found: dict[str, str] = dict(chosen)
    for name, word in plain.items():
        meaning = words.get(word)
        if meaning is None or meaning in chosen or name in chosen.values():
            continue
        if meaning in found:
            message = f"columns {found[meaning]} and {name} of the table of tests both mean {meaning!r}: drop one"
            raise refusal("column_duplicate", message, name)
        found[meaning] = name
    return found


def _plain(name: str) -> str:
    """A column's name in small letters and underscores: `liftStartDate`, `Lower.Conf.Int`, `LIFT ABS`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")
