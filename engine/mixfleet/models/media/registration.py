"""Registration of further adstock and saturation families."""

from collections.abc import Callable, Mapping

from jaxtyping import Array

from mixfleet.config import priors
from mixfleet.config.priors import Distribution, Parameter
from mixfleet.errors import ConfigError
from mixfleet_kernels import adstock, saturation

__all__ = ["register_adstock", "register_saturation"]


def register_adstock(name: str, weight: Callable[..., Array], parameters: Mapping[str, Distribution]) -> None:
    """An adstock family for `model.adstock`; it runs in the native kernel too, which takes any window.

    Args:
        name: What settings call it.
        weight: See `mixfleet_kernels.adstock.register`.
        parameters: Usual prior of each parameter, in the order that `weight` takes them.

    Raises:
        ConfigError: There is such a family already, or a parameter of one of the names with another prior.
    """
    _register("adstock", name, parameters, priors.ADSTOCK_PARAMETERS)
    adstock.register(name, tuple(parameters), weight)


def register_saturation(name: str, curve: Callable[..., Array], parameters: Mapping[str, Distribution]) -> None:
    """A saturation family for `model.saturation`; it runs in XLA.

    Args:
        name: What settings call it.
        curve: See `mixfleet_kernels.saturation.register`.
        parameters: Usual prior of each parameter, in the order that `curve` takes them.

    Raises:
        ConfigError: There is such a family already, or a parameter of one of the names with another prior.
    """
    _register("saturation", name, parameters, priors.SATURATION_PARAMETERS)
    saturation.register(name, tuple(parameters), curve)


def _register(
    kind: str, name: str, parameters: Mapping[str, Distribution], families: dict[str, tuple[str, ...]]
) -> None:
    if name in families:
        raise ConfigError(f"there is a family {name!r} already", key=f"model.{kind}")
    added = {key: Parameter(level="channel", support=prior.support, default=prior) for key, prior in parameters.items()}
    priors.add_parameters(added)
    families[name] = tuple(parameters)
