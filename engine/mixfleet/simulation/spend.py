"""How advertisers spend over the weeks, for simulated fleets."""

import numpy as np
from jaxtyping import Float

NAMES = ("tv", "search", "social", "display", "radio", "print", "outdoor", "video")
"""Channels by usual name; further ones are numbered."""

_PATTERNS = ("pulsed", "always_on", "always_on", "seasonal", "pulsed", "seasonal", "pulsed", "always_on")
_BUDGET_SHARE = (0.28, 0.20, 0.14, 0.10, 0.08, 0.06, 0.06, 0.08)
_MEDIA_BUDGET = 0.08
"""Media spend as a share of the unit's weekly sales."""


def channel_names(count: int) -> tuple[str, ...]:
    """Names of the first `count` channels."""
    return tuple(NAMES[i] if i < len(NAMES) else f"channel_{i + 1:02d}" for i in range(count))


def weekly_spend(
    rng: np.random.Generator, *, weeks: int, channels: int, sales: float
) -> Float[np.ndarray, "week channel"]:
    """Spend per week and channel, in the currency of `sales`, the unit's usual sales per week.

    Pulsed channels run in campaigns and are dark between them, seasonal ones peak once a year, the others
    never stop; all carry log-normal noise.
    """
    week = np.arange(weeks)
    columns = []
    for i in range(channels):
        pattern = _PATTERNS[i % len(_PATTERNS)]
        if pattern == "pulsed":
            shape = _campaigns(rng, weeks)
        elif pattern == "seasonal":
            peak = rng.uniform(0.75, 1.0)
            shape = np.exp(2.5 * (np.cos(2 * np.pi * (week / 52.18 - peak)) - 1)) + 0.05
        else:
            shape = _drifting(rng, weeks)
        noise = rng.lognormal(-0.045, 0.3, weeks)
        size = sales * _MEDIA_BUDGET * _BUDGET_SHARE[i % len(_BUDGET_SHARE)] * rng.lognormal(0.0, 0.4)
        columns.append(np.round(size * shape / shape.mean() * noise, 2))
    return np.stack(columns, axis=1)


def _campaigns(rng: np.random.Generator, weeks: int) -> Float[np.ndarray, " week"]:
    shape = np.zeros(weeks)
    start = int(rng.integers(0, 6))
    # The first campaign starts in the first weeks, so that no series is too short to see one.
    while start < weeks:
        length = int(rng.integers(3, 9))
        shape[start : start + length] = rng.lognormal(0.0, 0.4)
        start += length + int(rng.integers(3, 11))
    return shape


def _drifting(rng: np.random.Generator, weeks: int) -> Float[np.ndarray, " week"]:
    """A level that wanders slowly and returns: log-AR(1) with a half-life of about seven weeks."""
    steps = rng.normal(0.0, 0.12, weeks)
    level = np.zeros(weeks)
    for t in range(1, weeks):
        level[t] = 0.9 * level[t - 1] + steps[t]
    return np.exp(level)


def weekly_controls(rng: np.random.Generator, *, weeks: int, controls: int) -> Float[np.ndarray, "week control"]:
    """Controls in turn a wandering index (around 100) and a yearly temperature-like curve."""
    week = np.arange(weeks)
    columns = []
    for i in range(controls):
        if i % 2 == 0:
            columns.append(100.0 * _drifting(rng, weeks))
        else:
            season = 12.0 + 9.0 * np.sin(2 * np.pi * (week / 52.18 - rng.uniform(0.2, 0.35)))
            columns.append(season + rng.normal(0.0, 2.5, weeks))
    return np.stack(columns, axis=1).round(4) if columns else np.zeros((weeks, 0))
