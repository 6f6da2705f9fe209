"""Powers: priors whose density is another's to a power, so that they count more or less beside the likelihood.

Reference:
    Kallioinen, Paananen, Buerkner, Vehtari (2024), Detecting and diagnosing prior and likelihood sensitivity with
    power-scaling, doi:10.1007/s11222-023-10366-5.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np

from mixfleet.config import Prior
from mixfleet.config.priors import Distribution, Override, check_support
from mixfleet.config.schema import FrozenMapping
from mixfleet.errors import ConfigError

__all__ = ["powered", "powered_settings"]

Hyperparameters = Mapping[str, float]


def _same(h: Hyperparameters, power: float) -> Hyperparameters:
    del power
    return h


def _student(h: Hyperparameters, power: float) -> Hyperparameters:
    df = (h["df"] + 1) * power - 1
    return {"df": df, "scale": h["scale"] * np.sqrt(h["df"] / df) if df > 0 else h["scale"]}


def _lognormal(h: Hyperparameters, power: float) -> Hyperparameters:
    variance = h["sd_log"] ** 2 / power
    return {"mean_log": h["mean_log"] + (1 - power) * variance, "sd_log": np.sqrt(variance)}


POWERED: dict[str, Callable[[Hyperparameters, float], Hyperparameters]] = {
    "normal": lambda h, power: {"sd": h["sd"] / np.sqrt(power)},
    "laplace": lambda h, power: {"scale": h["scale"] / power},
    "student_t": _student,
    "half_normal": lambda h, power: {"sd": h["sd"] / np.sqrt(power)},
    "half_student_t": _student,
    "lognormal": _lognormal,
    "shifted_lognormal": _lognormal,
    "gamma": lambda h, power: {"shape": power * (h["shape"] - 1) + 1, "rate": power * h["rate"]},
    "inverse_gamma": lambda h, power: {"shape": power * (h["shape"] + 1) - 1, "scale": power * h["scale"]},
    "exponential": lambda h, power: {"rate": power * h["rate"]},
    "beta": lambda h, power: {"a": power * (h["a"] - 1) + 1, "b": power * (h["b"] - 1) + 1},
    "uniform": _same,
    "truncated_normal": lambda h, power: {"sd": h["sd"] / np.sqrt(power)},
    "fixed": _same,
}
"""By family, the hyperparameters that change where the density is taken to a power: the family stays."""


def powered(prior: Distribution, power: float) -> Distribution:
    """The distribution whose density goes with this power of the prior's.

    Raises:
        ConfigError: The family is from outside, or there is no such distribution.
    """
    if prior.family not in POWERED:
        raise ConfigError("has no power that is known to be of the same family", key=f"prior.{prior.family}")
    return prior.changed(
        {name: float(value) for name, value in POWERED[prior.family](prior.hyperparameters, power).items()}
    )


def powered_settings(prior: Prior, parameters: Collection[str], power: float) -> Prior:
    """The priors of these parameters to a power, in every unit and channel.

    Raises:
        ConfigError: A prior among them has no such power, or one that its parameter cannot have.
    """
    found, overrides = {}, [each for each in prior.overrides if each.parameter not in parameters]
    for name in parameters:
        own = prior.of(name)
        found[name] = powered(own, power)
        check_support(name, found[name], key=f"prior.parameters.{name}")
        for place, before in _overridden(own, [each for each in prior.overrides if each.parameter == name]):
            overrides.append(replace(place, hyperparameters=powered(before, power).hyperparameters))
    return replace(prior, parameters=FrozenMapping({**prior.parameters, **found}), overrides=tuple(overrides))


def _overridden(own: Distribution, overrides: list[Override]) -> list[tuple[Override, Distribution]]:
    """Where the prior of a parameter differs, and what it is there; of several that match, the last says it whole.

    What overrides say adds up where they overlap, so that every overlap is a place of its own.
    """
    places: list[tuple[Override | None, Distribution]] = [(None, own)]
    for override in overrides:
        for known, before in list(places):
            both = override if known is None else _overlap(known, override)
            if both is not None:
                places.append((both, before.changed(override.hyperparameters)))
    return [(place, prior) for place, prior in places if place is not None]


def _overlap(one: Override, other: Override) -> Override | None:
    """Units and channels that both hold for; None where there are none."""
    channels = {one.channel, other.channel} - {None}
    if len(channels) > 1 or any(other.unit.get(key, label) != label for key, label in one.unit.items()):
        return None
    return replace(other, unit=FrozenMapping({**one.unit, **other.unit}), channel=next(iter(channels), None))
