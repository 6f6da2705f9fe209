"""Units made by hand, with every oddity that a table may hold, for tests of what stands on the panel."""

import numpy as np

from mixfleet import config
from mixfleet.data.panel import Panel, Unit


def odd_unit(
    *,
    weeks: int = 60,
    channels: int = 3,
    linear: int = 1,
    seed: int = 0,
    labels: tuple[str, ...] = ("acme", "DE"),
    absent: tuple[int, ...] = (),
    gap: slice | None = None,
    kpi_scale: float | None = None,
    value_per_kpi: float = 1.0,
    start: str = "2020-03-02",
) -> Unit:
    """A unit with weeks off air, in the units of a small market; `gap` are weeks without a row."""
    random = np.random.default_rng([seed, weeks, channels])
    bought = random.random((weeks, channels)) < 0.8
    spend = bought * random.gamma(2.0, 400.0, (weeks, channels))
    spend[:, list(absent)] = 0.0
    controls = 20 + 5 * random.standard_normal((weeks, linear))
    season = 400 * np.sin(np.arange(weeks) / 8)
    media = 900 * np.tanh(spend / 800).sum(axis=1)
    kpi = 5000 + season + media + 30 * controls.sum(axis=1) + 250 * random.standard_normal(weeks)
    observed = np.ones(weeks, bool)
    if gap is not None:
        observed[gap] = False
    there = observed[:, None]
    return Unit(
        labels=labels,
        dates=np.datetime64(start) + 7 * np.arange(weeks).astype("timedelta64[D]"),
        kpi=np.where(observed, kpi, np.nan),
        observed=observed,
        media=np.where(there, spend, 0.0),
        spend=np.where(there, spend, 0.0),
        controls=np.where(there, controls, 0.0),
        value_per_kpi=np.where(observed, value_per_kpi, 0.0),
        population=np.nan,
        kpi_scale=kpi_scale,
        warnings=(),
    )


def panel_of(*units: Unit, holdout: int = 0) -> Panel:
    """The units as a panel of brands and markets."""
    channels = tuple(f"channel_{c}" for c in range(units[0].media.shape[1]))
    controls = tuple(f"control_{k}" for k in range(units[0].controls.shape[1]))
    data = config.Data(
        channels=tuple(config.Channel(name=name, spend=f"spend_{name}") for name in channels),
        controls=controls,
        holdout=holdout or None,
    )
    return Panel(data=data, keys=data.keys, channels=channels, linear=controls, units=units, rejected=(), findings=())
