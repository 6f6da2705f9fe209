"""The values that cross the native density and block: the units' data, their chains, and the draws made so far.

A lane is one chain of one unit; the lanes of a unit stand together, so `lane = unit * chains + chain`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt32

from mixfleet_kernels.channel_form import ChannelForm

__all__ = ["Adam", "Chains", "Data", "Draws", "Evaluation", "Form", "Geometry", "Place", "Tuning"]


class Form(NamedTuple):
    """What the density is made of; no array, and the same for all units."""

    channels: tuple[ChannelForm, ...]
    """Of each channel's media; no window is given."""
    adstock_slots: int
    """Of the slots below, those of adstocks, which come first."""
    shapes: tuple[tuple[tuple[int, str] | None, ...], ...]
    """Of each slot and channel, the coordinate and the prior family of that parameter of its curve; None where the
    channel has no such. Of a "fixed" parameter the column of its prior data, which holds the value. A slot is the
    first, second, ... parameter of each channel's adstock, then of its saturation."""
    effect_first: int
    strengths: tuple[str, ...]
    """Prior family of each channel's strength."""
    noise: tuple[int, str]
    """Coordinate and prior family of the noise."""
    correlation: tuple[int, str] | None
    """Of its correlation with the next week's; None where it is independent."""
    coefficients: tuple[tuple[int, str], ...]
    """Coordinate and prior family of each coefficient of the baseline that is sampled."""
    strength_is_mean: bool
    measured: bool
    """Whether some strength's prior is on something else than its effect."""


class Data(NamedTuple):
    """The units' data."""

    media: Float[np.ndarray, "week channel unit"]
    kpi: Float[np.ndarray, "week unit"]
    weight: Float[np.ndarray, "week unit"]
    basis: Float[np.ndarray, "unit week column"]
    variance: Float[np.ndarray, "column unit"]
    active: Float[np.ndarray, "channel unit"]
    hyper: Float[np.ndarray, "5 prior_column unit"]
    measure: Float[np.ndarray, "3 channel unit"]
    strength_unit: Float[np.ndarray, "channel unit"]
    lift_media: Float[np.ndarray, "virtual path unit"]
    """Of lift tests, as `mixfleet_kernels.evidence` takes them; no rows where no unit has tests."""
    lift_weight: Float[np.ndarray, "lifted row unit"]
    lift_channel: Float[np.ndarray, "row channel unit"]
    """One where the row is the channel's."""
    lift_test: Float[np.ndarray, "test row unit"]
    """One where the row is the test's; there are as many tests as rows."""
    lift_estimate: Float[np.ndarray, "2 test unit"]
    """Estimate in standard deviations of the test, and the log of its density's constant."""
    gap_length: Float[np.ndarray, "gap unit"]
    """Of autocorrelated noise, as `mixfleet_kernels.likelihood.Gaps` has them; no gap where it is independent."""
    gap_spans: Float[np.ndarray, "week gap unit"]
    gap_gram: Float[np.ndarray, "3 gap column column unit"]
    along: Float[np.ndarray, "column sampled unit"]
    """Columns of the sampled coefficients along the basis, whose last directions are theirs, of no variance."""


class Evaluation(NamedTuple):
    """The log density of every lane."""

    value: Float[np.ndarray, " lane"]
    gradient: Float[np.ndarray, "coordinate lane"]
    extra: Float[np.ndarray, "extra lane"]
    """Mean response by channel, then the projection by column; of a coefficient that is sampled, its value."""


class Adam(NamedTuple):
    """How far and how an optimiser goes."""

    rate: Float[np.ndarray, " step"]
    mean_decay: float
    square_decay: float
    smallest: float
    """Added to the root of the mean square."""


class Geometry(NamedTuple):
    """What a block of trajectories leaves as it is."""

    key: UInt32[np.ndarray, "unit 2"]
    location: Float[np.ndarray, "coordinate unit"]
    scale: Float[np.ndarray, "coordinate unit"]
    skewness: Float[np.ndarray, "coordinate unit"]
    tail: Float[np.ndarray, "coordinate unit"]
    """Of the sinh-arcsinh coordinates that the chains move in."""
    covariance: Float[np.ndarray, "unit coordinate coordinate"]
    upper: Float[np.ndarray, "unit coordinate coordinate"]
    """Its upper Cholesky factor."""
    inverse: Float[np.ndarray, "unit coordinate coordinate"]
    """Inverse of its lower Cholesky factor."""
    adapting: Bool[np.ndarray, " unit"]
    target_accept: Float[np.ndarray, " unit"]


class Place(NamedTuple):
    """Where every lane stands in its adapted coordinates, with all that is known there."""

    position: Float[np.ndarray, "coordinate lane"]
    gradient: Float[np.ndarray, "coordinate lane"]
    push: Float[np.ndarray, "coordinate lane"]
    """Covariance times gradient."""
    value: Float[np.ndarray, " lane"]
    original: Float[np.ndarray, "coordinate lane"]
    """The position in the model's own coordinates."""
    density: Float[np.ndarray, " lane"]
    """Log density there."""
    extra: Float[np.ndarray, "extra lane"]


class Chains(NamedTuple):
    """The chains between two ticks, and each unit's step size."""

    here: Place
    start: Place
    momentum: Float[np.ndarray, "coordinate lane"]
    velocity: Float[np.ndarray, "coordinate lane"]
    start_energy: Float[np.ndarray, " lane"]
    threshold: Float[np.ndarray, " lane"]
    steps_left: Int[np.ndarray, " unit"]
    transition: Int[np.ndarray, " unit"]
    log_step: Float[np.ndarray, " unit"]
    log_average: Float[np.ndarray, " unit"]
    shortfall: Float[np.ndarray, " unit"]
    centre: Float[np.ndarray, " unit"]
    updates: Float[np.ndarray, " unit"]


class Draws(NamedTuple):
    """The draws so far; a row holds position, extra, log density and energy of every chain."""

    rows: Float[np.ndarray, "unit draw field chain"]
    filled: Int[np.ndarray, " unit"]
    divergences: Int[np.ndarray, " unit"]
    accept: Float[np.ndarray, " unit"]
    """Mean acceptance of the last block."""
    balance: Float[np.ndarray, "unit chain"]


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
