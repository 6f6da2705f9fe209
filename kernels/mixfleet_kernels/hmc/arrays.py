"""The values that cross the native density and block: the units' data, their chains, and the draws made so far.

A lane is one chain of one unit; the lanes of a unit stand together, so `lane = unit * chains + chain`.
"""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int, UInt32

__all__ = ["Chains", "Data", "Draws", "Evaluation", "Form", "Geometry", "Place", "Tuning"]


class Form(NamedTuple):
    """What the density is made of; no array, and the same for all units."""

    saturation: str
    """Family of every channel's saturation; adstock is geometric and comes first."""
    window: int
    """Weeks of the adstock's window."""
    normalised: bool
    """Whether windows sum to one."""
    shapes: tuple[tuple[int, str], ...]
    """First coordinate and prior family of each parameter of the curves: the decay's, then the saturation's. Of a
    "fixed" parameter the first column of its prior data, which holds the values."""
    effect_first: int
    strengths: tuple[str, ...]
    """Prior family of each channel's strength."""
    noise: tuple[int, str]
    """Coordinate and prior family of the noise."""
    strength_is_mean: bool
    measured: bool
    """Whether some strength's prior is on something else than its effect."""


class Data(NamedTuple):
    """The units' data."""

    media: Float[Array, "week channel unit"]
    kpi: Float[Array, "week unit"]
    weight: Float[Array, "week unit"]
    basis: Float[Array, "unit week column"]
    variance: Float[Array, "column unit"]
    active: Float[Array, "channel unit"]
    hyper: Float[Array, "5 prior_column unit"]
    measure: Float[Array, "3 channel unit"]
    strength_unit: Float[Array, "channel unit"]
    lift_media: Float[Array, "virtual path unit"]
    """Of lift tests, as `mixfleet_kernels.evidence` takes them; no rows where no unit has tests."""
    lift_weight: Float[Array, "lifted row unit"]
    lift_channel: Float[Array, "row channel unit"]
    """One where the row is the channel's."""
    lift_test: Float[Array, "test row unit"]
    """One where the row is the test's; there are as many tests as rows."""
    lift_estimate: Float[Array, "2 test unit"]
    """Estimate in standard deviations of the test, and the log of its density's constant."""


class Evaluation(NamedTuple):
    """The log density of every lane."""

    value: Float[Array, " lane"]
    gradient: Float[Array, "coordinate lane"]
    extra: Float[Array, "extra lane"]
    """Mean response by channel, then the projection by column."""


class Geometry(NamedTuple):
    """What a block of trajectories leaves as it is."""

    key: UInt32[Array, "unit 2"]
    location: Float[Array, "coordinate unit"]
    scale: Float[Array, "coordinate unit"]
    skewness: Float[Array, "coordinate unit"]
    tail: Float[Array, "coordinate unit"]
    """Of the sinh-arcsinh coordinates that the chains move in."""
    covariance: Float[Array, "unit coordinate coordinate"]
    upper: Float[Array, "unit coordinate coordinate"]
    """Its upper Cholesky factor."""
    inverse: Float[Array, "unit coordinate coordinate"]
    """Inverse of its lower Cholesky factor."""
    adapting: Bool[Array, " unit"]
    target_accept: Float[Array, " unit"]


class Place(NamedTuple):
    """Where every lane stands in its adapted coordinates, with all that is known there."""

    position: Float[Array, "coordinate lane"]
    gradient: Float[Array, "coordinate lane"]
    push: Float[Array, "coordinate lane"]
    """Covariance times gradient."""
    value: Float[Array, " lane"]
    original: Float[Array, "coordinate lane"]
    """The position in the model's own coordinates."""
    density: Float[Array, " lane"]
    """Log density there."""
    extra: Float[Array, "extra lane"]


class Chains(NamedTuple):
    """The chains between two ticks, and each unit's step size."""

    here: Place
    start: Place
    momentum: Float[Array, "coordinate lane"]
    velocity: Float[Array, "coordinate lane"]
    start_energy: Float[Array, " lane"]
    threshold: Float[Array, " lane"]
    steps_left: Int[Array, " unit"]
    transition: Int[Array, " unit"]
    log_step: Float[Array, " unit"]
    log_average: Float[Array, " unit"]
    shortfall: Float[Array, " unit"]
    centre: Float[Array, " unit"]
    updates: Float[Array, " unit"]


class Draws(NamedTuple):
    """The draws so far; a row holds position, extra, log density and energy of every chain."""

    rows: Float[Array, "unit draw field chain"]
    filled: Int[Array, " unit"]
    divergences: Int[Array, " unit"]
    accept: Float[Array, " unit"]
    """Mean acceptance of the last block."""
    balance: Float[Array, "unit chain"]


class Tuning(NamedTuple):
    """Constants of the sampler."""

    ticks: int
    """Leapfrog steps of a block."""
    most_steps: int
    shortest: float
    longest: float
    """Bounds of a trajectory's length, in standard deviations."""
    divergence: float
    gain: float
    delay: float
    decay: float
