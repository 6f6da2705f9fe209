"""Calendar: what the columns of a unit's baseline are made from, besides its table's."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from mixfleet.config.baseline import DAYS_PER_YEAR

__all__ = ["DAYS_PER_YEAR", "Calendar"]

_DAY = np.timedelta64(1, "D")
_WEEK = 7


class Calendar(NamedTuple):
    """A unit's periods; dates may go on beyond the weeks that are fitted."""

    dates: Shaped[np.ndarray, " week"]
    """datetime64[D] of each week."""
    fitted_weeks: int
    """Weeks up to the holdout, from the first."""
    unit: Mapping[str, str] = MappingProxyType({})
    """Key column to the unit's label."""

    @property
    def step(self) -> int:
        """Days from one period to the next."""
        return int((self.dates[1] - self.dates[0]) / _DAY) if len(self.dates) > 1 else _WEEK

    @property
    def since_fit(self) -> Float[np.ndarray, " week"]:
        """Periods after the last fitted one; below zero before it."""
        return np.arange(len(self.dates)) - float(self.fitted_weeks - 1)

    @property
    def days(self) -> Float[np.ndarray, " week"]:
        """Days since 1970-01-01."""
        return self.dates.astype("datetime64[D]").astype(float)
