"""Dataset: where the table of a run is and what its columns mean."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from mixfleet.config import schema
from mixfleet.config.experiments import Experiments, read_experiments
from mixfleet.config.lake import Lake
from mixfleet.config.schema import Label, Range, Reads, build
from mixfleet.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One medium: which columns hold what was paid and what was delivered."""

    name: Label

    spend: Label | None = None
    """Column of money paid per period; ROI needs it."""

    impressions: Label | None = None
    """Column of delivery (impressions, clicks, ...); the model's media variable when given, else spend is."""

    reported: Label | None = None
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
            build(
                Channel,
                {**_settings(columns, f"{key}.{name}", _CHANNEL), "name": name},
                key=f"{key}.{name}",
            )
            for name, columns in value.items()
        )
    if isinstance(value, list | tuple):
        return tuple(_read_channel(item, f"{key}[{i}]") for i, item in enumerate(value))
    raise ConfigError(f"must be a list of columns or a mapping of name to columns, is {value!r}", key=key)


def _read_channel(value: Any, key: str) -> Channel:
    if not isinstance(value, str | int | float):
        return schema.convert(value, Channel, key)
    name = schema.read_label(value, key)
    return Channel(name=name, spend=name)


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """What the advertiser decides besides media, such as a price: a column whose contribution is told against a value.

    Source: `non_media_baseline_values` of Google's Meridian.
    """

    name: Label
    """The column."""

    baseline: Literal["min", "max"] | float = "min"
    """Value that brings nothing: the unit's least or greatest over the fitted periods, or a number in the column's
    unit. The rest of what the column explains is part of the baseline."""

    form: Literal["linear", "log"] = "linear"
    """`log`: the KPI moves with the column's logarithm, as with a price; its values must be above zero."""

    def __post_init__(self) -> None:
        schema.settle(self, key=f"data.treatments.{self.name}")
        if self.form == "log" and not isinstance(self.baseline, str) and self.baseline <= 0:
            raise ConfigError(
                f"must be above 0 in the log form, is {self.baseline:g}", key=f"data.treatments.{self.name}.baseline"
            )


def _read_treatments(value: Any, key: str) -> tuple[Treatment, ...]:
    """Treatments as a list, of columns or of whole treatments, or as a mapping of column to what holds of it."""
    if isinstance(value, Mapping):
        return tuple(
            build(Treatment, {**_settings(own or {}, f"{key}.{name}", _TREATMENT), "name": name}, key=f"{key}.{name}")
            for name, own in value.items()
        )
    if isinstance(value, list | tuple):
        return tuple(_read_treatment(item, f"{key}[{i}]") for i, item in enumerate(value))
    raise ConfigError(f"must be a list of columns or a mapping of column to settings, is {value!r}", key=key)


def _read_treatment(value: Any, key: str) -> Treatment:
    if not isinstance(value, str | int):
        return schema.convert(value, Treatment, key)
    return Treatment(name=schema.read_label(value, key))


_CHANNEL = "{spend: column, impressions: column, reported: column}"
_TREATMENT = "{baseline: min, max or a number, form: linear or log}"


def _settings(value: Any, key: str, words: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or "name" in value:
        raise ConfigError(f"must be {words}, is {value!r}", key=key)
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

    experiments: Annotated[int, Range(0)] = 0
    """Lift tests of every unit."""

    joint_experiments: Annotated[int, Range(0)] = 0
    """Lift tests of every brand that measure all its markets together; a fit of them needs these pooled."""

    ragged: bool = False
    """Units start and end at different weeks, and some lack a channel."""

    truth: Literal["prior", "fixed"] = "prior"
    """True parameters drawn from the default prior, or the same realistic values in every unit."""

    def __post_init__(self) -> None:
        schema.settle(self, key="data.simulated")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the table is and what its columns mean."""

    source: Literal["table", "example", "simulated", "lake"] = "table"
    """A table, the bundled one, a simulated one, or what a query makes of several sources (`data.lake`)."""

    path: str | None = None
    """File, folder or glob of CSV, Excel or Parquet; only for `source: table`, and not when a table is passed. The
    folders `brand=acme/` of a partitioned table are columns."""

    keys: tuple[Label, ...] = ("brand", "market")
    """Columns that together name a unit; an empty list for a table of one series."""

    date: Label = "date"

    date_format: str | None = None
    """How dates are written, such as `DD.MM.YYYY` or `%d.%m.%Y`; unset: YYYY-MM-DD, or what all dates of the column
    can only be."""

    decimal: Literal["auto", "point", "comma"] = "auto"
    """Decimal mark of numbers in text files; the other one then marks thousands, where it is used. `auto`: a comma
    where the columns' cells can only be read so, and commas of thousands where some cells can have no others."""

    encoding: str | None = None
    """Encoding of text files, such as `cp1252` (Excel's own in western Europe); unset: UTF-8, or UTF-16 with its
    mark."""

    kpi: Label = "kpi"
    channels: Annotated[tuple[Channel, ...], Reads(_read_channels)] = ()

    organic: tuple[Label, ...] = ()
    """Columns of media without spend; each becomes a channel of that name."""

    treatments: Annotated[tuple[Treatment, ...], Reads(_read_treatments)] = ()
    """What the advertiser decides besides media: `[promotion]`, or `{price: {baseline: max, form: log}}`."""

    controls: tuple[Label, ...] = ()
    population: Label | None = None
    """Column of people in a unit, by which a group lends a KPI scale to a unit of few periods. Nothing is per head:
    every unit has scales of its own, in which its population would cancel."""

    revenue_per_kpi: Label | None = None

    kpi_scale: Label | None = None
    """Column with a frozen scale of the KPI, constant within a unit; otherwise its maximum is the scale."""

    kpi_type: Literal["revenue", "count"] = "revenue"
    """`count` where the KPI is no money: values below zero are then a doubt, customers may have a value, and without
    `revenue_per_kpi` an ROI is KPI per unit of spend. The model and its priors are the same."""

    currency: str | None = None

    layout: Literal["wide", "long"] = "wide"
    """`wide`: one row per unit and date. `long`: one row per unit, date and channel."""

    channel_column: Label = "channel"
    spend_column: Label | None = "spend"
    impressions_column: Label | None = None

    reported_column: Label | None = None
    """In a long table what `Channel.reported` is in a wide one."""

    repeated_rows: Literal["reject", "add"] = "reject"
    """Several rows of a long table for one unit, date and channel: refused, or added up, as campaigns are."""

    frequency: Literal["weekly", "daily"] = "weekly"

    gaps: Literal["reject", "absent"] = "reject"
    """Units with missing dates inside, or dates without KPI: refused, or kept with those dates as not observed. Media
    of dates without KPI count as history."""

    allow_negative_media: tuple[Label, ...] = ()
    """Media columns in which negative values are meant (credit notes, corrections). They count as money returned, not
    as advertising undone: where spend is the media variable it is zero there."""

    min_weeks: Annotated[int, Range(0)] = 26
    """Units with fewer periods to fit are rejected. Below 4 for pooled units only; at 0 also those without any KPI,
    whose rows give dates, media and controls."""

    holdout: Annotated[int | None, Range(0)] = None
    """Periods at the end of each unit that the fit does not see; unset: 0 in a run, 13 in a sweep."""

    experiments: Annotated[Experiments, Reads(read_experiments)] = Experiments()
    """Lift tests, or the path of their table."""

    simulated: Simulation = Simulation()

    lake: Lake = field(default_factory=Lake)

    def __post_init__(self) -> None:
        schema.settle(self, key="data")
        if self.source == "lake" and not self.lake.sources:
            raise ConfigError("names no source", key="data.lake.sources")
        if self.layout == "long" and self.spend_column is None and self.impressions_column is None:
            raise ConfigError("is required in a long table without impressions_column", key="data.spend_column")
        names = [channel.name for channel in self.channels] + list(self.organic)
        _refuse_repeats(names, "data.channels")
        _refuse_repeats([*self.linear], "data.controls")
        by_row = [self.channel_column] if self.layout == "long" else []
        _refuse_repeats([*self.keys, self.date, self.kpi, *by_row], "data.keys")
        self._refuse_named_twice()
        if self.date_format is not None and not _names_a_day(self.date_format):
            raise ConfigError(
                f"must name day, month and year, such as DD.MM.YYYY, is {self.date_format!r}", key="data.date_format"
            )
        refuse_reserved(names, "data.channels")
        refuse_reserved(self.linear, "data.controls")
        if both := sorted(set(names) & {*self.linear}):
            raise ConfigError(f"{both[0]!r} is a channel too: rename one of them", key="data.controls")

    @property
    def linear(self) -> tuple[str, ...]:
        """Columns of the controls, then of the treatments."""
        return (*self.controls, *(treatment.name for treatment in self.treatments))

    @property
    def unit_keys(self) -> tuple[str, ...]:
        """Key columns of the results: those of the table, or one that names its only series."""
        return self.keys or (SERIES_KEY,)

    def _refuse_named_twice(self) -> None:
        """Refuses columns that explain the KPI and are the KPI, the date or a key."""
        media = [(f"data.channels.{c.name}", name) for c in self.channels for name in (c.spend, c.impressions)]
        single = [(f"data.{name}", getattr(self, name)) for name in ("population", "revenue_per_kpi")]
        lists = [
            *((f"data.{name}", item) for name in ("organic", "controls") for item in getattr(self, name)),
            *(("data.treatments", treatment.name) for treatment in self.treatments),
        ]
        for key, column in (*media, *single, *lists):
            if column == self.kpi:
                raise ConfigError(
                    f"{column!r} is the KPI (data.kpi), which cannot explain itself: leave it out", key=key
                )
            if column == self.date or column in self.keys:
                what = "the dates (data.date)" if column == self.date else "a key (data.keys)"
                raise ConfigError(f"{column!r} is the column of {what}, which holds no numbers: leave it out", key=key)


def _names_a_day(form: str) -> bool:
    pieces = (("%d",), ("%m", "%b", "%B"), ("%Y", "%y")) if "%" in form else (("DD",), ("MM",), ("YY",))
    return all(any(piece in (form if "%" in form else form.upper()) for piece in some) for some in pieces)


SERIES_KEY = "series"
"""Key column of the results of a table without key columns; its label is the KPI's name."""

RESERVED = frozenset({"intercept", "trend", "seasonality", "baseline", "all", "total"})
"""Names that results use for the model's own parts, beside `sin_1`, `cos_1` and so on."""


def refuse_reserved(names: Iterable[str], key: str) -> None:
    """Refuses names of channels or controls that the model uses itself.

    Raises:
        ConfigError: Names the first of them, and the remedy.
    """
    for name in names:
        if name in RESERVED or re.fullmatch(r"(sin|cos)_\d+", name):
            remedy = f"rename the column, e.g. to '{name}_index', or for a channel give its spend column another name"
            raise ConfigError(f"{name!r} is what results call a part of the model: {remedy}", key=key)


def _refuse_repeats(names: list[str], key: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"names {name!r} twice", key=key)
