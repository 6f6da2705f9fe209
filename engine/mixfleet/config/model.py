"""Model settings: the structure of one unit's model."""

from dataclasses import dataclass
from typing import Annotated, Literal

from mixfleet.config import schema
from mixfleet.config.priors import ADSTOCK_PARAMETERS, SATURATION_PARAMETERS
from mixfleet.config.schema import Range

__all__ = ["Model"]


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
