"""Every setting of a run: frozen, hashable dataclasses with defaults and checks."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from mixfleet import schema
from mixfleet.dataset import Channel, Data, Simulation
from mixfleet.distribution import (
    ADSTOCK_PARAMETERS,
    PARAMETERS,
    SATURATION_PARAMETERS,
    Distribution,
    check_support,
    read_distribution,
)
from mixfleet.errors import ConfigError
from mixfleet.pooling import Pooling
from mixfleet.schema import FrozenMapping, Label, Range, Reads, build, read_label, to_mapping
from mixfleet.settings_file import read_settings, shipped_settings

__all__ = [
    "Channel",
    "Compute",
    "Data",
    "Inference",
    "Model",
    "Output",
    "Override",
    "Pooling",
    "Prior",
    "RunConfig",
    "Simulation",
    "Spec",
    "build",
    "preset",
    "to_mapping",
]


@dataclass(frozen=True, kw_only=True)
class Model:
    """Structure of one unit's model; each distinct value is another compiled program."""

    adstock: Literal["geometric", "binomial", "delayed", "weibull_pdf", "weibull_cdf", "none"] = "geometric"

    window: Annotated[int, Range(1, 104)] = 9
    """Periods over which media carries over, the current one included."""

    normalise: bool = True
    """Adstock weights sum to one, so that it moves media in time and neither adds nor removes any."""

    saturation: Literal["logistic", "hill", "tanh", "michaelis_menten", "exponential", "root", "log", "none"] = (
        "logistic"
    )
    adstock_first: bool = True
    trend: Literal["linear", "none"] = "linear"

    seasonality: Annotated[int, Range(0, 26)] = 2
    """Order of the yearly Fourier series; 0 for none."""

    coordinate: Literal["contribution", "roi", "effect"] = "contribution"
    """What the sampler moves for a channel's strength. The prior, and so the posterior, is the same."""

    def __post_init__(self) -> None:
        schema.settle(self, key="model")

    @property
    def channel_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that every channel has: adstock's, saturation's, then `effect`."""
        return (*ADSTOCK_PARAMETERS[self.adstock], *SATURATION_PARAMETERS[self.saturation], "effect")


@dataclass(frozen=True, kw_only=True)
class Override:
    """Other hyperparameters for one parameter in some units or one channel; the family stays."""

    parameter: str

    unit: FrozenMapping[str, Label] = FrozenMapping()
    """Key column to label; units that match all of them, so none given is every unit."""

    channel: str | None = None
    """Channel it holds for; unset: all channels."""

    hyperparameters: FrozenMapping[str, float] = FrozenMapping()
    """Those that change; the others stay."""

    def __post_init__(self) -> None:
        schema.settle(self, key="prior.overrides")


def _read_parameters(value: Any, key: str) -> Mapping[str, Distribution]:
    """All parameters' laws: the usual ones, with those in `value` in their place."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"must be a mapping of parameter to law, is {value!r}", key=key)
    laws = {name: parameter.default for name, parameter in PARAMETERS.items()}
    for name, law in value.items():
        if name not in PARAMETERS:
            raise ConfigError(f"unknown parameter; known: {', '.join(PARAMETERS)}", key=f"{key}.{name}")
        read = read_distribution(law, f"{key}.{name}", laws[name])
        check_support(name, read, key=f"{key}.{name}")
        laws[name] = read
    return laws


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Prior laws of all parameters, and exceptions by unit and channel."""

    parameters: Annotated[FrozenMapping[str, Distribution], Reads(_read_parameters)] = FrozenMapping()
    """Law by parameter name, always complete: what is not given keeps `PARAMETERS[name].default`, and a law
    given without `family` changes only the hyperparameters it names."""

    overrides: tuple[Override, ...] = ()
    """Later ones win where several match."""

    def __post_init__(self) -> None:
        schema.settle(self, key="prior")
        for i, override in enumerate(self.overrides):
            key = f"prior.overrides[{i}]"
            if override.parameter not in PARAMETERS:
                known = ", ".join(PARAMETERS)
                raise ConfigError(f"unknown parameter; known: {known}", key=f"{key}.parameter")
            if override.channel is not None and PARAMETERS[override.parameter].level != "channel":
                raise ConfigError(f"{override.parameter} does not differ by channel", key=f"{key}.channel")
            law = self.parameters[override.parameter].changed(override.hyperparameters, key=f"{key}.hyperparameters")
            check_support(override.parameter, law, key=key)

    def law(self, parameter: str, *, unit: Mapping[str, str], channel: str | None = None) -> Distribution:
        """The law of `parameter` in one unit (key column to label) and, where it has one, channel."""
        law = self.parameters[parameter]
        for override in self.overrides:
            if (
                override.parameter == parameter
                and override.channel in (None, channel)
                and all(unit.get(column) == label for column, label in override.unit.items())
            ):
                law = law.changed(override.hyperparameters)
        return law


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How long to sample and when a unit counts as certified."""

    chains: Annotated[int, Range(2, 1024)] = 8
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0

    ess_target: Annotated[int, Range(1)] = 1500
    """Effective draws at which a unit stops; from half of `max_draws` on it stops as soon as it is certified."""

    ess_floor: Annotated[int, Range(1)] = 400
    """Effective draws, bulk and tail, below which a unit is not certified."""

    rhat_max: Annotated[float, Range(1.0, open=True)] = 1.01
    ebfmi_min: Annotated[float, Range(0.0, 1.0)] = 0.3

    max_draws: Annotated[int, Range(100)] = 4000
    """Draws per chain after which a unit climbs the ladder."""

    target_accept: Annotated[float, Range(0.0, 1.0, open=True)] = 0.8

    ladder: bool = True
    """Units that miss a gate are tried again, harder, before they are quarantined."""

    def __post_init__(self) -> None:
        schema.settle(self, key="inference")
        if self.ess_target < self.ess_floor:
            raise ConfigError(
                f"must be at least ess_floor ({self.ess_floor}), is {self.ess_target}",
                key="inference.ess_target",
            )


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and how to compute; changes no result beyond the rounding of `precision` and `lanes`."""

    lanes: Annotated[int, Range(1, 65536)] = 128
    """Chains of different units that one compiled program moves at once."""

    devices: Literal["all"] | Annotated[int, Range(1)] = "all"
    precision: Literal["float32", "float64"] = "float32"
    memory_limit_gib: Annotated[float, Range(0.0, open=True)] = 4.0

    cache_dir: str | None = None
    """Folder of compiled programs; unset: `mixfleet/xla` in the user's cache folder."""

    def __post_init__(self) -> None:
        schema.settle(self, key="compute")


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a run keeps."""

    draws: Literal["summary", "thin", "full"] = "thin"
    """No draws, about `thin` draws per unit, or all of them."""

    thin: Annotated[int, Range(1)] = 1000

    curve_points: Annotated[int, Range(2, 1001)] = 21
    """Spend levels at which response curves are reported."""

    def __post_init__(self) -> None:
        schema.settle(self, key="output")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where the run folder goes: `root/id`."""

    root: str = "runs"

    id: Annotated[str | None, Reads(read_label)] = None
    """Name of the folder; unset: date and time. An existing one of the same configuration is resumed."""

    def __post_init__(self) -> None:
        schema.settle(self, key="run")
        if self.id is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", self.id):
            raise ConfigError(f"must be letters, digits, '.', '_' or '-', is {self.id!r}", key="run.id")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """All settings of one run."""

    data: Data = Data()
    model: Model = Model()
    prior: Prior = Prior()
    pooling: Pooling = Pooling()
    inference: Inference = Inference()
    compute: Compute = Compute()
    output: Output = Output()
    run: RunConfig = RunConfig()

    def __post_init__(self) -> None:
        schema.settle(self, key="")
        for i, override in enumerate(self.prior.overrides):
            for column in override.unit:
                if column not in self.data.keys:
                    keys = ", ".join(self.data.keys)
                    raise ConfigError(f"is no key column; those are {keys}", key=f"prior.overrides[{i}].unit.{column}")
        by = self.pooling.by
        for column in (by,) if isinstance(by, str) else by:
            if column not in ("none", "crossed", *self.data.keys):
                keys = ", ".join(self.data.keys)
                raise ConfigError(f"{column!r} is not none, crossed or a key column ({keys})", key="pooling.by")
        for family, columns in self.pooling.keys.items():
            if unknown := [column for column in columns if column not in self.data.keys]:
                keys = ", ".join(self.data.keys)
                raise ConfigError(f"{unknown[0]!r} is no key column ({keys})", key=f"pooling.keys.{family}")


GROUPS: dict[str, type] = {field.name: field.type for field in dataclasses.fields(Spec)}  # pyright: ignore[reportAssignmentType]
"""The groups of settings and the dataclass of each."""


def preset(group: str, name: str) -> Any:
    """A shipped group of settings as its dataclass, such as `preset("prior", "tight")`.

    Raises:
        ConfigError: No such group or name; the message lists those there are.
    """
    if group not in GROUPS:
        raise ConfigError(f"unknown group; known: {', '.join(GROUPS)}", key=group)
    folder: Path = shipped_settings() / group
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise ConfigError(f"no preset {name!r}; there are: {', '.join(names)}", key=group)
    return build(GROUPS[group], read_settings(folder / f"{name}.yaml"), key=group)
