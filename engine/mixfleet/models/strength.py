"""Strength: how much a channel brings, its coordinate, and what its prior is on.

The prior of a channel is on a measure of what it brings (`config.measures`): its effect, or something of its mean
contribution over the weeks of the likelihood, such as its ROI. With the effect and the mean response as the model has
them, the measure is

    log measure = a * log effect + b * log(mean response) + c

where (a, b) is (1, 0) for the effect itself, (1, 1) for multiples of the mean contribution and (-1, -1) for a cost per
KPI, and c holds the unit's spend, KPI and scale. Where a measure is about a change of media, such as one more per cent
of them or none of them on some days, the change of the response stands in place of its mean. All of it is data: it may
differ by unit and channel. Given the parameters of the curves, log measure moves with the log of the effect, and with
that of the mean contribution, one to one or minus one to one, so a density of the measure's logarithm is one of either,
and no Jacobian is owed.

References:
    Jin, Wang, Sun, Chan, Koehler (2017), Bayesian methods for media mix modeling with carryover and shape effects.
    Zhang, Wurm, Wakim et al. (2024), Media mix model calibration with Bayesian priors (priors on ROI).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mixfleet.config import Prior, Spec
from mixfleet.config.elicitation import elicited
from mixfleet.config.measures import OF_SPEND, On
from mixfleet.config.priors import FAMILIES as FORMS
from mixfleet.config.priors import PARAMETERS, Distribution, distribution
from mixfleet.data.panel import Panel, Unit
from mixfleet.data.scaling import Scale
from mixfleet.errors import ConfigError
from mixfleet.models.priors.bijectors import log_softplus_normal, log_softplus_normal_slope
from mixfleet.models.priors.families import ABOVE_A_BOUND, FAMILIES, family_of

__all__ = [
    "MEAN_KPI",
    "StrengthPrior",
    "effect_error",
    "has_spend",
    "log_prob",
    "log_strength",
    "log_strength_slope",
    "strength_distributions",
    "strength_families",
    "strength_prior",
]

MARGIN = 0.01
"""Share of a channel's media that a marginal return is of."""

MEAN_KPI = 0.5
"""Mean KPI in shares of its scale, where the scale is prescribed or lent and so no share of the unit's own KPI."""


class StrengthPrior(NamedTuple):
    """One unit's priors of its channels' strengths."""

    measures: tuple[str, ...]
    """What each channel's prior is on."""
    distributions: tuple[Distribution, ...]
    """Of the measures, in the table's money."""
    rows: Float[np.ndarray, "3 channel"]
    """a, b and c of each channel's measure."""
    changed: Float[np.ndarray, "week channel"]
    """Each channel's media with what its measure is about changed, in shares of what they were: one where it is about
    all that the channel brings."""
    weight: Float[np.ndarray, "week channel"]
    """What the change of each week's response counts for; zero where there is none."""
    whole: float
    """Mean KPI on the model's scale, of which shares are."""

    def typical(self, mean_response: Float[np.ndarray, " channel"]) -> Float[np.ndarray, " channel"]:
        """Effects in the middle of the priors, were this the mean response."""
        a, b, c = self.rows
        centre = np.array([family_of(prior).centre(prior.values) for prior in self.distributions])
        return np.exp((centre - c - b * np.log(mean_response)) / a)


def strength_prior(
    unit: Unit, panel: Panel, spec: Spec, scale: Scale, weeks: Bool[np.ndarray, " week"]
) -> StrengthPrior:
    """The priors of a unit's strengths.

    Args:
        unit: In the table's units.
        panel: Names of channels and keys.
        spec: Its priors and what they are on.
        scale: Of the unit.
        weeks: Over which contributions are told.

    Raises:
        ConfigError: A prior that falls back to another measure cannot be told in the channel's family.
    """
    on = spec.prior.on
    spend = np.maximum(np.nansum(unit.spend[weeks], axis=0), 0.0)
    about = weeks & _days_about(unit.dates, on)
    paid = np.maximum(np.nansum(unit.spend[about], axis=0), 0.0)
    worth = float(np.mean(unit.value_per_kpi[about])) if about.any() else np.nan
    # Held-out weeks are not known yet: a channel that first runs there is absent.
    known = np.flatnonzero(weeks)[-1] + 1 if weeks.any() else len(weeks)
    ran, has_column = np.any(unit.media[:known] != 0, axis=0), has_spend(panel)
    money = (paid > 0) & (np.isfinite(worth) and worth > 0)
    if scale.log_link:
        # What media add to the logarithm is a share as it stands.
        total = 1.0 / scale.kpi
    elif unit.kpi_scale is not None:
        total = MEAN_KPI
    else:
        total = float(np.mean(np.abs(scale.scaled_kpi(unit)[weeks] + scale.kpi_shift / scale.kpi)))
    shares = _shares(spend, ran)
    measures, rows = [], []
    for c, channel in enumerate(panel.channels):
        measure = on.measure(channel, spend=bool(money[c] or (has_column[c] and not ran[c])))
        bought = paid[c] / (about.sum() * scale.kpi) if money[c] else 1.0
        one = {"contribution": total, "media_share": total * shares[c], "cost_per_kpi": bought}
        one |= dict.fromkeys(("roi", "mroi"), bought / worth)
        sign = -1.0 if measure == "cost_per_kpi" else 1.0
        # Of a channel that the unit lacks it is the effect that has the prior, whatever that is called.
        offset = -sign * np.log(one[measure]) if ran[c] and measure != "effect" else 0.0
        rows.append((sign, float(measure != "effect") * sign, offset))
        measures.append(measure)
    distributions = strength_distributions(measures, unit, panel, spec.prior)
    changes = [_change(unit, measure if ran[c] else "effect", on, weeks, about) for c, measure in enumerate(measures)]
    changed, weight = (np.stack(part, axis=1) for part in zip(*changes, strict=True))
    return StrengthPrior(tuple(measures), distributions, np.array(rows).T, changed, weight, total)


def strength_distributions(measures: Sequence[str], unit: Unit, panel: Panel, prior: Prior) -> tuple[Distribution, ...]:
    """The prior of each channel's measure in a unit, in the family that the channel's strength has in all units.

    Raises:
        ConfigError: As `strength_prior`.
    """
    names = dict(zip(panel.keys, unit.labels, strict=True))
    found = []
    for channel, measure, family in zip(panel.channels, measures, strength_families(prior, panel), strict=True):
        own = prior.distribution(measure, unit=names, channel=channel)
        found.append(own if family_of(own).name == family else _in_family(own, family, measure))
    return tuple(found)


def _days_about(dates: np.ndarray, on: On) -> Bool[np.ndarray, " week"]:
    """Weeks whose media returns and costs are about."""
    first, last = (None if day is None else np.datetime64(day) for day in (on.start, on.end))
    return (True if first is None else dates >= first) & (np.ones(len(dates), bool) if last is None else dates <= last)


def _change(
    unit: Unit, measure: str, on: On, weeks: Bool[np.ndarray, " week"], about: Bool[np.ndarray, " week"]
) -> tuple[Float[np.ndarray, " week"], Float[np.ndarray, " week"]]:
    """Media in shares of what they were, and what each week's response to that change counts for.

    Such that the weighted change of the response is the mean response that a measure of the whole has.
    """
    marginal = measure == "mroi"
    if not marginal and not (on.dated and measure in OF_SPEND):
        return np.ones(len(weeks)), np.zeros(len(weeks))
    share = MARGIN if marginal else -1.0
    worth = np.ones(len(weeks)) if measure == "cost_per_kpi" else np.nan_to_num(unit.value_per_kpi)
    return 1 + share * about, weeks * worth / (share * about.sum() * worth[about].mean())


def strength_families(prior: Prior, panel: Panel) -> tuple[str, ...]:
    """Family of each channel's strength, one in all units: that of its measure where it has spend, if it ever has.

    Raises:
        ConfigError: A family whose values have an upper bound, or a prior that must be given is not.
    """
    spend = has_spend(panel)
    measures = [prior.on.measure(channel, spend=paid) for channel, paid in zip(panel.channels, spend, strict=True)]
    for name in dict.fromkeys(measures):
        family = family_of(prior.of(name))
        if family.bounded or family.name in ABOVE_A_BOUND:
            raise ConfigError(
                f"must be positive without an upper bound, is {family.name}", key=f"prior.parameters.{name}"
            )
        if name == "cost_per_kpi" and prior.of(name) == PARAMETERS[name].default:
            raise ConfigError("is in the table's currency: give a prior", key=f"prior.parameters.{name}")
    return tuple(family_of(prior.of(name)).name for name in measures)


def has_spend(panel: Panel) -> Bool[np.ndarray, " channel"]:
    """Which channels have a column of spend."""
    # Asked of the settings: which unit stands first is to change nothing of the others.
    paid = {channel.name: channel.spend is not None for channel in panel.data.channels}
    return np.array([paid.get(name, False) for name in panel.channels])


def _shares(spend: Float[np.ndarray, " channel"], ran: Bool[np.ndarray, " channel"]) -> Float[np.ndarray, " channel"]:
    """Each channel's share of media: one in so many of those without spend, by spend of the others; one if absent."""
    free, paid = ran & (spend <= 0), spend > 0
    each = 1.0 / max(1, int(free.sum()) + int(paid.sum()))
    left = 1.0 - each * free.sum()
    return np.where(paid, left * spend / max(spend.sum(), np.finfo(float).tiny), np.where(free, each, 1.0))


def _in_family(prior: Distribution, family: str, measure: str) -> Distribution:
    """About the same prior in another family, that of the channel in other units."""
    frozen = FAMILIES[prior.family].frozen(**prior.hyperparameters)
    levels = (0.5, 0.95) if len(FORMS[family].hyperparameters) == 2 else (0.5,)
    told = {"quantiles": {level: float(frozen.ppf(level)) for level in levels}}
    return distribution(family, **elicited(family, told, f"prior.parameters.{measure}"))


def log_strength(u: Float[Array, "channel lane"], families: tuple[str, ...]) -> Float[Array, "channel lane"]:
    """The strength's logarithm, in its unit: bent where its prior has mass at zero, which a lognormal has not."""
    return _by_family(lambda family, u: u if family == "lognormal" else log_softplus_normal(u), families, u)


def log_strength_slope(u: Float[Array, "channel lane"], families: tuple[str, ...]) -> Float[Array, "channel lane"]:
    """Log of the derivative of `log_strength`."""

    def slope(family: str, u: Array) -> Array:
        return jnp.zeros_like(u) if family == "lognormal" else log_softplus_normal_slope(u)

    return _by_family(slope, families, u)


def log_prob(
    log_measure: Float[Array, "channel lane"], hyper: Float[Array, "row channel lane"], families: tuple[str, ...]
) -> Float[Array, "channel lane"]:
    """Log density of each measure's logarithm."""
    return _by_family(
        lambda family, x, h: FAMILIES[family].log_prob(x, jnp.moveaxis(h, 1, 0)),
        families,
        log_measure,
        jnp.moveaxis(hyper, 0, 1),
    )


def _by_family(function: Callable[..., Array], families: tuple[str, ...], *values: Array) -> Array:
    """A function of a family and of rows by channel, each channel's row with its family."""
    if len(set(families)) == 1:
        return function(families[0], *values)
    rows = [function(family, *(part[c : c + 1] for part in values)) for c, family in enumerate(families)]
    return jnp.concatenate(rows)


def effect_error(
    kpi: Float[np.ndarray, " week"],
    media: Float[np.ndarray, "week channel"],
    basis: Float[np.ndarray, "week column"],
    fitted: Bool[np.ndarray, " week"],
    effect_scale: Float[np.ndarray, " channel"],
) -> Float[np.ndarray, " channel"]:
    """A rough standard error of each channel's effect, from a ridge regression on its media.

    With the strength measured in it the coordinate is about linear for a channel that the data tell from zero, and
    bends where they do not.
    """
    weeks = kpi[fitted]
    columns = media[fitted] - basis[fitted] @ (basis[fitted].T @ media[fitted])
    residual = weeks - basis[fitted] @ (basis[fitted].T @ weeks)
    # The ridge is the prior: an effect of about `effect_scale`, on media whose response averages its mean.
    noise = (np.std(residual) ** 2 if fitted.any() else 1.0) + 1e-12
    precision = columns.T @ columns / noise + np.diag(effect_scale**-2.0)
    return np.sqrt(np.diag(np.linalg.inv(precision)))
