"""Course: the KPI that a unit's model expects week by week, draw by draw, and the noise that may come on top."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from mixfleet.analysis import counterfactual
from mixfleet.analysis.aggregate import Aggregation, gather, weekly_noise
from mixfleet.analysis.posterior_draws import Block, Fleet
from mixfleet.models.media import Curves
from mixfleet.posterior.scores import scores

__all__ = ["Course", "agreement", "by_date", "course"]


class Course(NamedTuple):
    """One unit's or group's weeks; zero in those that do not count."""

    kpi: Float[np.ndarray, " week"]
    expected: Float[np.ndarray, "week draw"]
    noise: Float[np.ndarray, "week draw"]
    weeks: Int[np.ndarray, " week"]
    """Unit-weeks that count."""


def course(fleet: Fleet, block: Block) -> Course:
    """All weeks of the one unit of a block."""
    unit = fleet.units[block.places[0]]
    weeks = len(unit.dates)
    counted = block.counted[0, :weeks]
    curves = Curves(block.shape[:, 0], block.effect[0])
    with jax.enable_x64(True):
        media = np.asarray(counterfactual.weekly(block.media[0], curves, model=fleet.spec.model))
    # No product of matrices by a library whose own threads would wait for those of the walk.
    expected = np.einsum("tj,jd->td", block.design[0, :weeks], block.coefficients[0])
    expected += media[:weeks]
    noise = weekly_noise(fleet, block)
    expected[~counted] = noise[~counted] = 0.0
    return Course(block.kpi[0, :weeks], expected, noise, counted.astype(int))


def by_date(fleet: Fleet, by: tuple[str, ...]) -> Aggregation:
    """Sums of the certified units' courses, date by date of the whole fleet."""
    dates = np.unique(np.concatenate([unit.dates for unit in fleet.units])) if fleet.units else np.zeros(0, "M8[D]")

    def work(block: Block) -> tuple[Course, None]:
        own, place = course(fleet, block), np.searchsorted(dates, fleet.units[block.places[0]].dates)
        wide = [np.zeros((len(dates), *part.shape[1:]), part.dtype) for part in own]
        for target, part in zip(wide, own, strict=True):
            target[place] = part
        return Course(*wide), None

    return gather(fleet, fleet.walk(work), [by])


def agreement(own: Course) -> dict[str, float]:
    """Scores of the weeks in which there is anything."""
    there = own.weeks > 0
    ordered = np.sort(own.expected[there] + own.noise[there], axis=-1)
    mean = own.expected[there].mean(axis=-1)
    return {name: float(values[0]) for name, values in scores(own.kpi[there], mean, ordered).items()}
