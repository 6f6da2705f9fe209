"""Pooling: which units share hyperparameters, in which parameters, and which channels are of one type."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from mixfleet.config import schema
from mixfleet.config.priors import ADSTOCK_PARAMETERS, PARAMETERS
from mixfleet.config.schema import FrozenMapping, Range, Reads, read_label
from mixfleet.errors import ConfigError

__all__ = ["Pooling"]


def _read_by(value: Any, key: str) -> str | tuple[str, ...]:
    """`none`, `crossed` or a key column as one word, several key columns as a list."""
    if isinstance(value, list | tuple):
        return tuple(read_label(item, key) or "" for item in value)
    return read_label(value, key) or "none"


def _read_lists(value: Any, key: str, *, of: str, items: str) -> Mapping[str, tuple[str, ...]]:
    """Lists of names, by family or type."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"must be a mapping of {of} to {items}, is {value!r}", key=key)
    for name, listed in value.items():
        if not isinstance(listed, list | tuple):
            raise ConfigError(f"must be a list of {items}, is {listed!r}", key=f"{key}.{name}")
    return {
        str(name): tuple(read_label(item, f"{key}.{name}") or "" for item in listed) for name, listed in value.items()
    }


MOVES_THE_LEVEL = ("piecewise", "knots", "random_walk", "hsgp")
"""Parameters of the baseline's terms that make the intercept move."""

Spread = Annotated[float | None, Range(0.0, open=True)]
_KEYS = Reads(partial(_read_lists, of="family", items="key columns"))
_TYPES = Reads(partial(_read_lists, of="type", items="channels"))


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """Which units share hyperparameters, and in which parameters.

    On the scale that a parameter is sampled on (log, or probit between bounds), its value in a unit is the channel's
    centre, plus an effect of each key column's label where `by` names several, plus the unit's own deviation, each
    normal with a learned scale. The centre has the parameter's prior; scales are half-normal. That of a channel's
    strength has one so much narrower that a unit's strength, deviations included, has about the prior that is stated.
    Where channels are of one type their centres lie around the type's mean, which has the prior in their place, with a
    learned scale too.
    """

    by: Annotated[str | tuple[str, ...], Reads(_read_by)] = "none"
    """`none`: every unit alone. A key column: one joint posterior for each of its labels. A list of key columns: one
    joint posterior of all units, with effects of those columns' labels. `crossed`: the list of all key columns."""

    keys: Annotated[FrozenMapping[str, tuple[str, ...]], _KEYS] = FrozenMapping()
    """Where `by` names several columns: those of them whose labels have effects, by family, for families that are not
    to have all of them. Families are the settings below."""

    types: Annotated[FrozenMapping[str, tuple[str, ...]], _TYPES] = FrozenMapping()
    """Channels by type, such as `paid_social: [facebook, tiktok]`; a channel has one type or none."""

    type: Annotated[float, Range(0.0, open=True)] = 0.5
    """Standard deviation of the half-normal prior of the scales of the types' centres, in standard deviations of the
    parameter's prior."""

    effect: Spread = 0.5
    """Standard deviation of the half-normal prior of the scales of the effects' logarithms; null: not pooled."""

    adstock: Spread = 0.3
    """The same for the adstock parameters."""

    saturation: Spread = 0.3
    """The same for the saturation parameters."""

    trend: Spread = 0.5
    """The same for the trend's slope, in standard deviations of the coefficient's own prior; likewise those below."""

    seasonality: Spread = 0.5
    """The same for the seasons, and for every other wave of the baseline."""

    control: Spread = 0.5
    """The same for controls and treatments, holidays, events and registered terms."""

    intercept: Spread = None
    """The same for the intercept, and for whatever moves it: bends, knots, random walks and Gaussian processes."""

    def __post_init__(self) -> None:
        schema.settle(self, key="pooling")
        families = [
            field.name for field in dataclasses.fields(self) if field.name not in ("by", "keys", "types", "type")
        ]
        if self.by != "none" and all(getattr(self, name) is None for name in families):
            raise ConfigError("pools nothing: give a family a scale", key="pooling")
        for name, columns in self.keys.items():
            if name not in families:
                raise ConfigError(f"is no family; those are {', '.join(families)}", key=f"pooling.keys.{name}")
            if isinstance(self.by, str) and self.by != "crossed":
                raise ConfigError("needs by: crossed or a list of key columns", key="pooling.keys")
            if self.by != "crossed" and (unknown := [column for column in columns if column not in self.by]):
                raise ConfigError(f"{unknown[0]!r} is not among pooling.by", key=f"pooling.keys.{name}")
        if self.types and self.by == "none":
            raise ConfigError("needs units that share hyperparameters: set pooling.by", key="pooling.types")
        typed = [channel for channels in self.types.values() for channel in channels]
        for name, channels in self.types.items():
            if twice := [channel for channel in channels if typed.count(channel) > 1]:
                raise ConfigError(f"{twice[0]!r} is listed twice: give it one type", key=f"pooling.types.{name}")
            if len(channels) < 2:
                raise ConfigError("needs two channels or more: add one or leave it out", key=f"pooling.types.{name}")

    def scale(self, parameter: str) -> float | None:
        """Prior scale of a parameter's deviations; None where it is not pooled."""
        return getattr(self, self.setting(parameter))

    def setting(self, parameter: str) -> str:
        """The setting that a parameter is under."""
        return _family(parameter)

    def has_effects(self, parameter: str, column: str) -> bool:
        """Whether the labels of a key column have effects on a parameter, if on any."""
        return column in self.keys.get(_family(parameter), (column,))

    def groups(self, keys: Sequence[str], labels: Sequence[tuple[str, ...]]) -> dict[str, list[int]]:
        """Which units share hyperparameters: their places among `labels`, by group, in the order of the groups' names.

        Args:
            keys: Key columns.
            labels: Each unit's labels of them.
        """
        if not isinstance(self.by, str) or self.by == "crossed":
            return {"": list(range(len(labels)))} if labels else {}
        column = keys.index(self.by)
        groups: dict[str, list[int]] = {name: [] for name in sorted({own[column] for own in labels})}
        for place, own in enumerate(labels):
            groups[own[column]].append(place)
        return groups

    def type_places(self, channels: Sequence[str]) -> list[list[int]]:
        """Each type's channels by their place among all `channels` that there are.

        Raises:
            ConfigError: A type has a channel that is not among them.
        """
        for name, listed in self.types.items():
            if unknown := [channel for channel in listed if channel not in channels]:
                known = ", ".join(channels)
                raise ConfigError(f"{unknown[0]!r} is no channel; those are {known}", key=f"pooling.types.{name}")
        return [[channels.index(channel) for channel in listed] for listed in self.types.values()]


_LINEAR = {
    "trend": ("trend",),
    "seasonality": ("seasonality", "month", "weekday", "cycle"),
    "intercept": ("intercept", *MOVES_THE_LEVEL),
}
"""Parameters of the linear block by the setting they are under; all others are under `control`."""


def _family(parameter: str) -> str:
    """The setting of `Pooling` that a parameter is under."""
    if PARAMETERS[parameter].linear:
        return next((family for family, names in _LINEAR.items() if parameter in names), "control")
    if parameter == "effect":
        return parameter
    return "adstock" if any(parameter in names for names in ADSTOCK_PARAMETERS.values()) else "saturation"
