"""Prior settings: families and their hyperparameters, and the usual prior of every parameter."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from mixfleet.config import schema
from mixfleet.config.elicitation import elicited
from mixfleet.config.measures import MEASURES, On, read_on
from mixfleet.config.schema import FrozenMapping, Label, OneOf, Range, Reads
from mixfleet.errors import ConfigError

Support = Callable[[Mapping[str, float]], tuple[float, float]]


def _positive(_: Mapping[str, float]) -> tuple[float, float]:
    return 0.0, math.inf


def _between(hyperparameters: Mapping[str, float]) -> tuple[float, float]:
    return hyperparameters["low"], hyperparameters["high"]


@dataclass(frozen=True)
class FamilyForm:
    """What settings know of a family of priors; its mathematics is in `mixfleet.models.priors.families`."""

    hyperparameters: tuple[str, ...]
    """Names, in order."""
    support: Support = _positive
    """Lowest and highest value that a prior of the family allows, from its hyperparameters."""


FAMILIES: dict[str, FamilyForm] = {
    "normal": FamilyForm(("mean", "sd"), lambda _: (-math.inf, math.inf)),
    "laplace": FamilyForm(("mean", "scale"), lambda _: (-math.inf, math.inf)),
    "student_t": FamilyForm(("df", "mean", "scale"), lambda _: (-math.inf, math.inf)),
    "half_normal": FamilyForm(("sd",)),
    "half_student_t": FamilyForm(("df", "scale")),
    "lognormal": FamilyForm(("mean_log", "sd_log")),
    "shifted_lognormal": FamilyForm(("shift", "mean_log", "sd_log"), lambda h: (h["shift"], math.inf)),
    "gamma": FamilyForm(("shape", "rate")),
    "inverse_gamma": FamilyForm(("shape", "scale")),
    "exponential": FamilyForm(("rate",)),
    "beta": FamilyForm(("a", "b"), lambda _: (0.0, 1.0)),
    "uniform": FamilyForm(("low", "high"), _between),
    "truncated_normal": FamilyForm(("mean", "sd", "low", "high"), _between),
    "fixed": FamilyForm(("value",), lambda h: (h["value"], h["value"])),
}
"""Families by name; `mixfleet.models.priors.families.register` adds to them."""

OF_COEFFICIENTS = ("normal", "laplace", "student_t")
"""Families that a coefficient of the baseline may have."""

_SIGNED = {"mean", "mean_log", "shift", "low", "high", "value"}

_MAY_BE_ZERO = {"decay", "delay"}
"""Parameters of curves for which the value zero is a model: no carry-over, none of it late."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """One prior: a family and its hyperparameters, on the model's scaled units."""

    family: Annotated[str, OneOf(FAMILIES)]
    hyperparameters: FrozenMapping[str, float]
    """By name, in the order of `FAMILIES[family].hyperparameters`."""

    def __post_init__(self) -> None:
        schema.settle(self, key="prior")
        object.__setattr__(self, "hyperparameters", _checked(self.family, self.hyperparameters, "prior"))

    @property
    def values(self) -> tuple[float, ...]:
        """The hyperparameters as plain numbers, in the order of `FAMILIES[family].hyperparameters`."""
        return tuple(self.hyperparameters.values())

    @property
    def support(self) -> tuple[float, float]:
        """Lowest and highest value that the prior allows."""
        return FAMILIES[self.family].support(self.hyperparameters)

    def to_mapping(self) -> dict[str, Any]:
        """`family` and the hyperparameters side by side, as written in YAML."""
        return {"family": self.family, **self.hyperparameters}

    def changed(self, hyperparameters: Mapping[str, Any], *, key: str = "prior") -> "Distribution":
        """The same family with some hyperparameters replaced.

        Raises:
            ConfigError: A hyperparameter that the family has not, or a value it does not allow.
        """
        return _distribution(self.family, {**self.hyperparameters, **hyperparameters}, key)


def distribution(family: str, **hyperparameters: float) -> Distribution:
    """A prior distribution, such as `distribution("beta", a=1, b=3)`.

    Args:
        family: One of `FAMILIES`.
        hyperparameters: All of the family's, by name.

    Raises:
        ConfigError: Unknown family, or hyperparameters it has not, lacks or does not allow.
    """
    return _distribution(family, hyperparameters, "prior")


def read_distribution(value: Any, key: str, base: Distribution) -> Distribution:
    """A distribution as written in YAML, `{family: beta, a: 1, b: 3}`; without `family` it changes `base`.

    In place of hyperparameters, `from` takes what `mixfleet.config.elicitation` turns into them.

    Raises:
        ConfigError: Not such a mapping.
    """
    if isinstance(value, Distribution):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(f"must be a prior such as {{family: normal, mean: 0, sd: 1}}, is {value!r}", key=key)
    rest = {str(name): item for name, item in value.items() if name != "family"}
    if "from" in rest:
        family: str = schema.convert(value.get("family", base.family), Annotated[str, OneOf(FAMILIES)], f"{key}.family")
        if len(rest) > 1:
            raise ConfigError("takes the place of hyperparameters: give one or the other", key=f"{key}.from")
        return _distribution(family, elicited(family, rest["from"], f"{key}.from"), key)
    if "family" in value:
        return _distribution(value["family"], rest, key)
    return base.changed(rest, key=key)


def _distribution(family: Any, hyperparameters: Mapping[str, Any], key: str) -> Distribution:
    known: str = schema.convert(family, Annotated[str, OneOf(FAMILIES)], f"{key}.family")
    return Distribution(family=known, hyperparameters=_checked(known, hyperparameters, key))


def _checked(family: str, hyperparameters: Mapping[str, Any], key: str) -> FrozenMapping[str, float]:
    names = FAMILIES[family].hyperparameters
    for name in hyperparameters:
        if name not in names:
            raise ConfigError(f"{family} has {', '.join(names)} and no {name}", key=f"{key}.{name}")
    for name in names:
        if name not in hyperparameters:
            raise ConfigError(f"is required by {family}", key=f"{key}.{name}")
    values = {name: schema.convert(hyperparameters[name], float, f"{key}.{name}") for name in names}
    for name, value in values.items():
        unbounded = family == "truncated_normal" and name in ("low", "high")
        if math.isinf(value) and not unbounded:
            raise ConfigError("must be finite", key=f"{key}.{name}")
        if name not in _SIGNED and value <= 0:
            raise ConfigError(f"must be above 0, is {value:g}", key=f"{key}.{name}")
    if "low" in values and not values["low"] < values["high"]:
        raise ConfigError(f"must be below high ({values['high']:g}), is {values['low']:g}", key=f"{key}.low")
    return FrozenMapping(values)


Level = Literal["channel", "unit"]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of the model family: where it lives, which values it can take, and its usual prior."""

    level: Level
    """`channel`: one value per channel; `unit`: one per unit (or per linear column of the unit)."""

    support: tuple[float, float]
    """Values the model allows; a prior must not reach outside."""

    default: Distribution

    @property
    def linear(self) -> bool:
        """Whether it is a coefficient of the linear block: integrated out where normal, else sampled."""
        return self.support == (-math.inf, math.inf)


def _channel(default: Distribution, *, high: float = math.inf) -> Parameter:
    return Parameter(level="channel", support=(0.0, high), default=default)


def _linear(mean: float, sd: float) -> Parameter:
    return Parameter(level="unit", support=(-math.inf, math.inf), default=distribution("normal", mean=mean, sd=sd))


def _scale(sd: float) -> Parameter:
    return Parameter(level="unit", support=(0.0, math.inf), default=distribution("half_normal", sd=sd))


_LEARNED = {
    "seasonality_scale": 0.1,
    "month_scale": 0.1,
    "weekday_scale": 0.2,
    "cycle_scale": 0.1,
    "piecewise_scale": 0.3,
    "knots_scale": 0.1,
    "random_walk_scale": 0.15,
    "hsgp_scale": 0.15,
}
"""Standard deviations of coefficients that a unit learns, where a term of the baseline says so."""

PARAMETERS: dict[str, Parameter] = {
    "decay": _channel(distribution("beta", a=1, b=3), high=1.0),
    "delay": _channel(distribution("half_normal", sd=1)),
    "adstock_shape": _channel(distribution("gamma", shape=9, rate=3)),
    "adstock_scale": _channel(distribution("gamma", shape=4, rate=2)),
    "rate": _channel(distribution("gamma", shape=3, rate=1)),
    "slope": _channel(distribution("lognormal", mean_log=0.2, sd_log=0.5)),
    "half_saturation": _channel(distribution("lognormal", mean_log=-0.7, sd_log=0.7)),
    "scale": _channel(distribution("lognormal", mean_log=-0.7, sd_log=0.7)),
    "exponent": _channel(distribution("beta", a=2, b=2), high=1.0),
    "effect": _channel(distribution("half_normal", sd=0.5)),
    "contribution": _channel(distribution("half_normal", sd=0.1)),
    "media_share": _channel(distribution("half_student_t", df=4, scale=0.36)),
    "roi": _channel(distribution("lognormal", mean_log=0.2, sd_log=0.9)),
    "mroi": _channel(distribution("lognormal", mean_log=-0.2, sd_log=0.9)),
    "cost_per_kpi": _channel(distribution("lognormal", mean_log=0, sd_log=2)),
    "noise": Parameter(level="unit", support=(0.0, math.inf), default=distribution("half_normal", sd=0.2)),
    "autocorrelation": Parameter(
        level="unit",
        support=(-1.0, 1.0),
        default=distribution("truncated_normal", mean=0.0, sd=0.5, low=-1.0, high=1.0),
    ),
    "intercept": _linear(0.5, 0.5),
    "trend": _linear(0.0, 0.3),
    "seasonality": _linear(0.0, 0.1),
    "month": _linear(0.0, 0.1),
    "weekday": _linear(0.0, 0.2),
    "cycle": _linear(0.0, 0.1),
    "piecewise": _linear(0.0, 0.3),
    "knots": _linear(0.0, 0.1),
    "random_walk": _linear(0.0, 0.15),
    "hsgp": _linear(0.0, 0.15),
    "holiday": _linear(0.0, 0.3),
    "event": _linear(0.0, 0.3),
    "control": _linear(0.0, 0.1),
    "treatment": _linear(0.0, 0.1),
    **{name: _scale(sd) for name, sd in _LEARNED.items()},
}
"""Every parameter of the model family. KPI and media are scaled to a maximum of 1 in their unit, so `effect`
is a share of the unit's highest KPI at full saturation, and so is `noise`; lags are in periods. A channel has the prior
of `effect` or of another of `measures.MEASURES` in its place, as `Prior.on` says."""


ADSTOCK_PARAMETERS: dict[str, tuple[str, ...]] = {
    "geometric": ("decay",),
    "binomial": ("decay",),
    "delayed": ("decay", "delay"),
    "weibull_pdf": ("adstock_shape", "adstock_scale"),
    "weibull_cdf": ("adstock_shape", "adstock_scale"),
    "none": (),
}
"""Parameters of each adstock family, one value per channel."""

SATURATION_PARAMETERS: dict[str, tuple[str, ...]] = {
    "logistic": ("rate",),
    "hill": ("slope", "half_saturation"),
    "tanh": ("scale",),
    "michaelis_menten": ("half_saturation",),
    "exponential": ("rate",),
    "root": ("exponent",),
    "log": ("rate",),
    "none": (),
}
"""Parameters of each saturation family, one value per channel."""

OBSERVATION_PARAMETERS: dict[str, tuple[str, ...]] = {"normal": ("noise",), "ar1": ("noise", "autocorrelation")}
"""Parameters of each family of the KPI around its expectation, one value per unit; the first is its scale."""

BASELINE_TERMS: dict[str, str] = {}
"""Parameter that holds the prior of each registered baseline term's coefficients, by the term's name."""


def add_parameters(parameters: Mapping[str, Parameter]) -> None:
    """Adds parameters of a part that is registered.

    Raises:
        ConfigError: There is a parameter of that name with another meaning.
    """
    for name, parameter in parameters.items():
        if PARAMETERS.get(name, parameter) != parameter:
            raise ConfigError(f"there is a parameter {name!r} already", key="prior.parameters")
    PARAMETERS.update(parameters)


def check_support(parameter: str, distribution: Distribution, *, key: str) -> None:
    """Refuses a prior that reaches values which `parameter` cannot take.

    Raises:
        ConfigError: A prior of the wrong kind.
    """
    known = PARAMETERS[parameter]
    if known.linear and distribution.family not in OF_COEFFICIENTS:
        raise ConfigError(f"must be one of {', '.join(OF_COEFFICIENTS)}, is {distribution.family}", key=f"{key}.family")
    if known.linear and distribution.hyperparameters.get("df", math.inf) <= 2:
        raise ConfigError("must be above 2, so that the prior has a standard deviation", key=f"{key}.df")
    if distribution.family == "fixed" and (known.level != "channel" or parameter == "effect"):
        raise ConfigError(
            f"{parameter} cannot be fixed, only the parameters of adstock and saturation can; a narrow prior says "
            "almost the same",
            key=f"{key}.family",
        )
    low, high = distribution.support
    if low == high == 0.0 and parameter not in _MAY_BE_ZERO:
        raise ConfigError(f"{parameter} must be above 0, is fixed at 0", key=f"{key}.value")
    if low < known.support[0] or high > known.support[1]:
        bounds = f"between {known.support[0]:g} and 1" if known.support[1] == 1.0 else "positive"
        raise ConfigError(f"{parameter} must stay {bounds}, {distribution.family} reaches [{low:g}, {high:g}]", key=key)


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

    told: FrozenMapping[str, float | FrozenMapping[float, float]] = FrozenMapping()
    """In their place, what `mixfleet.config.elicitation` turns into hyperparameters; `from` in YAML."""

    def __post_init__(self) -> None:
        schema.settle(self, key="prior.overrides")


@dataclass(frozen=True, kw_only=True)
class TotalShare:
    """What is believed of the share of the KPI that all media bring together."""

    mean: float

    sd: Annotated[float, Range(0.0, open=True)]

    def __post_init__(self) -> None:
        schema.settle(self, key="prior.total_share")


def _read_overrides(value: Any, key: str) -> Any:
    """Overrides with `told` for `from`, which Python keeps for itself."""

    def read(item: Any, key: str) -> Any:
        if not isinstance(item, Mapping) or "from" not in item:
            return item
        if "told" in item or item.get("hyperparameters"):
            raise ConfigError("takes the place of hyperparameters: give one or the other", key=f"{key}.from")
        return {("told" if name == "from" else name): part for name, part in item.items()}

    return [read(item, f"{key}[{i}]") for i, item in enumerate(value)] if isinstance(value, list | tuple) else value


def _read_parameters(value: Any, key: str) -> Mapping[str, Distribution]:
    """All parameters' distributions: the usual ones, with those in `value` in their place."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"must be a mapping of parameter to distribution, is {value!r}", key=key)
    distributions = {name: parameter.default for name, parameter in PARAMETERS.items()}
    for name, distribution in value.items():
        if name not in PARAMETERS:
            raise ConfigError(f"unknown parameter; known: {', '.join(PARAMETERS)}", key=f"{key}.{name}")
        read = read_distribution(distribution, f"{key}.{name}", distributions[name])
        check_support(name, read, key=f"{key}.{name}")
        distributions[name] = read
    return distributions


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Prior distributions of all parameters, and exceptions by unit and channel."""

    parameters: Annotated[FrozenMapping[str, Distribution], Reads(_read_parameters)] = FrozenMapping()
    """Distribution by parameter name, always complete: what is not given keeps `PARAMETERS[name].default`, and a prior
    given without `family` changes only the hyperparameters it names."""

    overrides: Annotated[tuple[Override, ...], Reads(_read_overrides)] = ()
    """Later ones win where several match."""

    on: Annotated[On, Reads(read_on)] = field(default_factory=On)
    """What the priors of channels' strengths are on: `roi`, or `{media: roi, organic: contribution}`."""

    total_share: TotalShare | None = None
    """What is believed of the share of the KPI that all media bring together over the fitted periods, `{mean: 0.3,
    sd: 0.05}`: normal, and multiplied with the priors of the channels. Of the KPI's logarithm with `model.link=log`."""

    def __post_init__(self) -> None:
        schema.settle(self, key="prior")
        resolved: list[Override] = []
        for i, override in enumerate(self.overrides):
            key = f"prior.overrides[{i}]"
            if override.parameter not in PARAMETERS:
                known = ", ".join(PARAMETERS)
                raise ConfigError(f"unknown parameter; known: {known}", key=f"{key}.parameter")
            if override.channel is not None and PARAMETERS[override.parameter].level != "channel":
                raise ConfigError(f"{override.parameter} does not differ by channel", key=f"{key}.channel")
            base = self.parameters[override.parameter]
            if override.told:
                told = read_distribution({"from": dict(override.told)}, key, base).hyperparameters
                override = replace(override, told=FrozenMapping(), hyperparameters=told)
            distribution = base.changed(override.hyperparameters, key=f"{key}.hyperparameters")
            check_support(override.parameter, distribution, key=key)
            resolved.append(override)
        object.__setattr__(self, "overrides", tuple(resolved))
        self._check_heard()

    def _check_heard(self) -> None:
        """Refuses priors of what no channel's prior is on, where nothing is said of what they are on."""
        said = {name: f"prior.parameters.{name}" for name in MEASURES if self.of(name) != PARAMETERS[name].default}
        said |= {each.parameter: f"prior.overrides[{i}]" for i, each in enumerate(self.overrides)}
        said = {name: key for name, key in said.items() if name in MEASURES}
        if said and not set(said) & set(self.on.possible):
            name, key = next(iter(said.items()))
            raise ConfigError(f"no channel's prior is on {name}: say prior.on={name} too", key=key)

    def of(self, parameter: str) -> Distribution:
        """The prior of a parameter where no override says otherwise."""
        # A parameter may have been registered after these settings were made.
        return self.parameters.get(parameter) or PARAMETERS[parameter].default

    def distribution(self, parameter: str, *, unit: Mapping[str, str], channel: str | None = None) -> Distribution:
        """The distribution of `parameter` in one unit (key column to label) and, where it has one, channel."""
        distribution = self.of(parameter)
        for override in self.overrides:
            if (
                override.parameter == parameter
                and override.channel in (None, channel)
                and all(unit.get(column) == label for column, label in override.unit.items())
            ):
                distribution = distribution.changed(override.hyperparameters)
        return distribution
