"""The values that cross the evidence kernel: plain arrays, units or lanes last."""

from typing import NamedTuple

from jaxtyping import Array, Float

__all__ = ["Evidence", "LiftTests"]


class LiftTests(NamedTuple):
    """Lift tests of a tile of units. A row is one channel under test in one test; there are as many tests as rows."""

    media: Float[Array, "virtual path unit"]
    """Scaled media of every row: all rows with the test, then all without. The last `lifted` weeks may have a weight;
    those before them carry over, and are at least one less than the window."""
    weight: Float[Array, "lifted row unit"]
    """What each week's difference counts for, in standard deviations of the test."""
    channel: Float[Array, "row channel unit"]
    """One where the row is the channel's."""
    test: Float[Array, "test row unit"]
    """One where the row is the test's."""
    estimate: Float[Array, "2 test unit"] | Float[Array, "2 test lane"]
    """Estimate in standard deviations of the test, and the log of its density's constant. It may differ between the
    chains of a unit."""


class Evidence(NamedTuple):
    """The log likelihood of every lane's tests, and its gradient."""

    value: Float[Array, " lane"]
    by_shape: tuple[Float[Array, "channel lane"], ...]
    """By adstock, then by saturation parameters, with the effect held."""
    by_effect: Float[Array, "channel lane"]
