"""Parameters: where each number of a unit's position, and of a kept draw, stands. No other module counts rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet.config import Model
from mixfleet.config.model import MediaForm
from mixfleet.config.priors import OBSERVATION_PARAMETERS
from mixfleet.models.media.term import MediaTerm
from mixfleet_kernels.dtypes import library_of

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
    channels: tuple[int, ...] = ()
    """Of a parameter of channels, the places of those that have it; of sampled coefficients, those of their columns."""

    @property
    def fixed(self) -> bool:
        """Whether the values are known: the block is no part of a position, and stands behind it in prior data."""
        return self.family == "fixed"

    @property
    def rows(self) -> slice:
        """The block's coordinates."""
        return slice(self.first, self.first + self.size)


@dataclass(frozen=True)
class ParameterLayout:
    """The sampled coordinates of a unit, in order.

    Adstock and saturation parameters, each over the channels that have it; `effect`, over all channels; the
    observation's parameters and scales of the baseline's coefficients; coefficients of the baseline that have to be
    sampled; and, where the others are not integrated out, these along their basis.
    Parameters whose values are known come behind.
    """

    shapes: tuple[Block, ...]
    """Parameters of the response curves in the order of `MediaTerm.parameters`: adstocks', then saturations'."""
    effect: Block
    observation: tuple[Block, ...]
    """Parameters that a unit has one of each: the observation's, then scales of the baseline's coefficients."""
    linear: tuple[Block, ...]
    """Coefficients that are sampled as they are, by family of their priors."""
    coefficients: Block | None
    term: MediaTerm

    @property
    def by_channel(self) -> tuple[Block, ...]:
        """Parameters of channels: the curves', then `effect`."""
        return (*self.shapes, self.effect)

    @property
    def sampled(self) -> tuple[Block, ...]:
        """Of the curves' parameters, those that are sampled."""
        return tuple(block for block in self.shapes if not block.fixed)

    @property
    def noise(self) -> Block:
        """Scale of the observation: the first of its parameters."""
        return self.observation[0]

    @property
    def dimension(self) -> int:
        """Sampled coordinates of one unit."""
        last = self.coefficients or (*self.observation, *self.linear)[-1]
        return last.first + last.size

    @property
    def prior_columns(self) -> int:
        """Columns of prior data: one for each coordinate, then one for each known value."""
        return self.dimension + sum(block.size for block in self.shapes if block.fixed)

    @cached_property
    def places(self) -> tuple[tuple[tuple[int, int] | None, ...], ...]:
        """Of each slot of the kernels and each channel, the block and the row in it; None where a channel has no such.

        A slot is the first, second, ... parameter of each channel's own adstock, then of its own saturation.
        """
        names, forms = [block.parameter for block in self.shapes], self.term.forms

        def place(parameters: tuple[str, ...], slot: int, channel: int) -> tuple[int, int] | None:
            if slot >= len(parameters):
                return None
            block = names.index(parameters[slot])
            return block, self.shapes[block].channels.index(channel)

        adstocks, saturations = ([own(form) for form in forms] for own in (_adstock, _saturation))
        return tuple(
            tuple(place(parameters, slot, c) for c, parameters in enumerate(kind))
            for kind in (adstocks, saturations)
            for slot in range(max(map(len, kind), default=0))
        )

    @property
    def adstock_slots(self) -> int:
        """How many of the slots are adstocks'."""
        return max((len(form.adstock_parameters) for form in self.term.forms), default=0)

    def to_slots(self, values: Sequence[Float[Array, "row *lane"]]) -> tuple[Float[Array, "channel *lane"], ...]:
        """Values of each block in `shapes` as the kernels take them: by slot, one where a channel has no such."""
        found = []
        for slot in self.places:
            blocks = {place[0] for place in slot if place is not None}
            if len(blocks) == 1 and all(slot):
                found.append(values[blocks.pop()])
                continue
            filler = jnp.ones_like(values[min(blocks)][:1])
            rows = [filler if place is None else values[place[0]][place[1] : place[1] + 1] for place in slot]
            found.append(jnp.concatenate(rows))
        return tuple(found)

    def from_slots(self, values: Sequence[Float[Array, "channel *lane"]]) -> tuple[Float[Array, "row *lane"], ...]:
        """What a kernel gave by slot, for each block in `shapes`."""
        found = []
        for b, block in enumerate(self.shapes):
            slots = [
                next(s for s, slot in enumerate(self.places) if slot[c] == (b, row))
                for row, c in enumerate(block.channels)
            ]
            if len(set(slots)) == 1 and block.size == len(self.term.forms):
                found.append(values[slots[0]])
            else:
                rows = [values[slot][c : c + 1] for slot, c in zip(slots, block.channels, strict=True)]
                found.append(jnp.concatenate(rows) if rows else values[0][:0])
        return tuple(found)

    def wide(self, values: Sequence[Float[Array, "row *lane"]]) -> Float[Array, "parameter channel *lane"]:
        """Values of each block in `shapes` over all channels; NaN where a channel has not that parameter."""
        channels, found = len(self.term.forms), []
        for block, own in zip(self.shapes, values, strict=True):
            if block.size == channels:
                found.append(own)
                continue
            library = library_of(own)
            nothing = library.full(own.shape[1:], np.nan, own.dtype)
            rows = [own[block.channels.index(c)] if c in block.channels else nothing for c in range(channels)]
            found.append(library.stack(rows))
        return library_of(found[0]).stack(found)


def _adstock(form: MediaForm) -> tuple[str, ...]:
    return form.adstock_parameters


def _saturation(form: MediaForm) -> tuple[str, ...]:
    return form.saturation_parameters


def sampled_parameters(model: Model) -> tuple[str, ...]:
    """Names of the parameters that have a prior of their own, in the order of the position."""
    return (*model.channel_parameters, *model.unit_parameters)


def parameter_layout(
    term: MediaTerm,
    observation: str,
    families: Sequence[str],
    *,
    scales: Sequence[str] = (),
    linear: Sequence[tuple[str, tuple[int, ...]]] = (),
    sampled_columns: int = 0,
) -> ParameterLayout:
    """The layout of a model's coordinates.

    Args:
        term: Says which parameters there are, and which channels have them.
        observation: Family of the KPI around its expectation.
        families: Prior family of each of `sampled_parameters(model)`.
        scales: Names of the standard deviations of the baseline's coefficients that are learned.
        linear: By family, the columns of the baseline whose coefficients are sampled as they are.
        sampled_columns: How many of the others are sampled along their basis; 0 where they are integrated out.
    """
    every = tuple(range(len(term.forms)))
    places = [*(term.places(name) for name in term.parameters), every]
    parameters = (*term.parameters, "effect", *OBSERVATION_PARAMETERS[observation], *scales)
    blocks: list[Block] = []
    first = 0
    for i, (name, family) in enumerate(zip(parameters, families, strict=True)):
        own = places[i] if i < len(places) else ()
        axis, size = ("channel", len(own)) if i < len(places) else ("unit", 1)
        blocks.append(Block(name, axis, first, size, family, own))
        first += 0 if family == "fixed" else size
    own_columns = []
    for family, columns in linear:
        own_columns.append(Block("coefficients", "column", first, len(columns), family, columns))
        first += len(columns)
    coefficients = Block("coefficients", "column", first, sampled_columns, "normal") if sampled_columns else None
    behind = first + sampled_columns
    for i, block in enumerate(blocks):
        if block.fixed:
            blocks[i] = replace(block, first=behind)
            behind += block.size
    count = len(term.parameters)
    return ParameterLayout(
        shapes=tuple(blocks[:count]),
        effect=blocks[count],
        observation=tuple(blocks[count + 1 :]),
        linear=tuple(own_columns),
        coefficients=coefficients,
        term=term,
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

    def position(self, fields: Any) -> Any:
        """Sampled coordinates."""
        return fields[: self.coordinates]

    def mean_response(self, fields: Any) -> Any:
        """Response of each channel, averaged over the weeks of the likelihood."""
        return fields[self.coordinates : self.coordinates + self.channels]

    def projection(self, fields: Any) -> Any:
        """Of the residual onto the baseline's basis; of a coefficient that is sampled, its value along it."""
        first = self.coordinates + self.channels
        return fields[first : first + self.columns]

    def log_density(self, fields: Any) -> Any:
        """Log posterior density."""
        return fields[-2]

    def energy(self, fields: Any) -> Any:
        """Energy of the trajectory that ended in the draw."""
        return fields[-1]
