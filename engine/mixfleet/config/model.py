"""Model settings: the structure of one unit's model."""

from dataclasses import dataclass
from typing import Annotated, Literal

from mixfleet.config import schema
from mixfleet.config.baseline import Fourier, Intercept, Linear, Registered, Term, Terms
from mixfleet.config.priors import (
    ADSTOCK_PARAMETERS,
    BASELINE_TERMS,
    OBSERVATION_PARAMETERS,
    SATURATION_PARAMETERS,
)
from mixfleet.config.schema import OneOf, Range
from mixfleet.errors import ConfigError

__all__ = ["Model"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """Structure of one unit's model; each distinct value is another compiled program."""

    adstock: Annotated[str, OneOf(ADSTOCK_PARAMETERS)] = "geometric"

    window: Annotated[int, Range(1, 104)] = 9
    """Periods over which media carries over, the current one included."""

    normalise: bool = True
    """Adstock weights sum to one, so that it moves media in time and neither adds nor removes any."""

    saturation: Annotated[str, OneOf(SATURATION_PARAMETERS)] = "logistic"
    adstock_first: bool = True
    trend: Literal["linear", "none"] = "linear"

    seasonality: Annotated[int, Range(0, 26)] = 2
    """Order of the yearly Fourier series; 0 for none."""

    baseline: Terms = ()
    """Terms of the baseline, the intercept first. Without any: the intercept, `trend` and `seasonality`, for which the
    list stands in their place."""

    terms: tuple[Annotated[str, OneOf(BASELINE_TERMS)], ...] = ()
    """Further terms of the baseline, registered with `mixfleet.models.baseline.register`."""

    observation: Annotated[str, OneOf(OBSERVATION_PARAMETERS)] = "normal"
    """Family of the KPI around what is expected of it."""

    coordinate: Literal["contribution", "effect"] = "contribution"
    """What the sampler moves for a channel's strength. The prior, and so the posterior, is the same."""

    def __post_init__(self) -> None:
        schema.settle(self, key="model")
        levels = [place for place, term in enumerate(self.baseline) if isinstance(term, Intercept)]
        if self.baseline and levels != [0]:
            raise ConfigError("must begin with {term: intercept} and have it once", key="model.baseline")
        names = [name for term in self.baseline_terms for name in term.names()]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"two terms have a column {twice[0]!r}: give one a name", key="model.baseline")

    @property
    def baseline_terms(self) -> tuple[Term, ...]:
        """The terms of the linear block, in order. Behind them stand the table's controls, then its treatments."""
        trend = (Linear(),) if self.trend == "linear" else ()
        seasons = (Fourier(order=self.seasonality),) if self.seasonality else ()
        given = self.baseline or (Intercept(), *trend, *seasons)
        return (*given, *(Registered(term=name) for name in self.terms))

    @property
    def yearly_order(self) -> int:
        """Order of the yearly Fourier series; 0 without."""
        waves = (term for term in self.baseline_terms if isinstance(term, Fourier) and term.period == "year")
        return max((term.order for term in waves), default=0)

    @property
    def channel_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that every channel has: adstock's, saturation's, then `effect`."""
        return (*ADSTOCK_PARAMETERS[self.adstock], *SATURATION_PARAMETERS[self.saturation], "effect")
