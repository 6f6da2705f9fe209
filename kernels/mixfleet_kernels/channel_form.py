"""How one channel's media become its response, as native code knows it."""

from typing import NamedTuple

__all__ = ["ADSTOCKS", "SATURATIONS", "ChannelForm", "numbers"]

ADSTOCKS = ("given", "geometric", "none", "binomial", "delayed", "weibull_pdf", "weibull_cdf")
"""Adstocks in the order in which `likelihood/native.h` numbers them; weights of the first come from elsewhere."""

SATURATIONS = ("logistic", "hill", "tanh", "michaelis_menten", "exponential", "root", "log", "none")
"""Saturations in the order in which `likelihood/native_curves.h` numbers them."""


class ChannelForm(NamedTuple):
    """Carry-over and saturation, in either order."""

    adstock: str
    """One of `ADSTOCKS`."""
    window: int
    """Weeks that media carry over, the current one included."""
    normalised: bool
    """Whether the window's weights sum to one."""
    peer: bool
    """Whether the window is PyMC-Marketing's, where that one differs: `binomial_offset` and `weibull_minmax` of
    `adstock.weights`."""
    saturation: str
    """One of `SATURATIONS`."""
    adstock_first: bool
    """Whether media carry over before they saturate."""


def numbers(form: ChannelForm) -> tuple[int, ...]:
    """The form as the library reads it."""
    adstock, saturation = ADSTOCKS.index(form.adstock), SATURATIONS.index(form.saturation)
    return adstock, form.window, int(form.normalised), int(form.peer), saturation, int(form.adstock_first)
