"""A group has its best rung's outcome; hyperparameters drawn anew from units' parameters have their distribution."""

import weakref
from dataclasses import dataclass, replace
from threading import Event
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats

from mixfleet.config import Inference, Pooling
from mixfleet.hierarchy import sampler
from mixfleet.hierarchy.groups import groups_of, prepared
from mixfleet.hierarchy.sampler import FinishedGroup, redrawn_hyper
from tests.support.quick import ragged_fleet, settings

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

DRAWS = 2000


@dataclass(frozen=True)
class FinishedUnit:
    """As much of a finished unit as the ladder of its group looks at."""

    verdict: Any
    job: Any
    count: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """As much of a verdict as its group's looks at."""

    settled: bool


@dataclass(frozen=True)
class Rung:
    """As much of a unit's job."""

    rung: int = 0


@pytest.mark.parametrize(
    ("passed", "rhat", "count", "room", "best", "anew"),
    [
        ([[True, True]], [1.0], 500, 1.0, 0, [True]),
        ([[True, False], [False, False], [False, True]], [1.009, 1.2, 1.05], 500, 1.0, 0, [True, False, True]),
        ([[True, False]], [1.009], 500, 0.008, 0, [True]),
        ([[False, False], [True, True]], [1.3, 1.0], 500, 0.008, 1, [True, True]),
        ([[True, False]], [1.009], 4000, 1.0, 0, [True]),
        ([[True] * 59 + [False]], [1.009], 500, 1.0, 0, [True]),
        ([[False, False], [False, False], [False, False]], [1.3, 1.009, 1.05], 500, 1.0, 2, [True, True, False]),
    ],
    ids=["at once", "worse later", "no room beside it", "better later", "all draws taken", "all but a few", "never"],
)
def test_a_group_has_the_outcome_of_its_best_rung(
    monkeypatch: pytest.MonkeyPatch,
    passed: list[list[bool]],
    rhat: list[float],
    count: int,
    room: float,
    best: int,
    anew: list[bool],
) -> None:
    """A later rung may do worse; what chains hardly disagree about is not learnt anew for it.

    Where hyperparameters pass and all draws are taken there is no further rung. No draws of which no unit passes stand
    in memory beside those of the next rung, and none of another are taken where they do not fit beside the best: here
    a MiB of 500 draws beside one of 4,000.
    """
    asked, outcomes = list[bool](), zip(passed, rhat, strict=True)
    made = list[weakref.ref[FinishedGroup]]()

    def warm_up(*arguments: Any, anew: bool) -> tuple[None, None, None]:
        asked.append(anew)
        return None, None, None

    def draw(*arguments: Any) -> tuple[None, FinishedGroup]:
        kept = [outcome for outcome in (one() for one in made) if outcome is not None]
        assert all(any(unit.verdict.passed for unit in outcome.units) for outcome in kept)
        verdicts, most = next(outcomes)
        units: Any = tuple(FinishedUnit(SimpleNamespace(passed=one), Rung(), count) for one in verdicts)
        hyper: Any = SimpleNamespace(rhat=np.array([[1.0, most]]), ess_bulk=np.full((1, 2), 1e4))
        group: Any = None
        record: Any = SimpleNamespace(count=count, nbytes=2**20)
        outcome = FinishedGroup(group=group, units=units, hyper=hyper, record=record)
        made.append(weakref.ref(outcome))
        return None, outcome

    for name, stand_in in {"warm_up": warm_up, "_draw": draw}.items():
        monkeypatch.setattr(sampler, name, stand_in)
    for name, value in {"pooled_program": None, "_keys": (None, None), "begin": (None, None), "Record": None}.items():
        monkeypatch.setattr(sampler, name, lambda *arguments, value=value: value)
    group: Any = SimpleNamespace(pool=None)
    device: Any = None
    spec: Any = SimpleNamespace(inference=Inference())
    finished: Any = sampler._sample(group, spec, device, room, Event())
    assert [unit.verdict.passed for unit in finished.units] == passed[best]
    assert {unit.job.rung for unit in finished.units} == {best}
    assert asked == anew


@pytest.mark.parametrize(("lost", "goes_on"), [(0, True), (1, True), (2, True), (3, False)])
def test_a_few_units_that_diverge_hold_up_no_group_of_many(
    monkeypatch: pytest.MonkeyPatch, lost: int, goes_on: bool
) -> None:
    """They miss a gate of their own; more of them end the rung at once, whatever its hyperparameters."""
    inference, count, chains = Inference(), 768, 8
    divergences = np.zeros(128, int)
    # Few enough of what was drawn, and too many of all that may be drawn.
    divergences[0], divergences[1 : 1 + lost] = 0.001 * count * chains, 1 + 0.001 * inference.max_draws * chains
    structure = SimpleNamespace(chains=chains)
    group = SimpleNamespace(members=range(100), pool=SimpleNamespace(structure=structure))
    record: Any = SimpleNamespace(count=count, divergences=divergences, group=group)
    hyper: Any = SimpleNamespace(rhat=np.full((1, 2), 1.02), ess_bulk=np.full((1, 2), 1e4))
    unit = FinishedUnit(Verdict(settled=True), Rung(), count)
    for name, value in {"_judged_hyper": hyper, "_judged_unit": unit, "_with_group": unit.verdict}.items():
        monkeypatch.setattr(sampler, name, lambda *arguments, value=value: value)

    def judged() -> FinishedGroup | None:
        return sampler._judged(record, inference, divergences, 4000, last=False)

    assert (judged() is None) == goes_on
    hyper.rhat[:] = 1.0
    assert judged() is not None
    divergences[99] = 2 + 0.001 * count * chains
    assert (judged() is None) == goes_on


@pytest.mark.nightly
def test_redrawn_hyperparameters_have_their_prior_where_units_are_drawn_from_it() -> None:
    panel = ragged_fleet()
    spec = replace(settings(panel.data), pooling=Pooling(by=("brand", "market")))
    [(label, units)] = groups_of(panel, spec)
    random = np.random.default_rng(1)
    with jax.enable_x64(True):
        group = prepared(label, units, panel, spec)
        parts = [group.hierarchy, group.columns.hierarchy]
        centre, sd, scale = (np.concatenate([getattr(part, name) for part in parts]) for name in parts[0]._fields[:3])
        used = np.concatenate([part.used for part in parts], axis=1)
        spreads = np.abs(random.normal(size=(3, len(centre), DRAWS))) * scale[:, None]
        centres = random.normal(size=(len(centre), DRAWS)) * sd[:, None] + centre[:, None]
        theta = centres[:, None] + spreads[0][:, None] * random.normal(size=(len(centre), len(units), DRAWS))
        for key, member, spread, own in zip(group.keys, group.hierarchy.keys, spreads[1:], used, strict=True):
            labels = np.argmax(member[:, : len(units)], axis=0)
            assert [group.labels[group.keys.index(key)][place] for place in labels] == [
                unit.labels[panel.keys.index(key)] for unit in units
            ]
            effects = random.normal(size=(len(member), len(centre), DRAWS)) * spread * own[:, None]
            theta += np.moveaxis(effects[labels], 0, 1)
        found = redrawn_hyper(group, theta, np.array([1, 2], np.uint32))
    for quantity, law in zip(found[:4], (stats.norm, stats.halfnorm, stats.halfnorm, stats.halfnorm), strict=True):
        shift, unit = (centre, sd) if law is stats.norm else (0 * centre, scale)
        for row, values in enumerate(quantity):
            standard = (values - shift[row]) / unit[row]
            assert stats.kstest(standard, law.cdf).pvalue > 1e-4
    # They go with the units that they are drawn from.
    middle = theta.mean(axis=1)
    for row in range(len(centre)):
        assert np.corrcoef(found[0, row], middle[row])[0, 1] == pytest.approx(
            np.corrcoef(centres[row], middle[row])[0, 1], abs=0.06
        )
