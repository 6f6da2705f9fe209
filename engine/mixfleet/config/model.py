"""Model settings: the structure of one unit's model."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from mixfleet.config import schema
from mixfleet.config.baseline import Fourier, Intercept, Linear, Piecewise, Registered, Term, Terms
from mixfleet.config.priors import (
    ADSTOCK_PARAMETERS,
    BASELINE_TERMS,
    OBSERVATION_PARAMETERS,
    SATURATION_PARAMETERS,
)
from mixfleet.config.schema import FrozenMapping, Label, OneOf, Range
from mixfleet.errors import ConfigError

__all__ = ["STRUCTURE", "ChannelForm", "MediaForm", "MediaStructure", "Model"]

STRUCTURE = "structure"
"""Name of what an averaged fit has beside parameters of curves: the place of a draw's structure among the model's."""


@dataclass(frozen=True, kw_only=True)
class MediaForm:
    """How the media of one channel become its response: what `Model` says of all channels, or an exception of it."""

    adstock: str
    window: int
    normalise: bool
    saturation: str
    adstock_first: bool
    window_convention: str
    alternatives: "tuple[MediaForm, ...]" = ()
    """The forms of each structure, where a fit averages over several: a draw has the form that its structure says."""

    @property
    def window_options(self) -> dict[str, Any]:
        """How `mixfleet_kernels.adstock.weights` sets up the window, in its keywords."""
        peer = self.window_convention == "pymc_marketing"
        return {
            "window": self.window,
            "normalise": self.normalise,
            "binomial_offset": int(peer),
            "weibull_minmax": peer,
        }

    @property
    def adstock_parameters(self) -> tuple[str, ...]:
        """Names, in the order in which the adstock takes them."""
        return ADSTOCK_PARAMETERS[self.adstock]

    @property
    def saturation_parameters(self) -> tuple[str, ...]:
        """Names, in the order in which the saturation takes them."""
        return SATURATION_PARAMETERS[self.saturation]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Adstock's, then saturation's; with alternatives the place of the draw's, then those of all of them."""
        if self.alternatives:
            return (STRUCTURE, *dict.fromkeys(name for form in self.alternatives for name in form.parameters))
        return self.adstock_parameters + self.saturation_parameters


@dataclass(frozen=True, kw_only=True)
class ChannelForm:
    """What one channel has otherwise than the others; what is not given stays as `Model` says."""

    adstock: Annotated[str, OneOf(ADSTOCK_PARAMETERS)] | None = None

    window: Annotated[int, Range(1, 104)] | None = None
    """At most `Model.window`, which says how long any channel carries over."""

    normalise: bool | None = None
    saturation: Annotated[str, OneOf(SATURATION_PARAMETERS)] | None = None
    adstock_first: bool | None = None
    window_convention: Literal["meridian", "pymc_marketing"] | None = None

    def __post_init__(self) -> None:
        schema.settle(self, key="model.channels")


@dataclass(frozen=True, kw_only=True)
class MediaStructure:
    """One of the structures that a fit averages over: what it has otherwise than `Model` says."""

    adstock: Annotated[str, OneOf(ADSTOCK_PARAMETERS)] | None = None
    saturation: Annotated[str, OneOf(SATURATION_PARAMETERS)] | None = None

    observation: Literal["normal", "ar1"] | None = None
    """`normal` where `Model.observation` is `ar1`: a structure whose noise is independent, the correlation zero."""

    def __post_init__(self) -> None:
        schema.settle(self, key="model.structures")


@dataclass(frozen=True, kw_only=True)
class Model:
    """Structure of one unit's model; each distinct value is another compiled program."""

    adstock: Annotated[str, OneOf(ADSTOCK_PARAMETERS)] = "geometric"

    window: Annotated[int, Range(1, 104)] = 9
    """Periods over which media carries over, the current one included."""

    normalise: bool = True
    """Adstock weights sum to one, so that it moves media in time and neither adds nor removes any."""

    saturation: Annotated[str, OneOf(SATURATION_PARAMETERS)] = "hill"
    adstock_first: bool = True

    window_convention: Literal["meridian", "pymc_marketing"] = "meridian"
    """Where the peers' windows differ: `pymc_marketing` has the binomial end one period later, so that its last weight
    is not zero, and takes the least weight off the Weibull density's."""

    scaling: Literal["max", "pymc_marketing", "meridian"] = "max"
    """What KPI, media and controls are measured in, and so what priors are on. `max`: shares of the unit's highest KPI
    and media; controls in standard deviations around their mean. `pymc_marketing`: the same, but controls as the table
    has them. `meridian`: KPI and controls in standard deviations around their means, media in multiples of the median
    of the periods with any; a unit alone has no need of its population there, which cancels. Fitted periods measure
    all but how far controls move."""

    structures: tuple[MediaStructure, ...] = ()
    """Structures that are all fitted and averaged, unit by unit, by how well they tell weeks that they have not seen:
    `[{saturation: logistic}, {saturation: hill}]`. Without any the model is the one structure."""

    channels: FrozenMapping[Label, ChannelForm] = FrozenMapping()
    """Channels whose media act otherwise than those of the others, by name: `{search: {adstock: none}}`."""

    trend: Literal["linear", "none"] = "linear"

    seasonality: Annotated[int, Range(0, 26)] = 2
    """Order of the yearly Fourier series; 0 for none."""

    baseline: Terms = ()
    """Terms of the baseline, the intercept first. Without any: the intercept, `trend` and `seasonality`, for which the
    list stands in their place."""

    terms: tuple[Annotated[str, OneOf(BASELINE_TERMS)], ...] = ()
    """Further terms of the baseline, registered with `mixfleet.models.baseline.register`."""

    signs: FrozenMapping[Label, Literal["positive", "negative"]] = FrozenMapping()
    """Columns of the baseline, such as controls and treatments, whose coefficient can only be above or below zero:
    `{price: negative}`. Its prior is cut there, and it is sampled, as one with a prior that is not normal is."""

    observation: Annotated[str, OneOf(OBSERVATION_PARAMETERS)] = "ar1"
    """Family of the KPI around what is expected of it. `ar1`: normal, and what one period misses goes on into the next
    ones (autoregressive of order one): `noise` is the standard deviation of a period, `autocorrelation` the correlation
    with the next one. Media intervals are then as wide as lasting misses ask for, and forecasts start from the last."""

    link: Literal["identity", "log"] = "identity"
    """`log`: all that moves the KPI multiplies. Its logarithm is the sum of baseline, media and normal noise, which may
    be autocorrelated, so that effects and coefficients are log KPI, those of `form: log` elasticities; priors on
    `media_share` and `contribution` are of it too. The KPI must be above zero, and is told as the mean of a log-normal.
    Media that never ran multiply it by 1e100 at most. Lift tests, plans, and priors on `roi` or `cost_per_kpi` are not
    known to it."""

    coordinate: Literal["contribution", "effect"] = "contribution"
    """What the sampler moves for a channel's strength. The prior, and so the posterior, is the same."""

    def __post_init__(self) -> None:
        schema.settle(self, key="model")
        if self.link == "log" and self.observation not in ("normal", "ar1"):
            raise ConfigError("must be normal or ar1 with model.link=log: that is log-normal", key="model.observation")
        levels = [place for place, term in enumerate(self.baseline) if isinstance(term, Intercept)]
        if self.baseline and levels != [0]:
            raise ConfigError("must begin with {term: intercept} and have it once", key="model.baseline")
        names = [name for term in self.baseline_terms for name in term.names()]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"two terms have a column {twice[0]!r}: give one a name", key="model.baseline")
        self._refuse_scales()
        for name, own in self.channels.items():
            if own.window is not None and own.window > self.window:
                raise ConfigError(
                    f"must be at most model.window ({self.window}), is {own.window}: raise that to the longest window",
                    key=f"model.channels.{name}.window",
                )

        self._refuse_structures()

    def _refuse_scales(self) -> None:
        """Refuses learned scales where the density does not have them."""
        if self.scale_parameters and self.observation not in ("normal", "ar1"):
            raise ConfigError("must be normal or ar1 where a term has scale: learned", key="model.observation")
        for term in self.baseline_terms:
            if term.scale_parameter is None and f"{term.parameter}_scale" in self.scale_parameters:
                raise ConfigError(
                    f"two terms have the prior of {term.parameter}: give both of them scale: learned, or neither",
                    key="model.baseline",
                )

    def _refuse_structures(self) -> None:
        if len(self.structures) == 1:
            raise ConfigError("names one structure: name several, or set the model's own", key="model.structures")
        if self.observation != "ar1" and any(one.observation == "ar1" for one in self.structures):
            raise ConfigError(
                "must be ar1 where a structure's is: set it, and observation: normal in the others",
                key="model.observation",
            )
        names = self.structure_names
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"has {twice[0]!r} twice", key="model.structures")

    def refuse_structures(self) -> None:
        """Refuses to be several models.

        Raises:
            ConfigError: There are structures to average.
        """
        if self.structures:
            raise ConfigError("only a fit averages structures: name one here", key="model.structures")

    @property
    def alternatives(self) -> "tuple[Model, ...]":
        """The model of each structure that is averaged over; without any the model itself."""
        if not self.structures:
            return (self,)
        given = [{name: value for name, value in vars(one).items() if value is not None} for one in self.structures]
        return tuple(dataclasses.replace(self, structures=(), **own) for own in given)

    @property
    def structure_names(self) -> tuple[str, ...]:
        """A name of each of `alternatives`, such as `geometric, hill`; with the noise's where they differ in it."""
        alike = len({model.observation for model in self.alternatives}) == 1
        return tuple(
            ", ".join((model.adstock, model.saturation, *([] if alike else [model.observation])))
            for model in self.alternatives
        )

    @cached_property
    def baseline_terms(self) -> tuple[Term, ...]:
        """The terms of the linear block, in order. Behind them stand the table's controls, then its treatments."""
        trend = (Linear(),) if self.trend == "linear" else ()
        seasons = (Fourier(order=self.seasonality),) if self.seasonality else ()
        given = self.baseline or (Intercept(), *trend, *seasons)
        return (*given, *(Registered(term=name) for name in self.terms))

    @cached_property
    def scale_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that are standard deviations of the baseline's coefficients, where it learns them."""
        return tuple(dict.fromkeys(term.scale_parameter for term in self.baseline_terms if term.scale_parameter))

    @property
    def unit_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that a unit has one of each: the observation's, `noise` first, then scales."""
        return (*OBSERVATION_PARAMETERS[self.observation], *self.scale_parameters)

    def in_kpi(self, parameter: str) -> bool:
        """Whether one of `unit_parameters` is told in units of the KPI."""
        return parameter == "noise" or parameter in self.scale_parameters

    @property
    def has_trend(self) -> bool:
        """Whether a straight line over all weeks is among the terms of the baseline."""
        return any(isinstance(term, Linear | Piecewise) for term in self.baseline_terms)

    @property
    def yearly_order(self) -> int:
        """Order of the yearly Fourier series; 0 without."""
        waves = (term for term in self.baseline_terms if isinstance(term, Fourier) and term.period == "year")
        return max((term.order for term in waves), default=0)

    def form(self, channel: str | None = None) -> MediaForm:
        """The form of a channel's response; without a name, that of channels without an exception."""
        if self.structures:
            forms = tuple(model.form(channel) for model in self.alternatives)
            return dataclasses.replace(forms[0], alternatives=forms)
        own = self.channels.get(channel) if channel is not None else None
        names = [field.name for field in dataclasses.fields(ChannelForm)]
        here = {name: getattr(self, name) for name in names}
        if own is not None:
            here |= {name: getattr(own, name) for name in names if getattr(own, name) is not None}
        return MediaForm(**here)

    def forms(self, channels: Sequence[str]) -> tuple[MediaForm, ...]:
        """The form of each channel's response.

        Raises:
            ConfigError: `channels` says something of a channel that there is not.
        """
        if unknown := [name for name in self.channels if name not in channels]:
            raise ConfigError(f"no such channel; there are {', '.join(channels)}", key=f"model.channels.{unknown[0]}")
        return tuple(self.form(channel) for channel in channels)

    @property
    def channel_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that channels have: adstock's, saturation's, then `effect`.

        With exceptions in `channels` not every channel has all of them; with `structures` not every draw.
        """
        if self.structures:
            curves = [name for model in self.alternatives for name in model.channel_parameters[:-1]]
            return (STRUCTURE, *dict.fromkeys(curves), "effect")
        forms = [self.form(), *(self.form(name) for name in self.channels)]
        adstocks = [name for form in forms for name in form.adstock_parameters]
        saturations = [name for form in forms for name in form.saturation_parameters]
        return (*dict.fromkeys([*adstocks, *saturations]), "effect")

    def has(self, parameter: str, channel: str) -> bool:
        """Whether a channel has this one of `channel_parameters`."""
        return parameter == "effect" or parameter in self.form(channel).parameters
