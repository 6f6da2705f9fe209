"""Experiments: lift tests that a simulated unit might have made, with what they measured, from plain formulas."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mixfleet import config
from mixfleet.simulation.truth import Truth, saturated_adstock

__all__ = ["Tested", "drawn_tests"]

FACTORS = (0.0, 0.5, 1.5, 2.0)
WEEKS = (2, 7)
"""A test takes so many weeks, the last number left out."""

ERRORS = (0.03, 0.3)
"""Standard errors in weeks of usual sales, over all choices of the truth the same: they must not tell of it."""


class Tested(NamedTuple):
    """A unit, as its tests need it."""

    dates: np.ndarray
    """First days of the weeks."""
    media: Float[np.ndarray, "week channel"]
    """On the model's scale."""
    channels: Sequence[str]
    """Their names."""
    truth: Truth
    kpi_scale: float
    """What a KPI of one is worth on the table's scale."""

    def lift(self, start: np.datetime64, weeks: int, channel: int, factor: float, model: config.Model) -> float:
        """What so many weeks of a channel's media times a factor bring beside the media as they were, in KPI."""
        first = int(np.searchsorted(self.dates, start))
        longer = np.concatenate([self.media, np.zeros((model.window, self.media.shape[1]))])
        changed = longer.copy()
        changed[first : first + weeks, channel] *= factor
        more, real = (saturated_adstock(path, self.truth.channel, model, self.channels) for path in (changed, longer))
        return self.kpi_scale * float((more - real)[:, channel].sum() * self.truth.channel["effect"][channel])


def drawn_tests(
    rng: np.random.Generator, units: Sequence[Tested], *, count: int, model: config.Model
) -> list[dict[str, Any]]:
    """Rows of a table of tests, without the keys: every lift is the truth's own, and an error drawn around it.

    Args:
        rng: The tests' own stream.
        units: Which are tested together, or one; a channel that runs in the first of them.
        count: How many.
        model: Their curves.
    """
    one, rows = units[0], list[dict[str, Any]]()
    begin, end = max(unit.dates[0] for unit in units), min(unit.dates[-1] for unit in units)
    common = (one.dates >= begin) & (one.dates <= end)
    dates, media = one.dates[common], one.media[common]
    ran = np.flatnonzero(media.any(axis=0))
    for _ in range(count):
        channel, weeks = int(rng.choice(ran)), int(rng.integers(*WEEKS))
        first = int(rng.choice(np.flatnonzero(media[: len(media) - weeks + 1, channel])))
        factor, error = float(rng.choice(FACTORS)), float(np.exp(rng.uniform(*np.log(ERRORS))))
        se = error * float(np.linalg.norm([unit.kpi_scale for unit in units]))
        lift = sum(unit.lift(dates[first], weeks, channel, factor, model) for unit in units)
        rows.append(
            {
                "channel": one.channels[channel],
                "start": str(dates[first]),
                "end": str(dates[first + weeks - 1] + np.timedelta64(6, "D")),
                "factor": factor,
                "lift": lift + se * rng.standard_normal(),
                "se": se,
            }
        )
    return rows
