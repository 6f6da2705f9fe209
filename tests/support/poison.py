"""The poison catalogue: named ways to spoil one unit, one file or one setting, and what must become of it.

`CASES` spoil one unit of a clean fleet. Each is used in a batch (the other units keep every byte) and alone.
`FILES` spoil the bytes of a CSV file, `PRIORS` a prior; those are refused before any unit exists.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd

from mixfleet import config
from mixfleet.simulation import fleet as simulate

Labels = tuple[str, ...]
VICTIM: Labels = ("brand_002", "market_001")
"""The unit that is spoiled."""
FIRST, SECOND = "spend_tv", "spend_search"
CONTROL = "control_1"
TODAY = np.datetime64("2024-01-01")
"""The day on which the catalogue is read."""


@dataclass(frozen=True, kw_only=True)
class Poison:
    """One way to spoil a unit."""

    spoil: Callable[[pd.DataFrame], pd.DataFrame]
    """The unit's own rows -> spoiled rows; they may have other labels."""
    panel: Literal["rejected", "warned", "accepted"]
    """What the panel makes of the unit."""
    status: tuple[str, ...]
    """Statuses that a fit may end in."""
    rule: str | None = None
    """Rule of the finding that names the fault."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the data settings that the case needs."""


@cache
def clean_fleet() -> simulate.Simulated:
    """Four units of 104 weeks, 4 channels and 1 control, nothing wrong with them."""
    model = config.Model(saturation="logistic", observation="normal")
    return simulate.fleet(brands=2, markets=2, weeks=104, channels=4, controls=1, truth="fixed", seed=7, model=model)


def settings(poison: Poison) -> config.Data:
    """The data settings under which a case is read."""
    return replace(clean_fleet().data, **poison.settings)


def spoiled(poison: Poison) -> pd.DataFrame:
    """The clean fleet with its victim spoiled."""
    frame = clean_fleet().table.to_pandas()
    mine = _is_victim(frame)
    return pd.concat([frame[~mine], poison.spoil(frame[mine].reset_index(drop=True))], ignore_index=True)


def alone(poison: Poison) -> pd.DataFrame:
    """The spoiled rows only."""
    frame = clean_fleet().table.to_pandas()
    return poison.spoil(frame[_is_victim(frame)].reset_index(drop=True))


def victims(poison: Poison) -> tuple[Labels, ...]:
    """Labels of the spoiled unit, or of the several units that it became."""
    rows = alone(poison)[["brand", "market"]].drop_duplicates()
    return tuple((str(brand), str(market)) for brand, market in rows.itertuples(index=False))


def _is_victim(frame: pd.DataFrame) -> np.ndarray:
    return (frame["brand"].to_numpy() == VICTIM[0]) & (frame["market"].to_numpy() == VICTIM[1])


def _put(column: str, value: Any, rows: slice | None = None) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Writes one value into some rows (by default three in the middle), whatever its type."""

    def spoil(frame: pd.DataFrame) -> pd.DataFrame:
        cells = frame[column].tolist()
        for i in range(len(cells))[rows or slice(50, 53)]:
            cells[i] = value
        kind = float if isinstance(value, float) else object
        return frame.assign(**{column: pd.Series(cells, dtype=kind)})

    return spoil


def _all(column: str, value: float | None) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return _put(column, np.nan if value is None else value, slice(None))


def _spends(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if name.startswith("spend_")]


def _times(column: str, factor: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.assign(**{column: frame[column] * factor})


def _dates(change: Callable[[pd.Series], Any]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.assign(date=change(pd.to_datetime(frame["date"])))


def _named(*names: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: pd.concat([frame.assign(brand=name) for name in names], ignore_index=True)


def _daily_end(dates: pd.Series) -> pd.Series:
    days = pd.Series(np.arange(len(dates)), index=dates.index)
    return dates.where(days < 90, dates.iloc[89] + pd.to_timedelta(days - 89, unit="D"))


def _summer_time(dates: pd.Series) -> list[str]:
    return [f"{day:%Y-%m-%d}T00:00:00+0{2 if 3 < day.month < 11 else 1}:00" for day in dates]


def _two_zones(dates: pd.Series) -> list[str]:
    return [f"{day:%Y-%m-%d}T00:00:00{'+01:00' if i % 2 else '-05:00'}" for i, day in enumerate(dates)]


STEEP_LIFT = 1e4
"""KPI that the first channel's highest week brings in P18, and in proportion every other week."""


def _steep(frame: pd.DataFrame) -> pd.DataFrame:
    # No noise at all and a pattern that no smooth baseline has: the likelihood's width goes to zero.
    return frame.assign(kpi=1e5 + STEEP_LIFT * (frame[FIRST] / frame[FIRST].max()))


_CLEAN = ("ok", "ok_warn", "ok_retried", "ok_fallback")
_DOUBTFUL = ("ok_warn", "ok_retried", "ok_fallback", "quarantined")
_REJECTED = ("rejected",)


def _rejected(rule: str, spoil: Callable[[pd.DataFrame], pd.DataFrame], **settings: Any) -> Poison:
    return Poison(spoil=spoil, panel="rejected", status=_REJECTED, rule=rule, settings=settings)


def _warned(rule: str, spoil: Callable[[pd.DataFrame], pd.DataFrame], **settings: Any) -> Poison:
    return Poison(spoil=spoil, panel="warned", status=_DOUBTFUL, rule=rule, settings=settings)


def _accepted(spoil: Callable[[pd.DataFrame], pd.DataFrame], rule: str | None = None, **settings: Any) -> Poison:
    return Poison(spoil=spoil, panel="accepted", status=_CLEAN, rule=rule, settings=settings)


CASES: dict[str, Poison] = {
    "P1_nan_kpi": _rejected("missing_value", _put("kpi", np.nan)),
    "P1_nan_media": _rejected("missing_value", _put(FIRST, np.nan)),
    "P1_nan_control": _rejected("missing_value", _put(CONTROL, np.nan)),
    "P2_inf_kpi": _rejected("not_finite", _put("kpi", np.inf)),
    "P2_inf_media": _rejected("not_finite", _put(FIRST, -np.inf)),
    "P2_inf_control": _rejected("not_finite", _put(CONTROL, -np.inf)),
    "P3_zero_channel": _warned("channel_absent", _all(FIRST, 0.0)),
    "P3_empty_channel": _warned("channel_absent", _all(FIRST, None)),
    "P3_no_media": _warned("channel_absent", lambda frame: frame.assign(**dict.fromkeys(_spends(frame), 0.0))),
    "P4_constant_channel": _warned("channel_constant", _all(FIRST, 1234.5)),
    "P5_constant_kpi": _rejected("kpi_constant", _all("kpi", 77.0)),
    "P6_zero_kpi": _rejected("kpi_zero", _all("kpi", 0.0)),
    "P7_collinear": _warned("collinear", lambda frame: frame.assign(**{SECOND: 2.0 * frame[FIRST]})),
    "P8_tiny_kpi": _accepted(_times("kpi", 1e-9)),
    "P8_huge_kpi": _accepted(_times("kpi", 1e12)),
    "P8_tiny_media": _accepted(_times(FIRST, 1e-9)),
    "P8_huge_media": _accepted(_times(FIRST, 1e12)),
    "P9_one_row": _rejected("too_few_weeks", lambda frame: frame.iloc[:1]),
    "P9_few_rows": _rejected("too_few_weeks", lambda frame: frame.iloc[:20]),
    "P10_gap": _rejected("gap", lambda frame: frame.drop(index=[40, 41, 60])),
    "P10_gap_declared": _warned("gap", lambda frame: frame.drop(index=[40, 41, 60]), gaps="absent"),
    "P11_same_row_twice": _rejected("duplicate_row", lambda frame: pd.concat([frame, frame.iloc[[30]]])),
    "P11_two_values": _rejected("duplicate_row", lambda frame: pd.concat([frame, frame.iloc[[30]].assign(kpi=1.0)])),
    "P12_negative_spend": _rejected("negative_media", _put(FIRST, -10.0)),
    "P12_negative_declared": _accepted(_put(FIRST, -10.0), allow_negative_media=(FIRST,)),
    "P13_daily": _rejected(
        "date_frequency", _dates(lambda d: d.iloc[0] + pd.to_timedelta(np.arange(len(d)), unit="D"))
    ),
    "P13_daily_end": _rejected("date_frequency", _dates(_daily_end)),
    "P13_weekday_moves": _rejected(
        "date_frequency", _dates(lambda d: d + pd.to_timedelta((d.index > 50) * 1, unit="D"))
    ),
    "P13_two_formats": _rejected(
        "date_unreadable",
        _dates(lambda d: [f"{x:%d/%m/%Y}" if i > 50 else f"{x:%Y-%m-%d}" for i, x in enumerate(d)]),
    ),
    "P13_week_53": _rejected(
        "date_unreadable",
        _dates(lambda d: ["2020-W53" if i == 52 else f"{x:%Y-%m-%d}" for i, x in enumerate(d)]),
    ),
    "P13_no_date": _rejected("date_unreadable", _dates(lambda d: d.where(d.index != 10))),
    "P13_two_zones": _rejected("date_zones", _dates(_two_zones)),
    "P13_summer_time": _accepted(_dates(_summer_time), "date_offset"),
    "P13_unsorted": _accepted(lambda frame: frame.sample(frac=1.0, random_state=3)),
    "P14_thousands": _rejected("not_a_number", _put(FIRST, "1,234")),
    "P14_currency": _rejected("not_a_number", _put(FIRST, "€1234")),
    "P14_other_currency": _rejected("not_a_number", _put("kpi", "1234 USD")),
    "P14_blank_thousands": _rejected("not_a_number", _put("kpi", "1 234")),
    "P14_blanks": _rejected("not_a_number", _put(CONTROL, "   ")),
    "P15_long_name": _accepted(_named("x" * 10_000)),
    "P15_path": _accepted(_named("../../etc/passwd")),
    "P15_device": _accepted(_named("CON")),
    "P15_newline": _accepted(_named("two\nlines")),
    "P15_right_to_left": _accepted(_named("\u202e\u05de\u05d5\u05ea\u05d2")),
    "P15_emoji": _accepted(_named("🛒👩‍👩‍👧")),
    "P15_case_only": _accepted(_named("Acme", "ACME"), "key_similar"),
    "P15_unicode_form": _accepted(_named("caf\u00e9", "cafe\u0301"), "key_similar"),
    "P15_empty": _rejected("key_empty", _named("")),
    "P15_nul": _rejected("key_nul", _named("a\0b")),
    "P16_large_integer": _rejected("integer_too_large", _put("kpi", 2**53 + 1)),
    "P16_bool": _rejected("not_a_number", _put(FIRST, True)),
    "P16_complex": _rejected("not_a_number", _put(FIRST, 1 + 2j)),
    "P16_object": _rejected("not_a_number", _put(CONTROL, ("a", 1))),
    "P17_columns_above_rows": _warned("more_columns_than_rows", lambda frame: frame.iloc[:4], min_weeks=4),
    # Its posterior is a needle, but a proper one: who certifies it on any rung must have found the needle.
    "P18_steep": Poison(spoil=_steep, panel="accepted", status=(*_DOUBTFUL, "ok")),
    "P19_outlier": Poison(
        spoil=lambda frame: frame.assign(kpi=frame["kpi"] + 1e9 * (frame.index == 60)),
        panel="warned",
        status=("misfit", "quarantined"),
        rule="kpi_outlier",
    ),
    "P20_short": _warned("short_for_seasonality", lambda frame: frame.iloc[:40]),
    "P22_future": _warned("date_future", _dates(lambda d: d + pd.Timedelta(weeks=104))),
}
"""P21 and P23 are in `FILES`, P24 in `PRIORS`."""


@dataclass(frozen=True, kw_only=True)
class FilePoison:
    """One way to spoil the bytes of a CSV file."""

    spoil: Callable[[bytes], bytes]
    rule: str
    line: int | None = None
    """Line that the message names."""
    refused: bool = True
    """Whether the whole file is refused; else it is read and the finding tells."""


def _line(raw: bytes, number: int, change: Callable[[bytes], bytes]) -> bytes:
    lines = raw.split(b"\n")
    lines[number - 1] = change(lines[number - 1])
    return b"\n".join(lines)


FILES: dict[str, FilePoison] = {
    "P21_cut_row": FilePoison(
        spoil=lambda raw: b"\n".join(raw.split(b"\n")[:200]) + b"\nbrand_001,mar",
        rule="file_broken",
        line=201,
    ),
    "P21_cut_cell": FilePoison(spoil=lambda raw: raw[:-4], rule="file_cut", line=417, refused=False),
    "P21_open_quote": FilePoison(
        spoil=lambda raw: _line(raw, 50, lambda line: b'"' + line), rule="file_broken", line=50
    ),
    "P21_extra_cell": FilePoison(
        spoil=lambda raw: _line(raw, 50, lambda line: line + b",1"), rule="file_broken", line=50
    ),
    "P21_nul": FilePoison(spoil=lambda raw: _line(raw, 50, lambda line: line + b"\0"), rule="file_broken", line=50),
    "P21_utf16": FilePoison(spoil=lambda raw: raw.decode().encode("utf-16"), rule="csv_dialect", refused=False),
    "P21_latin1": FilePoison(
        spoil=lambda raw: _line(raw, 50, lambda line: line.replace(b"brand", b"br\xe4nd")),
        rule="file_encoding",
        line=50,
    ),
    "P21_byte_order_mark": FilePoison(spoil=lambda raw: b"\xef\xbb\xbf" + raw, rule="file_mark", refused=False),
    "P21_windows": FilePoison(spoil=lambda raw: raw.replace(b"\n", b"\r\n"), rule="file_line_ends", refused=False),
    "P21_semicolons": FilePoison(spoil=lambda raw: raw.replace(b",", b";"), rule="csv_dialect", refused=False),
    "P23_no_bytes": FilePoison(spoil=lambda _: b"", rule="file_empty"),
    "P23_header_only": FilePoison(spoil=lambda raw: raw.split(b"\n")[0] + b"\n", rule="table_empty"),
}

PRIORS: dict[str, dict[str, Any]] = {
    "P24_decay_above_one": {"parameters": {"decay": {"family": "uniform", "low": 0.0, "high": 1.5}}},
    "P24_decay_unbounded": {"parameters": {"decay": {"family": "gamma", "shape": 2, "rate": 2}}},
    "P24_negative_rate": {"parameters": {"rate": {"family": "normal", "mean": 1.0, "sd": 1.0}}},
    "P24_linear_not_normal": {"parameters": {"intercept": {"family": "gamma", "shape": 2, "rate": 2}}},
    "P24_negative_sd": {"parameters": {"effect": {"family": "half_normal", "sd": -1.0}}},
}
