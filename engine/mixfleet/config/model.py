"""Model settings: the structure of one unit's model."""

from dataclasses import dataclass
from typing import Annotated, Literal

from mixfleet.config import schema
from mixfleet.config.priors import (
    ADSTOCK_PARAMETERS,
    BASELINE_TERMS,
    OBSERVATION_PARAMETERS,
    SATURATION_PARAMETERS,
)
from mixfleet.config.schema import OneOf, Range

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

    terms: tuple[Annotated[str, OneOf(BASELINE_TERMS)], ...] = ()
    """Further terms of the baseline, registered with `mixfleet.models.baseline.register`."""

    observation: Annotated[str, OneOf(OBSERVATION_PARAMETERS)] = "normal"
    """Family of the KPI around what is expected of it."""

    coordinate: Literal["contribution", "effect"] = "contribution"
    """What the sampler moves for a channel's strength. The prior, and so the posterior, is the same."""

    def __post_init__(self) -> None:
        schema.settle(self, key="model")

    @property
    def channel_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that every channel has: adstock's, saturation's, then `effect`."""
        return (*ADSTOCK_PARAMETERS[self.adstock], *SATURATION_PARAMETERS[self.saturation], "effect")
