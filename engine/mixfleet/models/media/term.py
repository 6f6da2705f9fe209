"""The media term: the form of every channel's response, and where each channel's parameters stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mixfleet.config import Model
from mixfleet.config.model import MediaForm

__all__ = ["FormGroup", "MediaTerm", "joined", "media_term"]


@dataclass(frozen=True)
class FormGroup:
    """The channels of one form."""

    form: MediaForm
    channels: tuple[int, ...]
    """Their places; empty for all."""
    parameters: tuple[int, ...]
    """Places of the form's parameters among the term's; empty for all of them, in their order."""

    def own(self, values: Any, axis: int) -> Any:
        """Of arrays with a channel axis, the channels of this form."""
        if not self.channels:
            return values
        places = np.array(self.channels)
        return jax.tree.map(lambda array: jnp.take(array, places, axis=axis), values)


@dataclass(frozen=True)
class MediaTerm:
    """Structure of all channels' media; hashable, and without a label in it."""

    forms: tuple[MediaForm, ...]
    """Of each channel."""
    parameters: tuple[str, ...]
    """Names of the parameters that some form has: adstocks', then saturations'."""
    window: int
    """Periods that the longest carry-over may take, the current one included."""

    @cached_property
    def groups(self) -> tuple[FormGroup, ...]:
        """The channels by form."""
        found: dict[MediaForm, list[int]] = {}
        for c, form in enumerate(self.forms):
            found.setdefault(form, []).append(c)
        return tuple(
            FormGroup(
                form,
                tuple(channels) if len(found) > 1 else (),
                () if form.parameters == self.parameters else tuple(map(self.parameters.index, form.parameters)),
            )
            for form, channels in found.items()
        )

    def places(self, parameter: str) -> tuple[int, ...]:
        """The channels that have a parameter."""
        return tuple(c for c, form in enumerate(self.forms) if parameter in form.parameters)

    def of(self, channels: Sequence[int]) -> "MediaTerm":
        """The term of these channels, each as often as it is named."""
        return MediaTerm(tuple(self.forms[c] for c in channels), self.parameters, self.window)


def media_term(model: Model, channels: Sequence[str]) -> MediaTerm:
    """The media term of a model's channels.

    Raises:
        ConfigError: The model says something of a channel that there is not.
    """
    return MediaTerm(model.forms(channels), model.channel_parameters[:-1], model.window)


def joined(term: MediaTerm, parts: Sequence[Any], axis: int) -> Any:
    """What each of `term.groups` gave, with all channels in their order along `axis`."""
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([group.channels for group in term.groups]))

    def join(*arrays: Array) -> Array:
        return jnp.take(jnp.concatenate(arrays, axis=axis), order, axis=axis)

    return jax.tree.map(join, *parts)
