"""Averaging: several structures of every unit's model, each fitted as a run of its own and then put together.

| step | where |
|---|---|
| one run per structure, resumed and checked like any other | `<run>.structures/<structure>` |
| how well each tells weeks that it has not seen | `posterior.structures.stacking` |
| weights of the fleet, then of each unit around them | the same |
| one result per unit: draws of its structures by weight, and every table of them | `posterior.structures.mixture` |

Whatever reads the finished run - ROI, curves, forecasts, plans - sees draws of curves, each with its structure.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import jax
import numpy as np
from jaxtyping import Float

from mixfleet.config import Spec
from mixfleet.data.panel import Panel, Unit, unit_id
from mixfleet.fitting.executors.carry import Base
from mixfleet.fitting.executors.executor import Executor
from mixfleet.fitting.progress import OnEvent, Progress
from mixfleet.fitting.retries import status_from
from mixfleet.models.batch import prepare
from mixfleet.models.media import media_term
from mixfleet.posterior.structures.mixture import StructureFit, averaged_result, score_of
from mixfleet.posterior.structures.stacking import LeftOutScore, fleet_weights, known_together, stacked
from mixfleet.posterior.unit_result import CERTIFIED, UnitResult
from mixfleet.storage.reader import RunReader
from mixfleet.storage.run_folder import STRUCTURES

__all__ = ["averaging"]


def structure_specs(spec: Spec, path: str) -> tuple[Spec, ...]:
    """The settings of each structure's own run, beside the run at `path`."""
    draws = "thin" if spec.output.draws == "summary" else spec.output.draws
    return tuple(
        replace(
            spec,
            model=model,
            output=replace(spec.output, draws=draws),
            run=replace(spec.run, root=f"{path}{STRUCTURES}", id=name.replace(", ", "-"), tracking=None),
        )
        for model, name in zip(spec.model.alternatives, spec.model.structure_names, strict=True)
    )


def averaging(path: str, fit_run: Callable[[Spec, OnEvent | None], RunReader]) -> Executor:
    """An executor that fits every structure of the settings by `fit_run` and averages them, unit by unit.

    Args:
        path: The run's folder, beside which those of the structures lie.
        fit_run: Makes the finished run of some settings, and reads it.
    """

    def fit(panel: Panel, spec: Spec, *, skip: frozenset[str], on_event: OnEvent | None = None) -> Iterator[UnitResult]:
        names, specs = spec.model.structure_names, structure_specs(spec, path)
        runs = [fit_run(own, _named(on_event, name)) for own, name in zip(specs, names, strict=True)]
        places = {labels: place for place, labels in enumerate(runs[0].labels())}
        bases, terms = [Base(run) for run in runs], [media_term(own.model, panel.channels) for own in specs]

        def fits(unit: Unit) -> list[StructureFit]:
            return [
                StructureFit(name, own, prepare(unit, panel, own), term, base.result(places[unit.labels]))
                for name, own, term, base in zip(names, specs, terms, bases, strict=True)
            ]

        with jax.enable_x64(True):
            scores = {unit.labels: _scores(fits(unit), panel) for unit in panel.units}
            known = (known_together(own) for own in scores.values())
            fleet = fleet_weights([own for own in known if own is not None], len(names))
            for unit in panel.units:
                if unit_id(unit.labels) not in skip:
                    yield _averaged(fits(unit), scores[unit.labels], fleet, panel, spec)

    return fit


def _named(on_event: OnEvent | None, name: str) -> OnEvent | None:
    """What hears of a structure's run, and which one it is."""
    if on_event is None:
        return None

    def listen(event: Progress) -> None:
        on_event(replace(event, phase=f"{event.phase} ({name})"))

    return listen


def _certified(fit: StructureFit) -> bool:
    """Whether the draws passed every gate, whatever the checks of the model said."""
    return fit.result.status in CERTIFIED or fit.result.status == "misfit"


def _scores(fits: Sequence[StructureFit], panel: Panel) -> list[LeftOutScore | None]:
    return [score_of(fit, panel) if _certified(fit) and fit.member.fitted.any() else None for fit in fits]


def _averaged(
    fits: Sequence[StructureFit],
    scores: Sequence[LeftOutScore | None],
    fleet: Float[np.ndarray, " structure"],
    panel: Panel,
    spec: Spec,
) -> UnitResult:
    """The unit's result: of its certified structures, or else of all that have draws, which is no certified one."""
    certified = np.array([_certified(fit) for fit in fits])
    chosen = certified if certified.any() else np.array([bool(fit.result.draws) for fit in fits])
    if not chosen.any():
        return fits[0].result
    prior = fleet * chosen / np.sum(fleet * chosen)
    weights = prior.copy()
    known = known_together([score for score, use in zip(scores, chosen, strict=True) if use])
    if known is not None:
        weights[chosen] = stacked(known, prior[chosen])
    left = [f"{fit.name} is left out: {fit.result.reason}" for fit, use in zip(fits, certified, strict=True) if not use]
    rung = max(fit.result.rung for fit, use in zip(fits, chosen, strict=True) if use)
    judged = partial(status_from, fits[0].member.unit, passed=bool(certified.any()), reason="; ".join(left), rung=rung)
    return averaged_result(fits, scores, weights, panel, spec, judged=judged)
