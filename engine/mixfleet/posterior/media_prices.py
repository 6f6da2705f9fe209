"""What media cost: today, for money that is still to be spent, and in past weeks, for money that would have been."""

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.data.panel import Unit

__all__ = ["media_price", "paid_apart", "past_prices"]

QUARTER, YEAR = np.timedelta64(91, "D"), np.timedelta64(364, "D")
"""Over so long prices are taken: thirteen weeks even out single payments, a year the bills of a quarter or a year."""

FEW_PAYMENTS, SEVERAL_WEEKS = 1, 4
"""At most so many payments while media ran in at least so many weeks: bills that stand for other weeks too."""

GREATEST_STEP = 3.0
"""A week whose own price is further from its quarter's than this factor was paid in other weeks, or paid for them."""


def media_price(unit: Unit) -> Float[np.ndarray, " channel"]:
    """Today's spend per unit of media: of the last thirteen weeks, else the last year, else all weeks.

    Money that is still to be spent buys at today's price, not at the average of years of media inflation. It is 1.0
    where nothing is paid.
    """
    last = unit.dates[-1:]
    return _prices(unit, [(last - span + 1, last) for span in (QUARTER, YEAR)])[0]


def past_prices(unit: Unit) -> Float[np.ndarray, "week channel"]:
    """Spend per unit of media in each past week.

    It is the week's own where money and media go together; where they were booked in different weeks, that of the
    thirteen weeks around it, else the year around it, else all weeks. It is 1.0 where nothing is paid.
    """
    around = _prices(unit, [(unit.dates - span // 2, unit.dates + span // 2) for span in (QUARTER, YEAR)])
    both = unit.observed[:, None] & (unit.spend > 0) & (unit.media > 0)
    own = np.where(both, unit.spend, around) / np.where(both, unit.media, 1.0)
    together = both & (own < GREATEST_STEP * around) & (around < GREATEST_STEP * own)
    return np.where(together, own, around)


def paid_apart(
    spend: Float[np.ndarray, "week channel"], media: Float[np.ndarray, "week channel"]
) -> Bool[np.ndarray, " channel"]:
    """Channels that ran in these weeks and of whose bills there is one or none: it stands for other weeks too."""
    return (np.sum(media > 0, axis=0) >= SEVERAL_WEEKS) & (np.sum(spend > 0, axis=0) <= FEW_PAYMENTS)


def _prices(unit: Unit, windows: list[tuple[np.ndarray, np.ndarray]]) -> Float[np.ndarray, "place channel"]:
    """The price over the first window that can tell it, by first and last day of each place's window."""
    net, media = np.nan_to_num(unit.spend), unit.media
    everything = np.broadcast_to(unit.observed, (len(windows[0][0]), len(unit.dates)))
    # Credit notes lower the price, but where they outweigh the spend only the spend itself says what media cost.
    found = _over(everything, np.maximum(net, 0.0), media, np.ones((len(everything), media.shape[1])))
    found = _over(everything, net, media, found)
    for number, (first, last) in enumerate(reversed(windows)):
        inside = unit.observed & (unit.dates >= first[:, None]) & (unit.dates <= last[:, None])
        shortest = number == len(windows) - 1
        found = _over(inside, net, media, found, few=FEW_PAYMENTS if shortest else 0)
    return found


def _over(
    inside: Bool[np.ndarray, "place week"],
    spend: Float[np.ndarray, "week channel"],
    media: Float[np.ndarray, "week channel"],
    otherwise: Float[np.ndarray, "place channel"],
    few: int = 0,
) -> Float[np.ndarray, "place channel"]:
    weights = inside.astype(float)
    paid, delivered = weights @ spend, weights @ media
    bills, weeks = weights @ (spend > 0), weights @ (media > 0)
    told = (paid > 0) & (delivered > 0) & ((bills > few) | (weeks < SEVERAL_WEEKS))
    return np.where(told, paid, otherwise) / np.where(told, delivered, 1.0)
