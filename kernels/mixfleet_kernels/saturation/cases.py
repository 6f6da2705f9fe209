"""Named shapes and parameters for tests and benchmarks of saturation."""

import dataclasses

import numpy as np
from jaxtyping import Float

from mixfleet_kernels import saturation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One call of a saturation operation."""

    family: str
    weeks: int = 156
    batch: tuple[int, ...] = (8,)
    negative: bool = False
    """Whether some weeks hold negative media."""
    large: bool = False
    """Whether it is meant for benchmarks: the reference takes seconds."""

    def media(self, dtype: type[np.floating]) -> Float[np.ndarray, "week *batch"]:
        """Media with zero weeks, the same at every call."""
        random = np.random.default_rng(3)
        bought = random.random((self.weeks, *self.batch)) < 0.7
        media = bought * random.gamma(2.0, 0.2, (self.weeks, *self.batch))
        if self.negative:
            media = media * np.where(random.random(media.shape) < 0.2, -1.0, 1.0)
        return media.astype(dtype)

    def parameters(self, dtype: type[np.floating]) -> tuple[Float[np.ndarray, "*batch"], ...]:
        """Parameters over the range that media mix models report, the same at every call."""
        random = np.random.default_rng(4)
        low_high = {
            "rate": (0.2, 8.0),
            "slope": (0.5, 4.0),
            "half_saturation": (0.1, 2.0),
            "scale": (0.2, 3.0),
            "exponent": (0.2, 1.0),
        }
        names = saturation.PARAMETERS[self.family]
        return tuple(random.uniform(*low_high[name], self.batch).astype(dtype) for name in names)


ODD_BY_REFLECTION = ("hill", "michaelis_menten", "exponential", "root", "log")
"""Families whose formula is not odd by itself."""

CASES: dict[str, Case] = {
    **{f"{family}_156x8": Case(family=family) for family in saturation.PARAMETERS},
    **{f"{family}_negative": Case(family=family, weeks=30, negative=True) for family in ODD_BY_REFLECTION},
    "hill_one_channel": Case(family="hill", weeks=40, batch=()),
    "logistic_26x3x2": Case(family="logistic", weeks=26, batch=(3, 2)),
    **{f"{family}_156x8x128": Case(family=family, batch=(8, 128), large=True) for family in saturation.PARAMETERS},
}
"""Name -> case; the name says family and, for the fleet's own shape, weeks x channels x lanes."""
