"""Date format: how a column of text writes its dates, where that is not YYYY-MM-DD."""

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

_FORMS = {
    r"\d{1,2}\.\d{1,2}\.\d{4}": ("%d.%m.%Y",),
    r"\d{1,2}/\d{1,2}/\d{4}": ("%d/%m/%Y", "%m/%d/%Y"),
    r"\d{1,2}-\d{1,2}-\d{4}": ("%d-%m-%Y", "%m-%d-%Y"),
    r"\d{4}/\d{1,2}/\d{1,2}": ("%Y/%m/%d",),
    r"\d{4}\.\d{1,2}\.\d{1,2}": ("%Y.%m.%d",),
    r"\d{8}": ("%Y%m%d",),
    r"\d{1,2}\.\d{1,2}\.\d{2}": ("%d.%m.%y",),
    r"\d{1,2}/\d{1,2}/\d{2}": ("%d/%m/%y", "%m/%d/%y"),
    r"\d{1,2}-[A-Za-z]{3}-\d{2}": ("%d-%b-%y",),
    r"\d{1,2}-[A-Za-z]{3}-\d{4}": ("%d-%b-%Y",),
    r"\d{1,2} [A-Za-z]{3} \d{4}": ("%d %b %Y",),
    r"[A-Za-z]{3} \d{1,2}, \d{4}": ("%b %d, %Y",),
    r"\d{4}-\d{2}-\d{2}": (),
}
"""Ways to write a date that are told apart by their look; the last is ISO's. Points mean day, month, year."""
_CLOCK = re.compile(r"(.*?)(?:[T ]+(\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?))?", re.DOTALL)
_TOKENS = {"YYYY": "%Y", "YY": "%y", "MM": "%m", "DD": "%d"}


@dataclass(frozen=True, kw_only=True)
class DateFormats:
    """What a column's dates may be written in."""

    formats: tuple[str, ...]
    """`strptime` formats that all dates of the column could have; none for ISO, or for a mixture."""
    example: str


def date_formats(columns: Iterable[pa.ChunkedArray]) -> DateFormats:
    """The formats other than ISO that the text of a column can have, all its parts together."""
    texts: dict[str, None] = {}
    for column in columns:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            texts |= dict.fromkeys(_day(text.strip()) for text in column.drop_null().unique().to_pylist())
    looks = {pattern for text in texts for pattern in _FORMS if re.fullmatch(pattern, text, re.ASCII)}
    if len(looks) != 1:
        return DateFormats(formats=(), example="")
    [look] = looks
    dates = [text for text in texts if re.fullmatch(look, text, re.ASCII)]
    formats = _FORMS[look]
    if len(formats) == 2:
        numbers = [[int(number) for number in re.findall(r"\d+", text)] for text in dates]
        days_first, months_first = any(n[0] > 12 for n in numbers), any(n[1] > 12 for n in numbers)
        if days_first != months_first:
            formats = formats[:1] if days_first else formats[1:]
    return DateFormats(formats=formats, example=dates[0])


_ADVICE = (
    (r"[2-7]\d{4}(\.\d+)?", "these are day numbers of a spreadsheet: format the column as dates and export it again"),
    (r"\d{7,13}", "these are seconds of a computer's clock: write them as dates"),
    (r"(?i).*(\d{4}-?W\d{1,2}|week|woche|kw).*", "these are weeks without a day: give the first day of each week"),
    (r"\d{4}[-/.]?\d{2}|\d{1,2}[-/.]\d{4}", "these are months: give weekly or daily data"),
    (r"\S+ ?(-|to|bis|\u2013) ?\S+", "these are spans: give the first day of each"),
)


def date_advice(text: str) -> str:
    """What to do about a column of dates that begins with this one, which nothing reads."""
    remedy = "say how they are written in data.date_format, such as DD.MM.YYYY or '%d. %B %Y'"
    return next((words for look, words in _ADVICE if re.fullmatch(look, text.strip())), remedy)


def _day(text: str) -> str:
    match = _CLOCK.fullmatch(text)
    return text if match is None else match[1]


def read_date(text: str, form: str) -> tuple[datetime.date, bool] | None:
    """The date and whether a time of day other than midnight follows it; None where the text has another form."""
    for whole in (text, _day(text)):
        try:
            found = datetime.datetime.strptime(whole, form)
        except ValueError:
            continue
        clock = text[len(whole) :].strip("T :0.")
        return found.date(), bool(clock) or found.time() != datetime.time()
    return None


def strptime_format(words: str) -> str:
    """`DD.MM.YYYY` as `%d.%m.%Y`; what has a % is one already."""
    if "%" in words:
        return words
    return re.sub("YYYY|YY|MM|DD", lambda found: _TOKENS[found[0]], words.upper())


def date_words(form: str) -> str:
    """`%d.%m.%Y` as `DD.MM.YYYY`; with the name of a month as it is."""
    if "%b" in form:
        return form
    for token, directive in _TOKENS.items():
        form = form.replace(directive, token)
    return form
