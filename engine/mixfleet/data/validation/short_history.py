"""The KPI scale that a group of pooled units lends one whose own weeks are too few to measure it."""

import numpy as np
from jaxtyping import Bool, Float, Int

from mixfleet import config
from mixfleet.config.data import FEWEST_WEEKS
from mixfleet.data.parsed_table import ParsedTable
from mixfleet.data.validation.finding import Finding, about_unit
from mixfleet.errors import counted

__all__ = ["lend"]

LENDERS = 2
"""Units with weeks enough that a group needs to say anything of one without."""


def lend(
    sheet: ParsedTable,
    data: config.Data,
    pooling: config.Pooling,
    *,
    fitted: Bool[np.ndarray, " row"],
    usable: Bool[np.ndarray, " unit"],
) -> tuple[list[Finding], Float[np.ndarray, " unit"]]:
    """Findings about pooled units of few weeks or none, and the KPI scale that each is lent; NaN for other units.

    What is lent is the group's median of scale over yardstick, times the unit's own yardstick: its mean KPI where there
    is any, for one week tells more of a market's size than other markets do; else its population; else one.

    Args:
        sheet: The table.
        data: What its columns mean.
        pooling: Which units share hyperparameters.
        fitted: Rows that the fit will see.
        usable: Units without an error.
    """
    weeks = np.add.reduceat(fitted, sheet.start[:-1], dtype=np.int64)
    lent = np.full(len(weeks), np.nan)
    new = usable & (weeks < FEWEST_WEEKS)
    findings: list[Finding] = []
    if not new.any():
        return findings, lent
    scale, yardsticks = _sizes(sheet, fitted, weeks)
    for places in pooling.groups(data.unit_keys, sheet.labels).values():
        members = np.array(places)
        lenders = members[usable[members] & ~new[members]]
        for unit in members[new[members]]:
            labels = sheet.labels[unit]
            if fault := _refused(int(np.diff(sheet.start)[unit]), len(lenders)):
                findings.append(about_unit("few_weeks", labels, fault))
                continue
            moved = ", moved by what few weeks say" if weeks[unit] else ""
            known = counted(int(weeks[unit]), "period") if weeks[unit] else "no periods"
            words = f"{known} of KPI to fit: its posterior is its group's prediction{moved}"
            if sheet.kpi_scale is None:
                size, how = next((size, how) for size, how in yardsticks if np.all(size[[unit, *lenders]] > 0))
                lent[unit] = size[unit] * np.median(scale[lenders] / size[lenders])
                words += (
                    f"; its KPI scale {lent[unit]:.4g} is a guess, {how}, which all its totals inherit: where it is "
                    "known better say so in data.kpi_scale"
                )
            findings.append(about_unit("few_weeks", labels, words, severity="warning"))
    return findings, lent


def _sizes(
    sheet: ParsedTable, fitted: Bool[np.ndarray, " row"], weeks: Int[np.ndarray, " unit"]
) -> tuple[Float[np.ndarray, " unit"], list[tuple[Float[np.ndarray, " unit"], str]]]:
    """Each unit's own scale, and its yardsticks from the best to the worst: NaN or zero where it has none."""
    first = sheet.start[:-1]
    kpi = np.where(fitted, np.abs(np.nan_to_num(sheet.kpi.values)), 0.0)
    found = [
        (np.add.reduceat(kpi, first) / np.maximum(weeks, 1), "its mean KPI times what its group's peaks exceed it")
    ]
    if sheet.population is not None:
        found.append((sheet.population.values[first], "its group's median by population"))
    found.append((np.ones(len(weeks)), "its group's median"))
    return np.maximum.reduceat(kpi, first), found


def _refused(rows: int, lenders: int) -> str:
    """Why a unit of few weeks cannot be pooled; empty if it can."""
    if rows < 2:
        return "a single row: give at least two periods, such as those that are planned"
    if lenders < LENDERS:
        return (
            f"fewer than {FEWEST_WEEKS} periods of KPI to fit, and {counted(lenders, 'unit')} of its group with more: "
            f"at least {LENDERS} are needed; choose a wider pooling.by, or leave the unit out"
        )
    return ""
