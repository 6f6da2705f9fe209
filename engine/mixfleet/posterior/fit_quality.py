"""Accuracy: the KPI that a unit's model expects, week by week, and how well it agrees with what came."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mixfleet.config import Spec
from mixfleet.inference.draws import Draws, predict
from mixfleet.inference.scheduler import Finished
from mixfleet.models.batch import Structure
from mixfleet.posterior.scores import scores

__all__ = ["Sample", "sample_of", "weekly_fit"]


@dataclass(frozen=True)
class Sample:
    """Evenly spaced draws of all chains, on one axis, scaled."""

    shape: Float[np.ndarray, "parameter channel sample"]
    effect: Float[np.ndarray, "channel sample"]
    observation: Float[np.ndarray, "parameter sample"]
    coefficients: Float[np.ndarray, "column sample"]


def sample_of(draws: Draws, size: int) -> Sample:
    """`size` draws of all chains, evenly spaced."""
    total = draws.noise.size
    picked = (np.arange(size) * total) // size

    # Chain after chain: a stride through draws that hold all chains side by side would meet a few chains only.
    def flat(values: Any) -> np.ndarray:
        by_chain = np.swapaxes(np.asarray(values), -1, -2)
        return by_chain.reshape(*by_chain.shape[:-2], total)[..., picked]

    return Sample(flat(draws.shape), flat(draws.effect), flat(draws.observation), flat(draws.coefficients))


def weekly_fit(
    fitted: Finished, sample: Sample, structure: Structure, spec: Spec
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Expected KPI by week with the interval of the KPI itself, and how well it agrees, held-out weeks apart."""
    member = fitted.job.member
    weeks = len(member.unit.dates)
    design = np.zeros((structure.weeks, structure.columns))
    design[:weeks] = member.design
    expected, outcome = predict(
        structure,
        fitted.batch,
        np.int32(fitted.place),
        *(
            np.asarray(part, structure.dtype)
            for part in (design, sample.shape, sample.effect, sample.observation, sample.coefficients)
        ),
        fitted.job.keys[0],
    )
    mean = np.asarray(expected, float)[:weeks].mean(axis=1) * member.scale.kpi
    ordered = np.sort(np.asarray(outcome)[:weeks], axis=1).astype(float) * member.scale.kpi
    size = ordered.shape[1]
    low, high = ordered[:, int(0.05 * size)], ordered[:, int(0.95 * size) - 1]
    kpi = member.unit.kpi
    known = member.unit.observed & np.isfinite(kpi)

    def judged(which: np.ndarray) -> dict[str, np.ndarray]:
        return scores(kpi[which], mean[which], ordered[which])

    quality = judged(member.fitted)
    holdout = spec.data.holdout or 0
    if holdout:
        held = known & (np.arange(weeks) >= weeks - holdout)
        quality |= {f"holdout_{name}": value for name, value in judged(held).items()}
    weekly = {
        "date": member.unit.dates.astype("datetime64[D]"),
        "kpi": kpi,
        "observed": known,
        "mean": mean,
        "q05": low,
        "q95": high,
    }
    return weekly, quality
