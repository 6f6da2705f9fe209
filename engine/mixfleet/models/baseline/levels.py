"""Levels: columns of the terms that make the intercept move in time.

Each is a linear map of independent normal coefficients of one standard deviation, so that it integrates out with all
the rest; what is correlated in time, a walk or a Gaussian process, is so by its columns.
"""

import numpy as np
from jaxtyping import Float

from mixfleet.config.baseline import HSGP, Knots, Piecewise, RandomWalk
from mixfleet.errors import ConfigError, counted
from mixfleet.models.baseline.calendar import DAYS_PER_YEAR, Calendar

__all__ = ["gaussian_process", "knots", "piecewise", "random_walk", "trend"]

MARGIN = 1.6
"""Length-scales from a calendar's ends to the walls of a Gaussian process's domain, whose images of the kernel then are
below 1 % of its variance."""

RESOLUTION = 1.75
"""Functions for each length-scale of the domain's half-width, which hold 99 % of the variance."""


def trend(calendar: Calendar) -> Float[np.ndarray, "week 1"]:
    """From -0.5 to 0.5 over the fitted weeks, and on at the same slope."""
    return (np.arange(len(calendar.dates)) / max(calendar.fitted_weeks - 1, 1) - 0.5)[:, None]


def piecewise(term: Piecewise, calendar: Calendar) -> Float[np.ndarray, "week bend"]:
    """Years since each bend, zero before it."""
    return np.maximum(0.0, calendar.days[:, None] - _places(term, calendar)) / DAYS_PER_YEAR


def knots(term: Knots, calendar: Calendar) -> Float[np.ndarray, "week knot"]:
    """Hat functions: one at a knot and zero at its neighbours; the first and the last knot's hold beyond them."""
    places = _places(term, calendar)
    return np.column_stack([np.interp(calendar.days, places, hat) for hat in np.eye(len(places))])


def random_walk(term: RandomWalk, calendar: Calendar) -> Float[np.ndarray, "week step"]:
    """What a step of a standard year's walk adds to the level, which is zero at the last fitted week.

    A step of n days has the standard deviation sqrt(n / 365.25) of a year's. The intercept is the level at the last
    fitted week; steps before a unit's first week are columns of zeros.
    """
    _refuse_longer(term, calendar)
    size = np.sqrt(term.every * calendar.step / DAYS_PER_YEAR)
    back, ahead = (-(-reach // term.every) for reach in (term.over, term.ahead))
    outer = term.every * np.array([*range(back, 0, -1), *range(1, ahead + 1)])
    away = np.concatenate([np.tile(-calendar.since_fit, (back, 1)), np.tile(calendar.since_fit, (ahead, 1))]).T
    return size * np.clip((away - (outer - term.every)) / term.every, 0.0, 1.0)


def gaussian_process(term: HSGP, calendar: Calendar) -> Float[np.ndarray, "week function"]:
    """Eigenfunctions of the Laplacian times the square root of the kernel's spectral density at amplitude one.

    Raises:
        ConfigError: The approximation needs more functions for a unit of this length (Riutort-Mayol et al., section 4).
    """
    half = (calendar.fitted_weeks - 1 + term.ahead) / 2
    boundary = half + MARGIN * term.length
    needed = int(np.ceil(RESOLUTION * boundary / term.length))
    if term.basis < needed:
        raise ConfigError(
            f"{_unit(calendar)}{calendar.fitted_weeks} fitted periods and {term.ahead} ahead at a length of "
            f"{term.length:g} need at least {needed} functions: raise basis or length",
            key="model.baseline.hsgp.basis",
        )
    frequency = np.pi * np.arange(1, term.basis + 1) / (2 * boundary)
    density = np.sqrt(2 * np.pi) * term.length * np.exp(-0.5 * (term.length * frequency) ** 2)
    place = np.arange(len(calendar.dates)) - half
    waves = np.sin(frequency * np.minimum(place + boundary, 2 * boundary)[:, None]) / np.sqrt(boundary)
    return waves * np.sqrt(density)


def _places(term: Piecewise | Knots, calendar: Calendar) -> Float[np.ndarray, " place"]:
    """Days since 1970-01-01 of the term's places."""
    if term.at:
        return np.array(term.at, "datetime64[D]").astype(float)
    _refuse_longer(term, calendar)
    last = calendar.dates[0].astype("datetime64[D]").astype(float) + (calendar.fitted_weeks - 1) * calendar.step
    return last - np.array(term.back, float) * calendar.step


def _refuse_longer(term: Piecewise | Knots | RandomWalk, calendar: Calendar) -> None:
    if calendar.fitted_weeks - 1 > term.over:
        raise ConfigError(
            f"{_unit(calendar)}reaches {counted(term.over, 'period')} back, of {calendar.fitted_weeks} fitted: "
            f"set over: {calendar.fitted_weeks - 1}",
            key=f"model.baseline.{term.term}.over",
        )


def _unit(calendar: Calendar) -> str:
    return f"{' / '.join(calendar.unit.values())}: " if calendar.unit else ""
