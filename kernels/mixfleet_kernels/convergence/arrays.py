"""What comes out of the diagnostics."""

from typing import NamedTuple

from jaxtyping import Array, Float


class Convergence(NamedTuple):
    """Convergence of each quantity, in float64; NaN where it cannot be judged."""

    rhat: Float[Array, " quantity"]
    """Rank-normalised split R-hat, the larger of bulk and folded."""
    ess_bulk: Float[Array, " quantity"]
    """Effective draws for the centre of the distribution, over all chains."""
    ess_tail: Float[Array, " quantity"]
    """Effective draws for the 5 % or the 95 % quantile, whichever has fewer."""
