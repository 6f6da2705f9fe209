"""Parameters: where each number of a unit's position, and of a kept draw, stands. No other module counts rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Array, Shaped

from mixfleet.config import Model
from mixfleet.config.priors import ADSTOCK_PARAMETERS, OBSERVATION_PARAMETERS, SATURATION_PARAMETERS

__all__ = ["Block", "DrawRows", "ParameterLayout", "parameter_layout", "sampled_parameters"]


@dataclass(frozen=True)
class Block:
    """Neighbouring coordinates of one parameter."""

    parameter: str
    axis: Literal["channel", "unit", "column"]
    first: int
    size: int
    family: str
    """Name of the prior's family in `families.FAMILIES`."""

    @property
    def rows(self) -> slice:
        """The block's coordinates."""
        return slice(self.first, self.first + self.size)


@dataclass(frozen=True)
class ParameterLayout:
    """The sampled coordinates of a unit, in order.

    Adstock and saturation parameters, then `effect`, each over the channels; the observation's parameters; and, where
    they are not integrated out, the coefficients of the baseline along its basis.
    """

    adstock: tuple[Block, ...]
    saturation: tuple[Block, ...]
    effect: Block
    observation: tuple[Block, ...]
    coefficients: Block | None

    @property
    def shapes(self) -> tuple[Block, ...]:
        """Parameters of the response curves: adstock's, then saturation's."""
        return self.adstock + self.saturation

    @property
    def by_channel(self) -> tuple[Block, ...]:
        """Parameters of every channel: the curves', then `effect`."""
        return (*self.shapes, self.effect)

    @property
    def noise(self) -> Block:
        """Scale of the observation: the first of its parameters."""
        return self.observation[0]

    @property
    def dimension(self) -> int:
        """Sampled coordinates of one unit."""
        last = self.coefficients or self.observation[-1]
        return last.first + last.size


def sampled_parameters(model: Model) -> tuple[str, ...]:
    """Names of the parameters that have a prior of their own in the sampled position, in its order."""
    return (*model.channel_parameters, *OBSERVATION_PARAMETERS[model.observation])


def parameter_layout(
    model: Model, families: Sequence[str], *, channels: int, sampled_columns: int = 0
) -> ParameterLayout:
    """The layout of a model's coordinates.

    Args:
        model: Says which parameters there are.
        families: Prior family of each of `sampled_parameters(model)`.
        channels: How many media channels.
        sampled_columns: Columns of the baseline whose coefficients are sampled; 0 where they are integrated out.
    """
    blocks: list[Block] = []
    first = 0
    shared = OBSERVATION_PARAMETERS[model.observation]
    for name, family in zip(sampled_parameters(model), families, strict=True):
        axis, size = ("unit", 1) if name in shared else ("channel", channels)
        blocks.append(Block(name, axis, first, size, family))
        first += size
    count, curves = len(ADSTOCK_PARAMETERS[model.adstock]), len(SATURATION_PARAMETERS[model.saturation])
    return ParameterLayout(
        adstock=tuple(blocks[:count]),
        saturation=tuple(blocks[count : count + curves]),
        effect=blocks[count + curves],
        observation=tuple(blocks[count + curves + 1 :]),
        coefficients=Block("coefficients", "column", first, sampled_columns, "normal") if sampled_columns else None,
    )


@dataclass(frozen=True)
class DrawRows:
    """The numbers that are kept of a draw, in order."""

    coordinates: int
    channels: int
    columns: int

    @property
    def count(self) -> int:
        """How many there are: position, mean responses, projection, log density and energy."""
        return self.coordinates + self.channels + self.columns + 2

    def position(self, fields: Shaped[Array, "field *rest"]) -> Shaped[Array, "coordinate *rest"]:
        """Sampled coordinates."""
        return fields[: self.coordinates]

    def mean_response(self, fields: Shaped[Array, "field *rest"]) -> Shaped[Array, "channel *rest"]:
        """Response of each channel, averaged over the weeks of the likelihood."""
        return fields[self.coordinates : self.coordinates + self.channels]

    def projection(self, fields: Shaped[Array, "field *rest"]) -> Shaped[Array, "column *rest"]:
        """Of the residual onto the baseline's basis; of a coefficient that is sampled, its value along it."""
        first = self.coordinates + self.channels
        return fields[first : first + self.columns]

    def log_density(self, fields: Shaped[Array, "field *rest"]) -> Shaped[Array, "*rest"]:
        """Log posterior density."""
        return fields[-2]

    def energy(self, fields: Shaped[Array, "field *rest"]) -> Shaped[Array, "*rest"]:
        """Energy of the trajectory that ended in the draw."""
        return fields[-1]
