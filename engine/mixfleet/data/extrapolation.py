"""Extrapolation: columns that go where the fit has not seen them, so that the prior says what they bring there."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

__all__ = ["beyond"]

TINY = 0.1
"""Range in the fitted periods, over what later ones lie outside of it, below which nothing was learnt."""

FAR = 2.0
"""How many times its range, or a channel its highest period, a column may go beyond and is not named."""


def beyond(
    names: Sequence[str],
    seen: Float[np.ndarray, "week column"],
    later: Float[np.ndarray, "week column"],
    *,
    channels: bool = False,
) -> dict[str, str]:
    """What is to be said of columns whose later values lie far outside those of the fitted periods, by name.

    Args:
        names: Of the columns.
        seen: Values in the fitted periods.
        later: Values in the periods that are foretold; NaN where none is known.
        channels: Whether they are media, which the model knows from zero on, and not controls.
    """
    if not len(seen) or not len(later):
        return {}
    found = {}
    for name, own, new in zip(names, seen.T, later.T, strict=True):
        low, high = (0.0, max(float(own.max()), 0.0)) if channels else (float(own.min()), float(own.max()))
        outside = float(np.nanmax(np.maximum(new - high, low - new), initial=0.0))
        spread = high - low
        # Rounding of a large constant is no movement.
        if outside <= 1e-9 * max(abs(low), abs(high)):
            continue
        if spread < TINY * outside:
            found[name] = "nothing was learnt about it"
        elif outside > FAR * spread:
            found[name] = f"{outside / spread:.1f} times its range beyond what was seen"
    return found
