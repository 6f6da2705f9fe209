"""Every term of the baseline at once, with dates that a fleet of weeks in 2021 and 2022 has."""

from dataclasses import replace

from mixfleet.config import Model
from mixfleet.config.baseline import (
    HSGP,
    Events,
    Fourier,
    Holidays,
    Intercept,
    Knots,
    Linear,
    Piecewise,
    RandomWalk,
    Term,
)

HOLIDAYS = ("2021-04-02", "2021-04-05", "2021-12-25", "2021-12-26", "2022-04-15", "2022-04-18", "2022-12-25")

TERMS: dict[str, Term] = {
    "intercept": Intercept(),
    "linear": Linear(),
    "piecewise_at": Piecewise(at=("2021-11-03", "2022-05-02")),
    "piecewise_every": Piecewise(every=26, over=104, name="bend"),
    "knots_at": Knots(at=("2021-10-06", "2022-02-02", "2022-08-01")),
    "knots_every": Knots(every=20, over=110, name="level"),
    "random_walk": RandomWalk(every=13, over=104, ahead=26),
    "hsgp": HSGP(length=20, basis=18, ahead=13),
    "year": Fourier(order=2),
    "month": Fourier(period="month", order=1),
    "cycle": Fourier(period=45.5, order=1),
    "holidays": Holidays(country="DE", before=2, after=1, dates={"DE": HOLIDAYS}),  # pyright: ignore[reportArgumentType]
    "events": Events(at=("2021-11-26", "2022-09-05/2022-09-18"), after=3),
}


def learned(term: Term) -> Term:
    """The term with a learned scale, if it can have one."""
    return replace(term, scale="learned") if hasattr(term, "scale") else term


EVERY_TERM = Model(baseline=tuple(TERMS.values()))

MOVING = Model(
    baseline=(
        TERMS["intercept"],
        TERMS["knots_every"],
        TERMS["random_walk"],
        TERMS["year"],
        TERMS["holidays"],
        TERMS["events"],
    )
)
"""A level that moves, seasons, holidays and events."""

LEARNED_SCALES = Model(
    baseline=(TERMS["intercept"], learned(TERMS["random_walk"]), learned(TERMS["year"]), TERMS["holidays"])
)
"""A walk and seasons whose scales are learned."""
