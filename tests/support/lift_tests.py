"""Units with lift tests, for tests of what stands on them."""

from dataclasses import replace
from typing import Any

import pandas as pd

from mixfleet.config import Pooling
from mixfleet.data.experiments.placement import with_experiments
from mixfleet.data.panel import Panel

__all__ = ["day", "with_tests"]


def day(panel: Panel, week: int, more: int = 0) -> str:
    """A day of a week of the panel's first unit."""
    return str(panel.units[0].dates[0] + 7 * week + more)


def with_tests(panel: Panel, rows: list[dict[str, Any]], *, window: int, pooling: Pooling | None = None) -> Panel:
    """The panel with the tests of a table of such rows."""
    units, findings = with_experiments(
        panel.units, [], panel.channels, pd.DataFrame(rows), panel.data, window=window, days=7, pooling=pooling
    )
    return replace(panel, units=units, findings=findings)
