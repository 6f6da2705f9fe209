"""Other priors for a finished run: by its draws' weights where they can be trusted, by another fit elsewhere."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mixfleet import runtime
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.config import Spec
from mixfleet.fitting.driver import fit_units
from mixfleet.posterior.unit_result import CERTIFIED
from mixfleet.posterior.unit_series import evenly_spaced
from mixfleet.run import Run, open

if TYPE_CHECKING:
    from mixfleet.analysis.tables.sensitivity import Alternatives

__all__ = ["refitted", "sensitivity"]

TRUSTED = CERTIFIED | {"misfit"}
"""Statuses of fits whose draws are those of their posterior."""


def sensitivity(
    run: Run | str | Path,
    alternatives: "Alternatives | None" = None,
    units: Collection[tuple[str, ...]] | None = None,
) -> Any:
    """As `run.insight.sensitivity`, with a fit under the other priors of each unit whose draws cannot be weighed anew.

    Args:
        run: A finished run that kept its draws, or its folder.
        alternatives: By name what differs, such as `{"long": {"decay": {"a": 3, "b": 2}}}`; by default priors of
            media, curves and baseline that count half or twice as much (power-scaled).
        units: Labels of the units to tell of; by default all.

    Returns:
        One row per unit, alternative and channel; `basis` says which rows were `reweighted` and which `refitted`.

    Raises:
        ConfigError: Units are pooled or structures averaged, or an alternative is no prior of a parameter.
        RunError: The run kept no draws, or an older version made it that did not keep the table.
    """
    opened = run if isinstance(run, Run) else open(run)
    return opened.insight.sensitivity(alternatives, units, refitted)


def refitted(
    fleet: Fleet, spec: Spec, places: Sequence[int]
) -> Iterator[tuple[int, Mapping[str, Float[np.ndarray, "draw ..."]]]]:
    """See `analysis.tables.sensitivity.Refit`: under the run's seed, up the run's ladder of retries."""
    runtime.prepare(spec.compute)
    own = {fleet.units[place].labels: place for place in places}
    panel = replace(fleet.panel, units=tuple(fleet.units[place] for place in places))
    for result in fit_units(panel, spec):
        if result.status in TRUSTED:
            yield own[result.labels], {name: evenly_spaced(draws, fleet.draws) for name, draws in result.draws.items()}
