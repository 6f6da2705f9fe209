"""Sensitivity: what other priors would have said of each channel, from the draws that there are or from another fit.

Draws are weighed by the ratio of the priors, smoothed (PSIS), and trusted where the shape of the weights' tail and the
draws that they leave allow it; elsewhere only another fit can tell, and is asked where one is given.

References:
    Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, arXiv:1507.02646.
    Kallioinen, Paananen, Buerkner, Vehtari (2024), Detecting and diagnosing prior and likelihood sensitivity with
    power-scaling, doi:10.1007/s11222-023-10366-5: in hierarchies the top level alone is scaled.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from mixfleet.analysis.posterior_draws import CONTRIBUTION, Fleet
from mixfleet.config import Prior, Spec
from mixfleet.config.measures import MEASURES
from mixfleet.config.priors import PARAMETERS, Distribution, check_support, read_distribution
from mixfleet.config.schema import FrozenMapping
from mixfleet.errors import ConfigError
from mixfleet.models import baseline
from mixfleet.models.batch import PreparedUnit, prepare
from mixfleet.models.priors.powers import powered_settings
from mixfleet.models.strength import strength_distributions
from mixfleet.posterior.importance import effective_draws, pareto_smoothed, tail_allows
from mixfleet.posterior.log_densities import log_measures, log_prior_of, scaled_coefficients
from mixfleet.posterior.prior_draws import mean_responses
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["Alternative", "Alternatives", "Refit", "powers", "sensitivity"]

Alternatives = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By name, what differs from the run's priors: hyperparameters by parameter, as settings have them."""

ERROR = 0.05
"""Monte Carlo standard error of a weighed mean up to which weights are trusted, in posterior standard deviations: a
refit has one as large, so that the two are within 0.1 of each other. Of few draws, the error that half of them have."""

POWERS = {
    f"{kind} x {power:g}": (kind, power)
    for kind, power in (("media", 0.5), ("media", 2.0), ("curves", 0.5), ("curves", 2.0), ("baseline", 0.5))
}
"""By name, the kind of priors that count otherwise, and how much: the power of their density. Half as much is about 1.4
times as wide."""


class Refit(Protocol):
    """Fits units anew, with the run's settings but for the priors."""

    def __call__(
        self, fleet: Fleet, spec: Spec, places: Sequence[int]
    ) -> Iterator[tuple[int, Mapping[str, Float[np.ndarray, "draw ..."]]]]:
        """The place of each unit and its draws in the table's units; units whose draws fail a gate are left out."""
        ...


class Alternative(NamedTuple):
    """Other priors."""

    name: str
    spec: Spec
    """The run's, but for the priors."""
    changed: frozenset[str]
    """Parameters whose priors are others in some unit or channel."""
    curves: tuple[tuple[str, int, int], ...]
    """Those of curves, each with its place among such and that of a channel which has it."""

    @classmethod
    def of(cls, fleet: Fleet, name: str, prior: Prior, changed: Collection[str]) -> "Alternative":
        """Of a fleet, with the parameters whose priors are others."""
        model, found = fleet.spec.model, []
        for i, parameter in enumerate(model.channel_parameters[:-1]):
            if parameter in changed:
                channels = enumerate(fleet.channels)
                found += [(parameter, i, c) for c, channel in channels if model.has(parameter, channel)]
        return cls(name, replace(fleet.spec, prior=prior), frozenset(changed), tuple(found))


Law = Distribution | baseline.ColumnLaw
Place = tuple[str, int, int]
"""Name of a parameter, or `STRENGTH` or `COLUMN`; its place among those of curves; which channel or column it is of."""
STRENGTH, COLUMN = "strength", "column"


def sensitivity(
    fleet: Fleet,
    alternatives: Alternatives | None = None,
    units: Collection[tuple[str, ...]] | None = None,
    refit: Refit | None = None,
) -> pa.Table:
    """One row per unit, alternative and channel: how far what the channel brings would move.

    `shift` is in posterior standard deviations, `ratio` that of the means, `sd_ratio` that of the standard deviations.
    `basis` says whether draws were `reweighted` or the unit `refitted`; where neither can be trusted it is empty,
    `reliable` false, and the numbers NaN. `k` is the shape of the weights' tail and `ess` what they leave of the draws.

    Args:
        fleet: The run's units.
        alternatives: By default priors that count half or twice as much, as `POWERS` has them; one that would be no
            distribution is left out.
        units: Labels of those to tell of; by default all.
        refit: Asked for the units whose weights cannot be trusted.

    Raises:
        ConfigError: Units are pooled or structures averaged, or an alternative is no prior that a parameter can have.
    """
    spec = fleet.spec
    if spec.pooling.by != "none" or spec.model.structures:
        raise ConfigError("asks for units with one model and priors of their own", key="sensitivity")
    others = list(powers(fleet) if alternatives is None else _given(fleet, alternatives))
    told: dict[tuple[int, int], _Told] = {}
    means: dict[int, _Moments] = {}
    with jax.enable_x64(True):
        for place, (make, brought) in enumerate(zip(fleet.makers(), fleet.contributions(), strict=True)):
            if units is None or fleet.units[place].labels in units:
                known = _Known.of(fleet, place, make(), brought)
                means[place] = known.moments
                told |= {(place, i): known.told(other) for i, other in enumerate(others)}
    if refit is not None:
        for i, other in enumerate(others):
            refused = [place for place in means if not all(told[place, i].basis)]
            for place, draws in refit(fleet, other.spec, refused) if refused else ():
                with jax.enable_x64(True):
                    found = _Known.of(fleet, place, fleet.series_of(place, draws), draws.get(CONTRIBUTION)).moments
                told[place, i] = told[place, i]._replace(moments=found, basis=("refitted",) * len(found.mean))
    rows = (_rows(fleet, place, means[place], others[i].name, own) for (place, i), own in told.items())
    return pa.Table.from_pylist([row for unit in rows for row in unit])


class _Moments(NamedTuple):
    """Of what each channel that runs brings."""

    channels: Int[np.ndarray, " active"]
    mean: Float[np.ndarray, " active"]
    sd: Float[np.ndarray, " active"]


class _Told(NamedTuple):
    """What one alternative says of one unit."""

    moments: _Moments
    basis: tuple[str, ...]
    """By channel; empty where nothing can be trusted."""
    k: float
    ess: float


def _rows(fleet: Fleet, place: int, own: _Moments, name: str, told: _Told) -> Iterator[dict[str, Any]]:
    head = {**dict(zip(fleet.keys, fleet.units[place].labels, strict=True)), "status": fleet.statuses[place]}
    moved = told.moments
    numbers = {"shift": (moved.mean - own.mean) / own.sd, "ratio": moved.mean / own.mean, "sd_ratio": moved.sd / own.sd}
    for i, c in enumerate(own.channels.tolist()):
        basis = told.basis[i]
        found = {key: float(values[i]) if basis else np.nan for key, values in numbers.items()}
        head |= {"alternative": name, "channel": fleet.channels[c]}
        yield {**head, **found, "k": told.k, "ess": told.ess, "reliable": bool(basis), "basis": basis}


def powers(fleet: Fleet) -> Iterator[Alternative]:
    """Priors that count half or twice as much, those of `POWERS` that are distributions."""
    spec, scales = fleet.spec, fleet.spec.model.scale_parameters
    kinds = dict.fromkeys(baseline.column_kinds(spec.model, spec.data))
    named = {
        "media": spec.prior.on.possible,
        "curves": spec.model.channel_parameters[:-1],
        "baseline": (*(kind for kind in kinds if f"{kind}_scale" not in scales), *scales),
    }
    for name, (kind, power) in POWERS.items():
        try:
            prior = powered_settings(spec.prior, named[kind], power)
        except ConfigError:
            continue
        yield Alternative.of(fleet, name, prior, named[kind])


def _given(fleet: Fleet, alternatives: Alternatives) -> Iterator[Alternative]:
    own = fleet.spec.prior
    for name, changes in alternatives.items():
        read = {}
        for parameter, values in changes.items():
            key = f"alternatives.{name}.{parameter}"
            if parameter not in PARAMETERS:
                raise ConfigError(f"unknown parameter; known: {', '.join(PARAMETERS)}", key=key)
            read[parameter] = read_distribution(values, key, own.of(parameter))
            check_support(parameter, read[parameter], key=key)
        prior = replace(own, parameters=FrozenMapping({**own.parameters, **read}))
        yield Alternative.of(fleet, name, prior, read)


@dataclass(frozen=True)
class _Known:
    """A unit's draws of all that has a prior, and what its channels bring by them."""

    fleet: Fleet
    place: int
    member: PreparedUnit
    series: UnitSeries
    response: Float[np.ndarray, "channel draw"]
    """Mean response of curves of effect one."""
    _own: dict[Place, Float[np.ndarray, " draw"]] = field(default_factory=dict)
    """Log densities of the run's priors, those that were asked."""
    _usual: dict[frozenset[str], dict[Place, Law]] = field(default_factory=dict)
    """The run's priors of what alternatives change."""

    @classmethod
    def of(
        cls, fleet: Fleet, place: int, series: UnitSeries, brought: Float[np.ndarray, "draw channel"] | None
    ) -> "_Known":
        """With draws of what channels bring over the fitted weeks, where the fit kept them."""
        member = prepare(fleet.units[place], fleet.panel, fleet.spec)
        if brought is None:
            return cls(fleet, place, member, series, mean_responses(member, series.shape, fleet.term))
        whole = series.effect * member.contribution_weeks.sum()
        response = np.divide(brought.T, whole, out=np.zeros_like(whole), where=whole > 0)
        return cls(fleet, place, member, series, response)

    @cached_property
    def active(self) -> Int[np.ndarray, " active"]:
        return np.flatnonzero(self.member.arrays["active"])

    @cached_property
    def brought(self) -> Float[np.ndarray, "active draw"]:
        return (self.series.effect * self.response)[self.active]

    @property
    def moments(self) -> _Moments:
        return _Moments(self.active, self.brought.mean(axis=1), self.brought.std(axis=1))

    def told(self, other: Alternative) -> _Told:
        """By the weights of the draws."""
        weight, shape, effective = _weighed(self._log_ratio(other))
        mean = self.brought @ weight
        error = np.sqrt((self.brought - mean[:, None]) ** 2 @ weight**2) / self.moments.sd
        largest = max(ERROR, np.sqrt(2 / len(weight)))
        trusted = tail_allows(shape, len(weight)) & (error <= largest)
        sd = np.sqrt(np.maximum(self.brought**2 @ weight - mean**2, 0.0))
        basis = tuple("reweighted" if one else "" for one in trusted)
        return _Told(_Moments(self.active, mean, sd), basis, shape, effective)

    def _log_ratio(self, other: Alternative) -> Float[np.ndarray, " draw"]:
        """Log density of another prior over that of the draws' own, up to a constant."""
        if other.changed not in self._usual:
            self._usual[other.changed] = self._laws(other, self.fleet.spec)
        before, ratio = self._usual[other.changed], np.zeros(self.series.effect.shape[-1])
        for place, after in self._laws(other, other.spec).items():
            if before[place] != after:
                if place not in self._own:
                    self._own[place] = self._density(place, before[place])
                ratio += self._density(place, after) - self._own[place]
        return ratio

    def _laws(self, other: Alternative, spec: Spec) -> dict[Place, Law]:
        """The unit's priors of what differs, as settings have them."""
        fleet, unit, model, prior = self.fleet, self.fleet.units[self.place], spec.model, spec.prior
        names, changed = dict(zip(fleet.keys, unit.labels, strict=True)), other.changed
        found: dict[Place, Law] = {
            (name, i, c): prior.distribution(name, unit=names, channel=fleet.channels[c]) for name, i, c in other.curves
        }
        if changed & MEASURES.keys():
            own = self.member.strength
            others = spec is not fleet.spec
            strengths = strength_distributions(own.measures, unit, fleet.panel, prior) if others else own.distributions
            found |= {(STRENGTH, 0, c): law for c, law in enumerate(strengths)}
        for name in model.unit_parameters:
            if name in changed:
                found[name, 0, 0] = prior.distribution(name, unit=names)
        kinds = baseline.column_kinds(model, spec.data)
        if changed.intersection(kinds):
            laws = baseline.column_laws(model, spec.data, prior, names)
            found |= {(COLUMN, 0, k): law for k, law in enumerate(laws) if kinds[k] in changed}
        return found

    def _density(self, place: Place, law: Law) -> Float[np.ndarray, " draw"]:
        """Log density of the draws of what is at this place."""
        name, row, i = place
        if isinstance(law, baseline.ColumnLaw):
            return law.log_prob(self._columns[i], self._learned[i])
        if name == STRENGTH:
            return log_prior_of(law, self._measure[i])
        return log_prior_of(law, self._of_unit[name] if name in self._of_unit else self.series.shape[row, i])

    @cached_property
    def _measure(self) -> Float[np.ndarray, "channel draw"]:
        """What the priors of strengths are on."""
        own, term = {"effect": self.series.effect.T}, self.fleet.term
        return np.exp(log_measures(self.member, own, self.series.shape, term, self.response))

    @cached_property
    def _of_unit(self) -> dict[str, Float[np.ndarray, " draw"]]:
        """Parameters of which a unit has one each, on the model's scale."""
        model, kpi = self.fleet.spec.model, self.fleet.scales[self.place].kpi
        draws = zip(model.unit_parameters, self.series.observation, strict=True)
        return {name: values / kpi if model.in_kpi(name) else values for name, values in draws}

    @cached_property
    def _learned(self) -> list[Float[np.ndarray, " draw"] | None]:
        """Each column's standard deviation, where that is learned."""
        return baseline.by_column(self._of_unit, self.fleet.spec.model, self.fleet.spec.data)

    @cached_property
    def _columns(self) -> Float[np.ndarray, "column draw"]:
        """The baseline's coefficients on the model's scale."""
        scale, coefficients = self.fleet.scales[self.place], self.series.coefficients.copy()
        first = len(coefficients) - len(scale.reference)
        coefficients[first:] *= self.fleet.lent[self.place][:, None]
        coefficients[0] -= scale.reference @ coefficients[first:]
        return scaled_coefficients({"coefficients": coefficients.T}, scale).T


def _weighed(ratio: Float[np.ndarray, " draw"]) -> tuple[Float[np.ndarray, " draw"], float, float]:
    """Weights of the draws, the shape of their tail, and how many draws they leave."""
    if not np.ptp(ratio) > 0:
        return np.full(len(ratio), 1 / len(ratio)), -np.inf, float(len(ratio))
    weight, shape = pareto_smoothed(ratio)
    return weight, shape, effective_draws(weight)
