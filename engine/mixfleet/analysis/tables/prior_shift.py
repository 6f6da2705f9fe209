"""How far the data took each parameter and ROI from its prior."""

import numpy as np
import pyarrow as pa

__all__ = ["movement"]

LEARNT, HEARD = 0.5, 0.1
"""Contraction above which the data decided, or were heard at all."""

FAR = 0.5
"""Shift in prior standard deviations that counts as being heard even where the spread stayed."""


def movement(params: pa.Table, roi: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """One row per unit, parameter and channel: `contraction` 1 - (sd / prior sd)^2, `shift` in prior sds, `verdict`.

    Args:
        params: The run's table of parameters.
        roi: The run's table of ROI.
        keys: Key columns.
    """
    names = [*keys, "status", "parameter", "channel", "prior_mean", "prior_sd", "mean", "sd", "q05", "q50", "q95"]
    roi = roi.append_column("parameter", pa.array(["roi"] * roi.num_rows, pa.string()))
    table = pa.concat_tables([params.select(names), roi.select(names)])
    before, spread, mean, sd = (table[name].to_numpy() for name in ("prior_mean", "prior_sd", "mean", "sd"))
    with np.errstate(divide="ignore", invalid="ignore"):
        contraction = 1 - (sd / spread) ** 2
        shift = (mean - before) / spread
    verdict = np.select(
        [~np.isfinite(contraction), contraction >= LEARNT, (contraction >= HEARD) | (np.abs(shift) >= FAR)],
        ["prior has no spread to compare with", "the data decided", "the data were heard"],
        "the prior speaks: the data said little",
    )
    for name, values in (("contraction", contraction), ("shift", shift), ("verdict", verdict.astype(object))):
        table = table.append_column(name, pa.array(values))
    return table
