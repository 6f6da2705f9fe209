"""Dataset: where the table of a run is and what its columns mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mixfleet.config import schema
from mixfleet.config.schema import Range, Reads, build
from mixfleet.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One medium: which columns hold what was paid and what was delivered."""

    name: str

    spend: str | None = None
    """Column of money paid per period; ROI needs it."""

    impressions: str | None = None
    """Column of delivery (impressions, clicks, ...); the model's media variable when given, else spend is."""

    reported: str | None = None
    """Column of what the platform itself claims, in the KPI's unit (attributed or last-click conversions); no fit
    looks at it. Cells may be missing."""

    def __post_init__(self) -> None:
        schema.settle(self, key=f"data.channels.{self.name}")
        if self.spend is None and self.impressions is None:
            raise ConfigError("needs a spend or an impressions column", key=f"data.channels.{self.name}")


def _read_channels(value: Any, key: str) -> tuple[Channel, ...]:
    """Channels as a list, of spend columns or of whole channels, or as a mapping of name to columns."""
    if isinstance(value, Mapping):
        return tuple(
            build(Channel, {**_columns(columns, f"{key}.{name}"), "name": name}, key=f"{key}.{name}")
            for name, columns in value.items()
        )
    if isinstance(value, list | tuple):
        return tuple(_read_channel(item, f"{key}[{i}]") for i, item in enumerate(value))
    raise ConfigError(f"must be a list of columns or a mapping of name to columns, is {value!r}", key=key)


def _read_channel(value: Any, key: str) -> Channel:
    if isinstance(value, str):
        return Channel(name=value, spend=value)
    return schema.convert(value, Channel, key)


def _columns(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or "name" in value:
        raise ConfigError(f"must be {{spend: column, impressions: column, reported: column}}, is {value!r}", key=key)
    return value


FEWEST_WEEKS = 4
"""Fitted periods that a unit alone needs, and from which on a pooled unit's own KPI, media and controls measure it.
With fewer the highest of them says little of the heights to come, and one more or less moves every scale."""

Count = Annotated[int, Range(1)]


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Size and truth of a simulated fleet."""

    brands: Count = 6
    markets: Count = 8
    weeks: Annotated[int, Range(8)] = 156
    channels: Count = 8
    controls: Annotated[int, Range(0)] = 2
    seed: Annotated[int, Range(0)] = 0

    ragged: bool = False
    """Units start and end at different weeks, and some lack a channel."""

    truth: Literal["prior", "fixed"] = "prior"
    """True parameters drawn from the default prior, or the same realistic values in every unit."""

    def __post_init__(self) -> None:
        schema.settle(self, key="data.simulated")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the table is and what its columns mean."""

    source: Literal["table", "example", "simulated"] = "table"

    path: str | None = None
    """File, folder or glob of CSV or Parquet; only for `source: table`, and not when a table is passed."""

    keys: tuple[str, ...] = ("brand", "market")
    """Columns that together name a unit."""

    date: str = "date"
    kpi: str = "kpi"
    channels: Annotated[tuple[Channel, ...], Reads(_read_channels)] = ()

    organic: tuple[str, ...] = ()
    """Columns of media without spend; each becomes a channel of that name."""

    treatments: tuple[str, ...] = ()
    """Columns of what the advertiser decides besides media: price, promotion."""

    controls: tuple[str, ...] = ()
    population: str | None = None
    revenue_per_kpi: str | None = None

    kpi_scale: str | None = None
    """Column with a frozen scale of the KPI, constant within a unit; otherwise its maximum is the scale."""

    kpi_type: Literal["revenue", "count"] = "revenue"
    currency: str | None = None

    layout: Literal["wide", "long"] = "wide"
    """`wide`: one row per unit and date. `long`: one row per unit, date and channel."""

    channel_column: str = "channel"
    spend_column: str | None = "spend"
    impressions_column: str | None = None

    reported_column: str | None = None
    """In a long table what `Channel.reported` is in a wide one."""

    frequency: Literal["weekly", "daily"] = "weekly"

    gaps: Literal["reject", "absent"] = "reject"
    """Units with missing dates inside: refused, or kept with those dates as not observed."""

    allow_negative_media: tuple[str, ...] = ()
    """Media columns in which negative values are meant (refunds, corrections)."""

    min_weeks: Annotated[int, Range(0)] = 26
    """Units with fewer periods to fit are rejected. Below 4 for pooled units only; at 0 also those without any KPI,
    whose rows give dates, media and controls."""

    holdout: Annotated[int | None, Range(0)] = None
    """Periods at the end of each unit that the fit does not see; unset: 0 in a run, 13 in a sweep."""

    simulated: Simulation = Simulation()

    def __post_init__(self) -> None:
        schema.settle(self, key="data")
        if not self.keys:
            raise ConfigError("must name at least one column", key="data.keys")
        if self.layout == "long" and self.spend_column is None and self.impressions_column is None:
            raise ConfigError("is required in a long table without impressions_column", key="data.spend_column")
        names = [channel.name for channel in self.channels] + list(self.organic)
        _refuse_repeats(names, "data.channels")
        _refuse_repeats([*self.controls, *self.treatments], "data.controls")
        _refuse_repeats([*self.keys, self.date, self.kpi], "data.keys")


def _refuse_repeats(names: list[str], key: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"names {name!r} twice", key=key)
