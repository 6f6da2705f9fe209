"""The open tables that models are compared on, as mixfleet reads them; those outside need MIXFLEET_SHARED_DATA."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tests.support.shared_data import shared

__all__ = ["PANELS", "Panel", "cheese", "dma", "pasta", "tuna"]

MONDAY = "2014-01-06"
"""First day of tables that number their weeks and do not date them."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A table, how its columns are read, and what else every model of it has."""

    table: pd.DataFrame
    data: dict[str, Any]
    groups: dict[str, Any] = field(default_factory=dict)
    """Settings beside the data."""

    def some(self, units: int) -> pd.DataFrame:
        """Rows of so many units, spread over all of them."""
        keys = list(self.data["keys"])
        names = pd.DataFrame(sorted(set(self.table[keys].itertuples(index=False, name=None))), columns=pd.Index(keys))
        places = np.arange(min(units, len(names))) * len(names) // min(units, len(names))
        return self.table.merge(names.iloc[places], on=keys)


def dma() -> Panel:
    """95 US markets, 109 weeks, 13 channels of impressions, 7 controls."""
    table = pd.read_parquet(shared("real_dma_visits_a/data.parquet"))
    return Panel(
        table=table,
        data={
            "keys": ["market"],
            "date": "week_start",
            "kpi": "kpi_visits",
            "kpi_type": "count",
            "channels": {name[6:10]: {"impressions": name} for name in table if name.startswith("media_")},
            "controls": [name for name in table if name.startswith("ctrl_")],
        },
    )


def brands() -> Panel:
    """48 series of another simulator, 156 weeks, 8 channels with spend, 4 controls."""
    table = pd.read_parquet(shared("sim_param_recovery/brands_6x8.parquet"))
    return Panel(
        table=table,
        data={
            "keys": ["brand", "geo"],
            "kpi": "y",
            "channels": {name.split("_", 1)[1]: {"spend": name} for name in table if name.startswith("x")},
            "controls": [name for name in table if name.startswith("c")],
        },
    )


def cheese() -> Panel:
    """88 accounts, 52 to 68 weeks; display as medium, price as a control."""
    table = pd.read_csv(shared("real_cheese/data.csv"))
    table["date"] = _days(table["t"].to_numpy())
    return Panel(
        table=table,
        data={
            "keys": ["unit"],
            "kpi": "kpi_volume",
            "channels": {"display": {"impressions": "display_share"}},
            "controls": ["ctrl_price"],
        },
        groups={"model": {"seasonality": 0}},
    )


def tuna() -> Panel:
    """7 brands, 338 weeks with holes; display as medium, price and customers as controls."""
    table = pd.read_csv(shared("real_tuna/data.csv"))
    table["date"] = _days(table["week"].to_numpy())
    return Panel(
        table=table,
        data={
            "keys": ["brand"],
            "kpi": "kpi_move",
            "channels": {"display": {"impressions": "display_nsale"}},
            "controls": ["ctrl_log_price", "ctrl_log_wholesale", "ctrl_customers"],
            "gaps": "absent",
        },
    )


def pasta() -> Panel:
    """118 items of one shop, 260 weeks; days of promotion as medium, days that the shop was open as a control."""
    return Panel(
        table=pd.read_parquet(shared("real_pasta_promo/weekly.parquet")).astype({"item": str}),
        data={
            "keys": ["brand", "item"],
            "date": "week",
            "kpi": "kpi_qty",
            "kpi_type": "count",
            "channels": {"promotion": {"impressions": "promo_days"}},
            "controls": ["n_days"],
            "gaps": "absent",
        },
    )


def retailer() -> Panel:
    """One retailer, 209 weeks, 13 channels of impressions; holidays, markdowns and the economy as controls."""
    table = pd.read_csv(shared("real_retailer_weekly/data.csv")).assign(retailer="retailer")
    kinds = ("me_", "mrkdn_", "hldy_")
    return Panel(
        table=table,
        data={
            "keys": ["retailer"],
            "date": "wk_strt_dt",
            "kpi": "sales",
            "channels": {name[5:]: {"impressions": name} for name in table if name.startswith("mdip_")},
            "controls": [name for name in table if name.startswith(kinds) and len(set(table[name])) > 1],
        },
    )


def _days(weeks: np.ndarray) -> np.ndarray:
    """Of weeks that a table numbers and does not date."""
    return np.datetime64(MONDAY) + 7 * weeks.astype(int) * np.timedelta64(1, "D")


PANELS = {"dma": dma, "brands": brands, "cheese": cheese, "tuna": tuna, "retailer": retailer}
"""What reads each table."""
