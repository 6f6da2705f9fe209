"""Tables of a small company as they lie about in real ones, by plain formulas, with faults whose number is known.

Three markets with a currency each. Sales and campaigns are by day and end in the middle of a week, TV is by weeks from
Sunday in US dollars, prices are by periods of 4, 4 and 5 weeks. What a right query makes of them is worked out here
row by row, with no query.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa

__all__ = ["JOIN", "LATE_TV", "REPEATED", "RESTATED", "UNMAPPED", "WEEKS", "LakeTables", "lake_tables"]

BRAND = "acme"
CURRENCIES = {"DE": "EUR", "GB": "GBP", "US": "USD"}
PER_EURO = {"EUR": 1.0, "GBP": 0.875, "USD": 1.09375}
CAMPAIGNS = {"brand_search": "search", "generic_search": "search", "social_video": "social", "display_wide": "display"}
"""Words of campaigns' names, and the channel that the taxonomy gives each."""

FIRST = date(2023, 1, 2)
"""A Monday."""
WEEKS = 104
DAYS = 7 * WEEKS + 3
"""With an incomplete last week."""
DAYS_AT_FIRST = 7 * (WEEKS - 2)
"""Days of campaigns in the first version."""

RESTATED = 30
"""Rows of sales of which an earlier version, with half the revenue, is in the table too."""
REPEATED = 50
"""Rows of sales that were loaded twice."""
UNMAPPED = 250.0
"""Spend, in euros, of a campaign that the taxonomy does not know."""
LATE_TV = 1400.0
"""Cost, in US dollars, of a TV booking in the US that came late: one more row in the second version."""

JOIN = """
WITH known AS (
  SELECT * FROM sales QUALIFY row_number() OVER (PARTITION BY brand, market, day ORDER BY loaded_at DESC) = 1),
kpi AS (
  SELECT brand, market, date_trunc('week', day)::DATE AS date, sum(revenue / per_euro) AS kpi
  FROM known JOIN rates USING (currency) GROUP BY ALL HAVING count(*) = 7),
spent AS (
  SELECT market, channel, date_trunc('week', day)::DATE AS date, cost / per_euro AS spend
  FROM campaigns JOIN taxonomy ON regexp_matches(campaign, pattern) JOIN rates USING (currency)
  UNION ALL
  SELECT market, 'tv', date_trunc('week', week_start + n::INTEGER)::DATE, cost / 7 / per_euro
  FROM tv, range(7) days(n), rates WHERE rates.currency = 'USD'),
by_week AS (SELECT market, channel, date, sum(spend) AS spend FROM spent GROUP BY ALL)
SELECT brand, market, date, channel, kpi, coalesce(spend, 0) AS spend, price
FROM kpi CROSS JOIN (SELECT DISTINCT channel FROM by_week) LEFT JOIN by_week USING (market, channel, date)
JOIN prices USING (market)
WHERE date BETWEEN first AND last
ORDER BY ALL
"""
"""What gives `joined` of all tables, in DuckDB's SQL."""


@dataclass(frozen=True, kw_only=True)
class LakeTables:
    """The tables, and what they say together."""

    sales: pa.Table
    """brand, market, day, revenue, currency, loaded_at: with restated and repeated rows."""
    campaigns: tuple[pa.Table, pa.Table, pa.Table]
    """campaign, market, day, cost, currency: the first weeks, the last ones, and the campaign that nobody mapped."""
    tv: tuple[pa.Table, pa.Table]
    """market, week_start (a Sunday), cost in US dollars: all weeks, and the late booking."""
    prices: pa.Table
    """market, first, last, price of periods of 4, 4 and 5 weeks."""
    rates: pa.Table
    """currency, per_euro."""
    taxonomy: pa.Table
    """pattern, channel."""
    joined: pa.Table
    """brand, market, date (a Monday), channel, kpi, spend (euros), price: complete weeks only."""


def lake_tables() -> LakeTables:
    """The same tables at each call."""
    later = [
        _table(("campaign", "market", "day", "cost", "currency"), _campaign_rows(days))
        for days in (range(DAYS_AT_FIRST), range(DAYS_AT_FIRST, DAYS))
    ]
    unmapped = {"campaign": ["de_tiktok_test"], "market": ["DE"], "day": [_day(70)], "cost": [UNMAPPED]}
    late = {"market": ["US"], "week_start": [_sunday(100)], "cost": [LATE_TV]}
    sundays = range(WEEKS + 1)
    return LakeTables(
        sales=_table(("brand", "market", "day", "revenue", "currency", "loaded_at"), _sales_rows()),
        campaigns=(later[0], later[1], pa.table({**unmapped, "currency": ["EUR"]})),
        tv=(
            _table(("market", "week_start", "cost"), [(m, _sunday(w), _tv(m, w)) for m in CURRENCIES for w in sundays]),
            pa.table(late),
        ),
        prices=_table(("market", "first", "last", "price"), _price_rows()),
        rates=_table(("currency", "per_euro"), PER_EURO.items()),
        taxonomy=_table(("pattern", "channel"), [(name, name) for name in sorted(set(CAMPAIGNS.values()))]),
        joined=_table(("brand", "market", "date", "channel", "kpi", "spend", "price"), _joined_rows()),
    )


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> pa.Table:
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def _day(number: int) -> date:
    return FIRST + timedelta(days=number)


def _sunday(week: int) -> date:
    """The Sunday before a week's Monday."""
    return _day(7 * week - 1)


def _revenue(market: str, day: int) -> float:
    return 1000.0 * (1 + list(CURRENCIES).index(market)) + 10.0 * (day % 97)


def _cost(market: str, name: str, day: int) -> float:
    place = list(CAMPAIGNS).index(name)
    return 5.0 * (1 + place) + (day * (3 + place) + 7 * list(CURRENCIES).index(market)) % 23


def _tv(market: str, week: int) -> float:
    return 700.0 * (1 + list(CURRENCIES).index(market)) + 35.0 * (week % 9)


def _sales_rows() -> list[tuple[Any, ...]]:
    loaded = datetime(2025, 1, 8, 6)
    true = [
        (BRAND, market, _day(day), _revenue(market, day), currency, loaded)
        for market, currency in CURRENCIES.items()
        for day in range(DAYS)
    ]
    earlier = [(*row[:3], row[3] / 2, row[4], loaded - timedelta(days=2)) for row in true[5 :: len(true) // RESTATED]]
    return [*earlier[:RESTATED], *true, *true[11 : 11 + REPEATED]]


def _campaign_rows(days: range) -> list[tuple[Any, ...]]:
    return [
        (f"{market.lower()}_{name}", market, _day(day), _cost(market, name, day), currency)
        for day in days
        for market, currency in CURRENCIES.items()
        for name in CAMPAIGNS
    ]


def _periods() -> list[tuple[int, int]]:
    """First and last day of each period, counted from the first Monday."""
    lengths = [7 * weeks for _ in range(WEEKS // 13) for weeks in (4, 4, 5)]
    return [(sum(lengths[:place]), sum(lengths[: place + 1]) - 1) for place in range(len(lengths))]


def _price(market: str, period: int) -> float:
    return 2.0 + list(CURRENCIES).index(market) + 0.25 * (period % 5)


def _price_rows() -> list[tuple[Any, ...]]:
    return [
        (market, _day(first), _day(last), _price(market, period))
        for market in CURRENCIES
        for period, (first, last) in enumerate(_periods())
    ]


def _joined_rows() -> list[tuple[Any, ...]]:
    kpi: dict[tuple[str, int], float] = defaultdict(float)
    spend: dict[tuple[str, int, str], float] = defaultdict(float)
    price = {day // 7: place for place, (first, last) in enumerate(_periods()) for day in range(first, last + 1)}
    for market, currency in CURRENCIES.items():
        for day in range(7 * WEEKS):
            kpi[market, day // 7] += _revenue(market, day) / PER_EURO[currency]
            for name, channel in CAMPAIGNS.items():
                spend[market, day // 7, channel] += _cost(market, name, day) / PER_EURO[currency]
            # Day 0 is a Monday: the second one of the week that started on the Sunday before.
            booked = (day + 1) // 7
            dollars = _tv(market, booked) + (LATE_TV if (market, booked) == ("US", 100) else 0.0)
            spend[market, day // 7, "tv"] += dollars / 7 / PER_EURO["USD"]
    return [
        (BRAND, market, _day(7 * week), channel, total, spend[market, week, channel], _price(market, price[week]))
        for (market, week), total in kpi.items()
        for channel in sorted({*CAMPAIGNS.values(), "tv"})
    ]
