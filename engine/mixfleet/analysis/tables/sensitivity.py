"""Sensitivity: what other priors would have said of each channel, from the draws that there are.

Draws are weighed by the ratio of the priors, smoothed (PSIS), and trusted where the shape of the weights' tail and the
draws that they leave allow it; elsewhere only another fit can tell.

References:
    Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, arXiv:1507.02646.
    Kallioinen, Paananen, Buerkner, Vehtari (2024), Detecting and diagnosing prior and likelihood sensitivity with
    power-scaling, doi:10.1007/s11222-023-10366-5.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.config import Prior
from mixfleet.config.priors import PARAMETERS, Distribution, check_support, read_distribution
from mixfleet.config.schema import FrozenMapping
from mixfleet.errors import ConfigError
from mixfleet.models import baseline
from mixfleet.models.batch import PreparedUnit, prepare
from mixfleet.models.strength import strength_prior
from mixfleet.posterior.importance import effective_draws, pareto_smoothed, tail_allows
from mixfleet.posterior.log_densities import log_measures, log_prior_of, scaled_coefficients
from mixfleet.posterior.prior_draws import mean_responses
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["Alternatives", "sensitivity"]

Alternatives = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By name, what differs from the run's priors: hyperparameters by parameter, as settings have them."""

FEWEST = 200.0
"""Draws that weights must leave, of those that are kept: as many tell a mean to 0.07 standard deviations."""

Priors = list[
    tuple[str, int, Distribution | baseline.ColumnLaw, Float[np.ndarray, " draw"], Float[np.ndarray, " draw"] | None]
]
"""Kind and place of each parameter, its prior, its draws, and those of its prior's standard deviation if learned."""


POWERS = {
    f"{kind} x {power:g}": (kind, power)
    for kind, power in (("media", 0.5), ("media", 2.0), ("curves", 0.5), ("curves", 2.0), ("baseline", 0.5))
}
"""By name, the kind of priors that count otherwise, and how much: the power of their density. Half as much is about 1.4
times as wide."""


def _given(prior: Prior, name: str, changes: Mapping[str, Mapping[str, Any]]) -> Prior:
    read = {}
    for parameter, values in changes.items():
        key = f"alternatives.{name}.{parameter}"
        if parameter not in PARAMETERS:
            raise ConfigError(f"unknown parameter; known: {', '.join(PARAMETERS)}", key=key)
        read[parameter] = read_distribution(values, key, prior.of(parameter))
        check_support(parameter, read[parameter], key=key)
    return replace(prior, parameters=FrozenMapping({**prior.parameters, **read}))


def sensitivity(
    fleet: Fleet, alternatives: Alternatives | None = None, units: Collection[tuple[str, ...]] | None = None
) -> pa.Table:
    """One row per unit, alternative and channel: how far what the channel brings would move.

    `shift` is in posterior standard deviations, `ratio` that of the means, `sd_ratio` that of the standard deviations;
    all NaN where `reliable` is false, for the draws do not reach where the other prior leads. `k` is the shape of the
    weights' tail and `ess` what they leave of the draws.

    Args:
        fleet: The run's units.
        alternatives: By default priors that count half or twice as much, as `POWERS` has them.
        units: Labels of those to tell of; by default all.

    Raises:
        ConfigError: Units are pooled or structures averaged, or an alternative is no prior that a parameter can have.
    """
    prior = fleet.spec.prior
    if fleet.spec.pooling.by != "none" or fleet.spec.model.structures:
        raise ConfigError("asks for units with one model and priors of their own", key="sensitivity")
    others: dict[str, Prior | tuple[str, float]] = dict(POWERS)
    if alternatives is not None:
        others = {name: _given(prior, name, changes) for name, changes in alternatives.items()}
    rows: list[dict[str, Any]] = []
    with jax.enable_x64(True):
        for place, make in enumerate(fleet.makers()):
            if units is None or fleet.units[place].labels in units:
                rows += _of_unit(fleet, place, make(), others)
    return pa.Table.from_pylist(rows)


def _of_unit(
    fleet: Fleet, place: int, series: UnitSeries, others: Mapping[str, Prior | tuple[str, float]]
) -> list[dict[str, Any]]:
    unit, spec = fleet.units[place], fleet.spec
    member = prepare(unit, fleet.panel, spec)
    active = np.flatnonzero(member.arrays["active"])
    response = mean_responses(member, series.shape, fleet.term)
    brought = (series.effect * response)[active]
    measure = np.exp(log_measures(member, {"effect": series.effect.T}, series.shape, fleet.term, response))
    known = _Known(fleet, place, member, series, measure)
    own, densities = known.priors(spec.prior), Densities()
    mean, sd = brought.mean(axis=1), brought.std(axis=1)
    head = {**dict(zip(fleet.keys, unit.labels, strict=True)), "status": fleet.statuses[place]}
    rows = []
    for name, other in others.items():
        weight, shape, effective = _weighed(_log_ratio(own, other, known, densities))
        reliable = tail_allows(shape, len(weight)) and effective >= min(FEWEST, 0.5 * len(weight))
        moved = brought @ weight
        spread = np.sqrt(np.maximum(brought**2 @ weight - moved**2, 0.0))
        told = {"shift": (moved - mean) / sd, "ratio": moved / mean, "sd_ratio": spread / sd}
        for i, c in enumerate(active.tolist()):
            found = {name: float(values[i]) if reliable else np.nan for name, values in told.items()}
            head |= {"alternative": name, "channel": fleet.channels[c]}
            rows.append({**head, **found, "k": shape, "ess": effective, "reliable": bool(reliable)})
    return rows


class _Known(NamedTuple):
    """A unit's draws of all that has a prior."""

    fleet: Fleet
    place: int
    member: PreparedUnit
    series: UnitSeries
    measure: Float[np.ndarray, "channel draw"]
    """What the priors of strengths are on."""

    def priors(self, prior: Prior) -> Priors:
        """Every prior of the unit and the draws that it is of."""
        fleet, series = self.fleet, self.series
        spec, unit, scale = replace(fleet.spec, prior=prior), fleet.units[self.place], fleet.scales[self.place]
        names = dict(zip(fleet.keys, unit.labels, strict=True))
        found: Priors = []
        for i, name in enumerate(spec.model.channel_parameters[:-1]):
            for c, channel in enumerate(fleet.channels):
                if spec.model.has(name, channel):
                    own = prior.distribution(name, unit=names, channel=channel)
                    found.append(("curves", len(found), own, series.shape[i, c], None))
        strength = self.member.strength
        if prior != fleet.spec.prior:
            strength = strength_prior(unit, fleet.panel, spec, scale, self.member.contribution_weeks)
        found += [("media", c, own, self.measure[c], None) for c, own in enumerate(strength.distributions)]
        for name, values in zip(spec.model.unit_parameters, series.observation, strict=True):
            own = prior.distribution(name, unit=names)
            found.append((name, 0, own, values / scale.kpi if spec.model.in_kpi(name) else values, None))
        laws = baseline.column_laws(spec.model, spec.data, prior, names)
        observed = dict(zip(spec.model.unit_parameters, series.observation / scale.kpi, strict=True))
        learned = baseline.by_column(observed, spec.model, spec.data)
        columns = zip(laws, self._columns(), learned, strict=True)
        return found + [("baseline", k, *one) for k, one in enumerate(columns)]

    def _columns(self) -> Float[np.ndarray, "column draw"]:
        """The baseline's coefficients on the model's scale."""
        scale, coefficients = self.fleet.scales[self.place], self.series.coefficients.copy()
        first = len(coefficients) - len(scale.reference)
        coefficients[first:] *= self.fleet.lent[self.place][:, None]
        coefficients[0] -= scale.reference @ coefficients[first:]
        return scaled_coefficients({"coefficients": coefficients.T}, scale).T


Densities = dict[tuple[str, int, Any], Float[np.ndarray, " draw"]]
"""By kind, place and prior, those that were found before."""


def _log_ratio(
    own: Priors, other: Prior | tuple[str, float], known: _Known, densities: Densities
) -> Float[np.ndarray, " draw"]:
    """Log density of another prior over that of the draws' own, up to a constant."""

    def density(
        kind: str, place: int, prior: Any, values: Float[np.ndarray, " draw"], sd: Float[np.ndarray, " draw"] | None
    ) -> Float[np.ndarray, " draw"]:
        if (kind, place, prior) not in densities:
            plain = isinstance(prior, Distribution)
            densities[kind, place, prior] = log_prior_of(prior, values) if plain else prior.log_prob(values, sd)
        return densities[kind, place, prior]

    ratio = np.zeros(len(own[0][3]))
    if isinstance(other, tuple):
        scaled, power = other
        for one in own:
            if one[0] == scaled:
                ratio += (power - 1) * density(*one)
        return ratio
    for one, (_, _, after, _, _) in zip(own, known.priors(other), strict=True):
        kind, place, before, values, sd = one
        if before != after:
            ratio += density(kind, place, after, values, sd) - density(*one)
    return ratio


def _weighed(ratio: Float[np.ndarray, " draw"]) -> tuple[Float[np.ndarray, " draw"], float, float]:
    """Weights of the draws, the shape of their tail, and how many draws they leave."""
    if not np.ptp(ratio) > 0:
        return np.full(len(ratio), 1 / len(ratio)), -np.inf, float(len(ratio))
    weight, shape = pareto_smoothed(ratio)
    return weight, shape, effective_draws(weight)
