"""One table in, a whole fleet of Bayesian marketing mix models out.

Importing this is cheap: what is named here, and jax with it, is loaded on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixfleet import simulate
    from mixfleet.calibration import calibrate
    from mixfleet.config import (
        Channel,
        Compute,
        Data,
        Inference,
        Model,
        Output,
        Pooling,
        Prior,
        RunConfig,
        Spec,
        preset,
    )
    from mixfleet.origins import backtest
    from mixfleet.readiness import check
    from mixfleet.run import budget, fit
    from mixfleet.saved import open

__version__ = "0.1.0"

__all__ = [
    "Channel",
    "Compute",
    "Data",
    "Inference",
    "Model",
    "Output",
    "Pooling",
    "Prior",
    "RunConfig",
    "Spec",
    "__version__",
    "backtest",
    "budget",
    "calibrate",
    "check",
    "fit",
    "open",
    "preset",
    "simulate",
]

_HOMES = {
    "backtest": "origins",
    "budget": "run",
    "fit": "run",
    "open": "saved",
    "check": "readiness",
    "calibrate": "calibration",
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
