"""Experiments: lift tests that a simulated unit might have made, with what they measured, from plain formulas."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mixfleet import config
from mixfleet.simulation.truth import Truth, saturated_adstock

__all__ = ["drawn_tests"]

FACTORS = (0.0, 0.5, 1.5, 2.0)
WEEKS = (2, 7)
"""A test takes so many weeks, the last number left out."""

ERRORS = (0.03, 0.3)
"""Standard errors in weeks of usual sales, over all choices of the truth the same: they must not tell of it."""


def drawn_tests(
    rng: np.random.Generator,
    *,
    count: int,
    dates: np.ndarray,
    media: Float[np.ndarray, "week channel"],
    truth: Truth,
    kpi_scale: float,
    model: config.Model,
    channels: Sequence[str],
) -> list[dict[str, Any]]:
    """Rows of a table of tests, without the keys: every lift is the truth's own, and an error drawn around it.

    Args:
        rng: The tests' own stream.
        count: How many.
        dates: First days of the weeks.
        media: On the model's scale.
        truth: The unit's parameters.
        kpi_scale: What a KPI of one is worth on the table's scale.
        model: Its curves.
        channels: Names of the media.
    """
    ran = np.flatnonzero(media.any(axis=0))
    longer = np.concatenate([media, np.zeros((model.window, media.shape[1]))])
    real, rows = saturated_adstock(longer, truth.channel, model, channels), []
    for _ in range(count):
        channel, weeks = int(rng.choice(ran)), int(rng.integers(*WEEKS))
        first = int(rng.choice(np.flatnonzero(media[: len(media) - weeks + 1, channel])))
        factor, error = float(rng.choice(FACTORS)), float(np.exp(rng.uniform(*np.log(ERRORS))))
        changed = longer.copy()
        changed[first : first + weeks, channel] *= factor
        response = saturated_adstock(changed, truth.channel, model, channels) - real
        lift = float(response[:, channel].sum() * truth.channel["effect"][channel])
        rows.append(
            {
                "channel": channels[channel],
                "start": str(dates[first]),
                "end": str(dates[first + weeks - 1] + np.timedelta64(6, "D")),
                "factor": factor,
                "lift": kpi_scale * (lift + error * rng.standard_normal()),
                "se": kpi_scale * error,
            }
        )
    return rows
