"""Checks: every rule applied to a sheet, all findings at once."""

import numpy as np

from mixfleet import config
from mixfleet.checks_calendar import check_calendar, fitted_rows
from mixfleet.checks_cell import check_cells
from mixfleet.checks_series import check_series
from mixfleet.finding import Finding
from mixfleet.sheet import Sheet

_RANK = {"error": 0, "warning": 1, "info": 2}


def check_sheet(
    sheet: Sheet, data: config.Data, *, seasonality: int, window: int, today: np.datetime64
) -> tuple[Finding, ...]:
    """All findings: those of the whole table first, then by unit, errors before warnings."""
    fitted = fitted_rows(sheet, data, window)
    findings = [
        *sheet.table.findings,
        *sheet.findings,
        *check_cells(sheet, data),
        *check_calendar(sheet, data, seasonality=seasonality, fitted=fitted, today=today),
        *check_series(sheet, fitted=fitted),
    ]
    return tuple(sorted(findings, key=lambda f: (f.unit is not None, f.unit or (), _RANK[f.severity])))
