"""Checks: every rule applied to a sheet, all findings at once."""

import numpy as np
from jaxtyping import Float

from mixfleet import config
from mixfleet.data.parsed_table import ParsedTable
from mixfleet.data.validation.calendar import check_calendar, fitted_rows
from mixfleet.data.validation.cells import check_cells, similar_labels
from mixfleet.data.validation.correlations import correlations
from mixfleet.data.validation.dependence import check_dependence
from mixfleet.data.validation.finding import Finding
from mixfleet.data.validation.later_periods import check_later_periods
from mixfleet.data.validation.series import check_series
from mixfleet.data.validation.short_history import lend
from mixfleet.data.validation.whole_table import check_whole_table

_RANK = {"error": 0, "warning": 1, "info": 2}


def check_sheet(
    sheet: ParsedTable,
    data: config.Data,
    *,
    seasonality: int,
    window: int,
    pooling: config.Pooling,
    link: str,
    trend: bool,
    today: np.datetime64,
) -> tuple[tuple[Finding, ...], Float[np.ndarray, " unit"]]:
    """All findings: those of the whole table first, then by unit, errors before warnings; and what `lend` lends."""
    fitted, moving = fitted_rows(sheet, data, window), correlations(sheet)
    findings: list[Finding] = [
        *sheet.table.findings,
        *sheet.findings,
        *check_cells(sheet, data, link=link),
        *check_calendar(sheet, data, seasonality=seasonality, pooled=pooling.by != "none", fitted=fitted, today=today),
        *check_series(sheet, moving, fitted=fitted),
        *check_whole_table(sheet, moving, data),
        *check_dependence(sheet, moving, trend=trend),
    ]
    refused = {finding.unit for finding in findings if finding.severity == "error"}
    usable = np.array([labels not in refused for labels in sheet.labels], bool)
    about_new, lent = lend(sheet, data, pooling, fitted=fitted, usable=usable)
    findings += [*about_new, *check_later_periods(sheet, fitted=fitted & usable[sheet.unit])]
    refused = {finding.unit for finding in findings if finding.severity == "error"}
    findings = sorted(findings, key=lambda f: (f.unit is not None, f.unit or (), _RANK[f.severity]))
    # Two spellings of one name come first: much of the rest follows from them.
    return (*similar_labels(sheet, refused), *findings), lent
