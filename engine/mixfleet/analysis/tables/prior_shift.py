"""How far the data took each parameter and ROI from its prior."""

import numpy as np
import pyarrow as pa
from jaxtyping import Float

__all__ = ["movement"]

LEARNT, HEARD = 0.5, 0.1
"""Contraction above which the data decided, or were heard at all."""

FAR = 0.5
"""Shift in prior standard deviations that counts as being heard even where the spread stayed."""

WIDTH = 2 * 1.6448536269514722
"""A normal's central 90 % interval in standard deviations."""

_STATISTICS = ("prior_mean", "prior_sd", "mean", "sd", "q05", "q50", "q95")
_QUANTILES = ("q05", "q50", "q95")


def movement(params: pa.Table, roi: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """One row per unit, parameter and channel: `contraction` 1 - (sd / prior sd)^2, `shift` in prior sds, `verdict`.

    Of ROI, whose priors have long tails, both are told of its logarithm, and by quantiles: the medians, and the widths
    of the 90 % intervals as a normal's. The verdict is so about what a unit of spend brings, whatever coordinate is
    sampled and whatever the prior is on.

    Args:
        params: The run's table of parameters.
        roi: The run's table of ROI.
        keys: Key columns.
    """
    names = [*keys, "status", "parameter", "channel", *_STATISTICS]
    named = roi.append_column("parameter", pa.array(["roi"] * roi.num_rows, pa.string()))
    table = pa.concat_tables([params.select(names), named.select(names)])
    of_params = _moved(*(params[name].to_numpy() for name in ("mean", "sd", "prior_mean", "prior_sd")))
    of_roi = _moved(*_log_moments(roi, ""), *_log_moments(roi, "prior_"))
    contraction, shift = (np.concatenate(pair) for pair in zip(of_params, of_roi, strict=True))
    verdict = np.select(
        [~np.isfinite(contraction), contraction >= LEARNT, (contraction >= HEARD) | (np.abs(shift) >= FAR)],
        ["prior has no spread to compare with", "the data decided", "the data were heard"],
        "the prior speaks: the data said little",
    )
    for name, values in (("contraction", contraction), ("shift", shift), ("verdict", verdict.astype(object))):
        table = table.append_column(name, pa.array(values))
    return table


def _moved(
    mean: Float[np.ndarray, " row"],
    sd: Float[np.ndarray, " row"],
    before: Float[np.ndarray, " row"],
    spread: Float[np.ndarray, " row"],
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
    """Contraction and shift."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - (sd / spread) ** 2, (mean - before) / spread


def _log_moments(roi: pa.Table, prefix: str) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
    """Median and standard deviation of the logarithm, by quantiles; NaN where money comes back negative."""
    with np.errstate(divide="ignore", invalid="ignore"):
        low, middle, high = (np.log(roi[prefix + name].to_numpy()) for name in _QUANTILES)
    return middle, (high - low) / WIDTH
