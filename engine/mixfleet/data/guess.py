"""Guess: what the columns of an unknown table mean, from their names and cells."""

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mixfleet.config.data import RESERVED
from mixfleet.config.schema import NOT_GIVEN
from mixfleet.data.files import find_files
from mixfleet.data.formats.csv_dialect import find_dialect, foreign_text, transcoded
from mixfleet.data.formats.date_format import DateFormats, date_formats, date_words
from mixfleet.data.formats.workbook import header_of
from mixfleet.data.parse import Fault, decimal_marks, read_days, read_numbers
from mixfleet.data.sources import read_table
from mixfleet.data.validation.finding import refusal

HEAD_BYTES = 1 << 20
_DATE = r"date|datum|week|woche|day|tag|fecha|semaine|time|periode?"
_KPI = r"kpi|revenue|sales|umsatz|erl(ö|oe)s|absatz|orders?|bestellungen|conversions?|visits|ventes|ventas"
_COUNT = r"orders?|bestellungen|conversions?|visits|absatz|units|kunden|customers|leads"
_SPEND = r"spend|spent|cost|costs|kosten|ausgaben|budget|invest(ment)?"
_SHOWN = r"impressions?|impr?s?|clicks?|klicks|grps?|views"
_MEDIA = (
    r"tv|search|social|radio|ooh|dooh|display|facebook|meta|google|youtube|tiktok|print|video|affiliate|newsletter|"
    r"email|mail|sea|seo|banner|instagram|podcast|linkedin|pinterest|amazon|bing|media|kino|cinema|out of home|"
    r"suche|fernsehen|h(ö|oe)rfunk|plakate?|anzeigen?|zeitung(en)?|zeitschriften|prospekte?|beilagen?|werbung|mailings?|"
    r"influencer|programmatic|retargeting|snapchat|twitter|flyers?|outdoor|press|presse|cine|prensa|affichage|television"
)
_CONTROL = (
    r"price|preis|promo(tion)?|discount|rabatt|temp(erature)?|temperatur|weather|wetter|holiday|feiertag|competitor"
)
_CURRENCY = {"€": "EUR", "eur": "EUR", "$": "USD", "usd": "USD", "£": "GBP", "gbp": "GBP", "chf": "CHF"}


@dataclass(frozen=True, kw_only=True)
class Guess:
    """Settings to be looked over."""

    settings: tuple[tuple[str, Any, str], ...]
    """Name, value and what it means."""
    unused: tuple[str, ...]
    """Columns that nothing was made of."""
    notes: tuple[str, ...]
    """What to know of how the file was read."""


def guess_settings(source: str) -> Guess:
    """What the columns of a file, folder or glob may mean.

    Raises:
        TableError: It cannot be read, or has no column of dates or none of numbers.
    """
    path = find_files(source)[0]
    names, encoding, told = header(path)
    table = read_table(source, names, encoding=encoding)
    # Settings cannot say a name that stands for none.
    whole = {name: [part.rows.column(name) for part in table.parts] for name in names if name != NOT_GIVEN}
    date, form = _date_column(whole)
    numeric, comma = _numeric([name for name in whole if name != date], whole)
    texts = [name for name in whole if name not in numeric and name != date]
    keys = [name for name in texts if 0 < _distinct(whole[name]) <= max(2, table.rows // 8)]
    kpi = next((name for name in numeric if _named(_KPI, name) and not _named(_SPEND, name)), None)
    kpi = kpi or next(iter(numeric), None)
    if kpi is None:
        raise refusal("column_missing", f"{path} has no column of numbers that could be the KPI")
    rest = [name for name in numeric if name != kpi]
    controls = [name for name in rest if _named(_CONTROL, name)]
    media = [name for name in rest if name not in controls and _named(f"{_SPEND}|{_SHOWN}|{_MEDIA}", name)]
    media = media or [name for name in rest if name not in controls]
    channels = _channels(media)
    used = {*keys, date, kpi, *controls, *(c for columns in channels.values() for c in columns.values())}
    settings: list[tuple[str, Any, str]] = [
        ("keys", keys, "Columns that together name a unit, such as brand and market; [] for one series."),
        ("date", date, "Column of the first day of each week, or of each day."),
    ]
    if encoding is not None:
        settings.append(("encoding", encoding, "Encoding of the file."))
    if form.formats:
        told = [date_words(found) for found in form.formats]
        unclear = "" if len(told) == 1 else f" It may also be {told[1]}: please choose."
        settings.append(("date_format", told[0], f"How dates are written; one reads {form.example}.{unclear}"))
    if comma:
        settings.append(("decimal", "comma", "Decimal mark of numbers."))
    if _daily(whole[date], form, keys, whole):
        settings.append(("frequency", "daily", "weekly or daily."))
    settings.append(("kpi", kpi, "What media are to explain."))
    if _named(_COUNT, kpi):
        settings.append(("kpi_type", "count", "revenue or count."))
    settings.append(("channels", channels, "Media: what was paid (spend) and, where known, delivered (impressions)."))
    settings.append(("controls", controls, "Columns of what else moves the KPI."))
    if currency := _currency(names):
        settings.append(("currency", currency, "Currency of spend."))
    unused = tuple(name for name in names if name not in used)
    notes = (*told, *(finding.message for finding in table.findings))
    return Guess(settings=tuple(settings), unused=unused, notes=notes)


def header(path: Path) -> tuple[list[str], str | None, list[str]]:
    """Names of a file's columns, the encoding of a text file that is none of UTF, and what to say of that."""
    if path.suffix.lower() in (".parquet", ".pq"):
        return [name for name in pq.read_schema(path).names if not name.startswith("__")], None, []
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        return header_of(path), None, []
    with path.open("rb") as file:
        raw = file.read(HEAD_BYTES)
    encoding, told = None, []
    if not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            # A character that the reading cut in two is no fault.
            codecs.getincrementaldecoder("utf-8")().decode(raw, final=len(raw) < HEAD_BYTES)
        except UnicodeDecodeError as error:
            encoding = "cp1252"
            line, text = foreign_text(raw, error.start)
            words = f"is not UTF-8 and was read as cp1252: line {line} holds {text!r}"
            told = [f"{path} {words}; where that is wrong, name the encoding in the settings"]
    names = find_dialect(transcoded(raw[: len(raw) // 2 * 2], encoding)[0], ()).header
    return [name for name in dict.fromkeys(names) if name], encoding, told


def _named(pattern: str, name: str) -> bool:
    return re.search(rf"(?<![a-zäöü])({pattern})(?![a-zäöü])", name.lower()) is not None


def _distinct(columns: Sequence[pa.ChunkedArray]) -> int:
    return len({value for column in columns for value in column.unique().to_pylist() if value not in (None, "")})


def _date_column(whole: dict[str, list[pa.ChunkedArray]]) -> tuple[str, DateFormats]:
    for name in sorted(whole, key=lambda name: not _named(_DATE, name)):
        form = date_formats(whole[name])
        days = [read_days(column, form.formats[0] if form.formats else None) for column in whole[name]]
        fault = np.concatenate([part.fault for part in days])
        if len(fault) and (fault == Fault.NONE).mean() > 0.9:
            return name, form
    raise refusal("column_missing", "the table has no column of dates: mixfleet needs one, written as 2025-12-31")


def _numeric(names: Sequence[str], whole: dict[str, list[pa.ChunkedArray]]) -> tuple[list[str], bool]:
    """Columns of numbers, and whether their text has decimal commas."""
    marks = [decimal_marks(column) for name in names for column in whole[name]]
    comma = any(mark.comma for mark in marks) and not any(mark.point for mark in marks)
    thousands = not comma and any(mark.thousands for mark in marks)
    found = []
    for name in names:
        read = [read_numbers(column, decimal_comma=comma, thousands=thousands) for column in whole[name]]
        fault = np.concatenate([numbers.fault for numbers in read])
        if (fault == Fault.NONE).any() and np.isin(fault, (Fault.NONE, Fault.MISSING)).mean() > 0.9:
            found.append(name)
    return found, comma


def _channels(media: Sequence[str]) -> dict[str, dict[str, str]]:
    """Spend and impressions by channel: columns whose names are the same but for those words."""
    channels: dict[str, dict[str, str]] = {}
    for column in media:
        kind = "impressions" if _named(_SHOWN, column.replace("_", " ")) else "spend"
        words = re.sub(rf"(?i)\b({_SPEND}|{_SHOWN}|eur|usd|gbp|chf)\b", " ", column.replace("_", " "))
        name = "_".join(re.findall(r"\w+", words.lower())) or column
        name = column if name in RESERVED or kind in channels.get(name, {}) else name
        channels.setdefault(name, {})[kind] = column
    return channels


def _daily(
    dates: Sequence[pa.ChunkedArray], form: DateFormats, keys: Sequence[str], whole: dict[str, list[pa.ChunkedArray]]
) -> bool:
    days = np.concatenate([read_days(part, form.formats[0] if form.formats else None).values for part in dates])
    labels = [np.concatenate([np.array(part.to_pylist(), object).astype(str) for part in whole[key]]) for key in keys]
    unit = np.array(["\0".join(row) for row in zip(*labels, strict=True)]) if labels else np.zeros(len(days))
    steps = [np.diff(np.unique(days[unit == one])).astype(int) for one in np.unique(unit)[:20]]
    return bool(np.median(np.concatenate(steps) if steps else [7]) == 1)


def _currency(names: Sequence[str]) -> str | None:
    for sign, code in _CURRENCY.items():
        if any(sign in (re.findall(r"[a-z]+", name.lower()) if sign.isalpha() else name) for name in names):
            return code
    return None
