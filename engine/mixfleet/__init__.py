"""One table in, a whole fleet of Bayesian marketing mix models out.

Importing this is cheap: what is named here, and jax with it, is loaded on first use.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixfleet import simulate
    from mixfleet.config import (
        Channel,
        Compute,
        Data,
        Inference,
        Model,
        Output,
        Prior,
        RunConfig,
        Spec,
        preset,
    )
    from mixfleet.readiness import check
    from mixfleet.run import fit
    from mixfleet.saved import open

__version__ = "0.1.0"

__all__ = [
    "Channel",
    "Compute",
    "Data",
    "Inference",
    "Model",
    "Output",
    "Prior",
    "RunConfig",
    "Spec",
    "__version__",
    "check",
    "fit",
    "open",
    "preset",
    "simulate",
]

_HOMES = {
    "fit": "run",
    "open": "saved",
    "check": "readiness",
    "simulate": "simulate",
}
"""Module of each public name; the others live in `config`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mixfleet' has no attribute {name!r}")
    home = importlib.import_module(f"mixfleet.{_HOMES.get(name, 'config')}")
    value = home if name == "simulate" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Keeps `mixfleet.fit` the function: importing the module of that name would bind it in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "fit" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
