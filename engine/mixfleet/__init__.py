"""One table in, a whole fleet of Bayesian marketing mix models out.

Importing this is cheap: what is named here, and jax with it, is loaded on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mixfleet._version import __version__

if TYPE_CHECKING:
    from mixfleet.api import budget, check, collect, fit, fit_shard
    from mixfleet.config import (
        Business,
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
    from mixfleet.evaluation.backtest import backtest
    from mixfleet.evaluation.leaderboard import leaderboard
    from mixfleet.evaluation.prior_check import prior
    from mixfleet.evaluation.prior_sensitivity import sensitivity
    from mixfleet.evaluation.readiness import readiness
    from mixfleet.evaluation.sbc import calibrate
    from mixfleet.run import open
    from mixfleet.simulation import fleet as simulate

__all__ = [
    "Business",
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
    "collect",
    "fit",
    "fit_shard",
    "leaderboard",
    "open",
    "preset",
    "prior",
    "readiness",
    "sensitivity",
    "simulate",
]

_HOMES = {
    "backtest": "evaluation.backtest",
    "budget": "api",
    "calibrate": "evaluation.sbc",
    "check": "api",
    "collect": "api",
    "fit": "api",
    "fit_shard": "api",
    "leaderboard": "evaluation.leaderboard",
    "open": "run",
    "prior": "evaluation.prior_check",
    "readiness": "evaluation.readiness",
    "sensitivity": "evaluation.prior_sensitivity",
    "simulate": "simulation.fleet",
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
