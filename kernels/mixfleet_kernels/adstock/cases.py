"""Named shapes and parameters for tests and benchmarks of adstock."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from mixfleet_kernels import adstock


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One call of an adstock operation."""

    family: str
    weeks: int = 156
    batch: tuple[int, ...] = (8,)
    window: int = 9
    normalise: bool = True
    binomial_offset: int = 0
    weibull_minmax: bool = False
    large: bool = False
    """Whether it is meant for benchmarks: the reference takes seconds."""

    def media(self, dtype: type[np.floating]) -> Float[np.ndarray, "week *batch"]:
        """Media with zero weeks, the same at every call."""
        random = np.random.default_rng(1)
        bought = random.random((self.weeks, *self.batch)) < 0.7
        return (bought * random.gamma(2.0, 0.2, (self.weeks, *self.batch))).astype(dtype)

    def parameters(self, dtype: type[np.floating]) -> tuple[Float[np.ndarray, "*batch"], ...]:
        """Parameters over the range that media mix models report, the same at every call."""
        random = np.random.default_rng(2)
        low_high = {
            "decay": (0.05, 0.95),
            "delay": (0.0, 4.0),
            "adstock_shape": (0.4, 4.0),
            "adstock_scale": (0.5, 6.0),
        }
        names = adstock.PARAMETERS[self.family]
        return tuple(random.uniform(*low_high[name], self.batch).astype(dtype) for name in names)

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of `adstock.weights`."""
        return {
            "window": self.window,
            "normalise": self.normalise,
            "binomial_offset": self.binomial_offset,
            "weibull_minmax": self.weibull_minmax,
        }


CASES: dict[str, Case] = {
    **{f"{family}_156x8": Case(family=family) for family in adstock.PARAMETERS},
    **{
        f"{family}_raw": Case(family=family, weeks=30, normalise=False)
        for family in adstock.PARAMETERS
        if family != "none"
    },
    "geometric_one_channel": Case(family="geometric", weeks=40, batch=()),
    "geometric_one_week_window": Case(family="geometric", weeks=40, window=1),
    "geometric_recursion": Case(family="geometric", weeks=104, batch=(2,), window=104, normalise=False),
    "geometric_window_beyond_series": Case(family="geometric", weeks=5, batch=(2,)),
    "binomial_offset": Case(family="binomial", weeks=30, binomial_offset=1),
    "delayed_13": Case(family="delayed", weeks=52, batch=(3, 2), window=13),
    "weibull_pdf_minmax": Case(family="weibull_pdf", weeks=30, weibull_minmax=True),
    "weibull_pdf_minmax_raw": Case(family="weibull_pdf", weeks=30, weibull_minmax=True, normalise=False),
    **{f"{family}_156x8x128": Case(family=family, batch=(8, 128), large=True) for family in adstock.PARAMETERS},
}
"""Name -> case; the name says family and, for the fleet's own shape, weeks x channels x lanes."""
