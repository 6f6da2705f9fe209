"""Whether posteriors are what they claim, by fitting fleets whose truth was drawn from the prior.

Among draws from a posterior the truth that the prior drew has every rank equally often, for every quantity that can be
computed from parameters and data. The fleet comes from the simulator, which shares no code with the density, and
is fitted as any fleet is, stopping rule, ladder and all.

References:
    Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian inference algorithms with simulation-based
    calibration. arXiv:1804.06788.
    Saeilynoja, Buerkner, Vehtari (2022), Graphical test for discrete uniformity and its applications in
    goodness-of-fit evaluation and multiple sample comparison. doi:10.1007/s11222-022-10090-6.
    Modrak et al. (2023), Simulation-based calibration checking for Bayesian computation: the choice of test
    quantities shapes sensitivity. arXiv:2211.02383.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from scipy.special import bdtr

from mixfleet.config import Model, Output, Pooling, Prior, Simulation, Spec
from mixfleet.data import scaling
from mixfleet.data.experiments.experiment import Experiment
from mixfleet.data.frames import Shown
from mixfleet.data.panel import Panel, Unit, read_panel, unit_id
from mixfleet.errors import ConfigError
from mixfleet.fitting.driver import fit_units
from mixfleet.fitting.progress import OnEvent
from mixfleet.hierarchy.sampler import FinishedGroup
from mixfleet.models import baseline
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.simulation import fleet as simulate
from mixfleet.simulation.truth import PooledTruth, saturated_adstock

__all__ = ["Calibration", "calibrate", "p_value"]

LEVELS = 96
"""Draws that a truth is ranked among, evenly spaced over all chains."""

SIGNIFICANCE = 0.01
"""Chance that a calibrated fleet is called uncalibrated, over all its quantities together."""

SIMULATIONS = 20_000
"""Sets of uniform ranks that a set of ranks is compared with."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Calibration(Shown):
    """What a calibration found."""

    table: pa.Table
    """One row per quantity: quantity, replicates, p_value, shift (mean rank over its expectation, in standard
    deviations of a uniform), spread (standard deviation of the ranks over that of a uniform: below 1 where intervals
    are too wide)."""
    statuses: Mapping[str, int]
    """Replicates by status; those without draws are not among the ranks."""

    @property
    def threshold(self) -> float:
        """Least p-value of a single quantity that is believed to be chance."""
        return SIGNIFICANCE / max(1, self.table.num_rows)

    @property
    def passed(self) -> bool:
        """Whether every quantity's ranks may be uniform, and nearly every replicate has draws."""
        missing = sum(count for status, count in self.statuses.items() if status in ("failed", "rejected"))
        few = missing > 0.01 * sum(self.statuses.values())
        return not few and all(value > self.threshold for value in self.table["p_value"].to_pylist())

    def _sentence(self) -> str:
        verdict = "calibrated" if self.passed else "NOT calibrated"
        return f"calibration by {sum(self.statuses.values())} replicates: {verdict}"

    def _shown(self) -> pa.Table:
        return self.table.sort_by("p_value")


def calibrate(spec: Spec, *, on_event: OnEvent | None = None) -> Calibration:
    """Fits a fleet whose truth is drawn from `spec.prior`, and ranks the truth in each unit's posterior.

    Args:
        spec: `data.simulated` says how many replicates (brands times markets), of what shape, and the seed.
        on_event: Called with the fit's progress.

    Raises:
        ConfigError: The simulated truth is not drawn from the prior, or weeks are held out.
    """
    if spec.data.simulated.truth != "prior":
        raise ConfigError("must be prior: only then are ranks uniform", key="data.simulated.truth")
    if spec.data.holdout:
        raise ConfigError("must be 0: the truth is scaled by all weeks", key="data.holdout")
    fleet = simulate.from_config(spec.data.simulated, spec.prior, spec.model, spec.pooling)
    settings = replace(spec, data=fleet.data, output=Output(draws="thin"))
    model = spec.model
    panel = read_panel(
        fleet.table,
        fleet.data,
        seasonality=model.yearly_order,
        window=model.window,
        link=model.link,
        trend=model.has_trend,
        pooling=spec.pooling,
        experiments=fleet.experiments,
    )
    settings = replace(settings, model=baseline.fitting(model, panel))
    ranks: dict[str, list[int]] = {}
    statuses: dict[str, int] = {}
    units = {unit.labels: unit for unit in panel.units}
    truths = _truths(fleet, spec.model)
    pooled = spec.pooling.by != "none"
    # Units of a group are no independent replicates: the first of each stands for it.
    first: set[tuple[str, ...]] = set()

    def rank_group(finished: FinishedGroup) -> None:
        labels = finished.group.members[0].unit.labels
        first.add(labels)
        for name, rank in _rank_group(finished, simulate.pooled_truth(labels, *_asked(spec)), settings).items():
            ranks.setdefault(name, []).append(rank)

    for result in fit_units(panel, settings, on_event=on_event, on_group=rank_group):
        statuses[result.status] = statuses.get(result.status, 0) + 1
        if result.draws and (result.labels in first or not pooled):
            own = _rank_unit(result, units[result.labels], truths[result.labels], panel, settings)
            for name, rank in own.items():
                ranks.setdefault(name, []).append(rank)
    return Calibration(table=_judged({name: np.array(ranks[name]) for name in sorted(ranks)}), statuses=statuses)


@dataclass(frozen=True, kw_only=True)
class _Values:
    """Parameters of one unit on the model's scale, of its truth or of its draws."""

    channel: Mapping[str, Float[np.ndarray, "draw channel"]]
    linear: Float[np.ndarray, "draw column"]
    noise: Float[np.ndarray, " draw"]
    autocorrelation: Float[np.ndarray, " draw"]
    """Of one week's noise with the next one's; zero where it is independent."""
    scales: Mapping[str, Float[np.ndarray, " draw"]]
    """Standard deviations of the baseline's coefficients that are learned."""


def _rank_unit(result: UnitResult, unit: Unit, truth: _Values, panel: Panel, spec: Spec) -> dict[str, int]:
    """The truth's rank among a unit's draws, by quantity.

    Quantities are every parameter, each channel's contribution (whose rank is also that of its ROI), the log
    likelihood, the KPI of the last week had it come again, and the product of the noise and the media's contribution;
    of noise that is autocorrelated, that of the week after the last too.
    """
    weeks = scaling.likelihood_weeks(unit, window=spec.model.window, holdout=0)
    factors = scaling.measure(unit, weeks, treatments=spec.data.treatments, model=spec.model)
    media, columns = factors.scaled_media(unit), simulate.design(unit.dates, unit.controls, spec.model)
    present = np.flatnonzero(unit.media.any(axis=0))
    kpi = factors.scaled_kpi(unit)
    random = np.random.default_rng([spec.inference.seed, int(unit_id(unit.labels), 16)])

    values: dict[str, np.ndarray] = {}
    both = [truth, _drawn(result, factors, spec)]
    for name in spec.model.channel_parameters:
        for c in present if spec.prior.of(name).family != "fixed" else ():
            if not spec.model.has(name, panel.channels[c]):
                continue
            values[f"{name}[{panel.channels[c]}]"] = np.concatenate([one.channel[name][:, c] for one in both])
    for k in range(columns.shape[1]):
        values[f"coefficient[{k}]"] = np.concatenate([one.linear[:, k] for one in both])
    noise = np.concatenate([one.noise for one in both])
    contributions = np.concatenate([_contributions(one, media, panel.channels, spec) for one in both])
    for c in present:
        values[f"contribution[{panel.channels[c]}]"] = contributions[:, :, c].sum(axis=1)
    total = contributions.sum(axis=2)
    expected = total + np.concatenate([one.linear @ columns.T for one in both])
    residual = (kpi - expected) / noise[:, None]
    lasting = np.concatenate([one.autocorrelation for one in both])
    values["noise"] = noise
    values["log_likelihood"] = _log_density(residual, lasting) - len(kpi) * np.log(noise)
    values["last_week_again"] = expected[:, -1] + noise * random.standard_normal(len(noise))
    values |= {name: np.concatenate([one.scales[name] for one in both]) for name in spec.model.scale_parameters}
    if spec.model.observation == "ar1":
        values["autocorrelation"] = lasting
        values["next_week"] = noise * (
            lasting * residual[:, -1] + np.sqrt(1 - lasting**2) * random.standard_normal(len(noise))
        )
    for number, test in enumerate(unit.experiments):
        path = np.stack([test.test, test.control]) / factors.media[list(test.places)]
        values[f"lift[{number}]"] = np.concatenate([_lifts(one, path, test, panel.channels, spec) for one in both])
    values["noise_times_media"] = noise * total.sum(axis=1)
    return {name: _rank(drawn, random) for name, drawn in values.items()}


def _log_density(
    residual: Float[np.ndarray, "draw week"], correlation: Float[np.ndarray, " draw"]
) -> Float[np.ndarray, " draw"]:
    """Of residuals in standard deviations whose neighbours are correlated, up to a constant."""
    left = 1 - correlation**2
    new = (residual[:, 1:] - correlation[:, None] * residual[:, :-1]) / np.sqrt(left)[:, None]
    squares = residual[:, 0] ** 2 + np.sum(new**2, axis=1)
    return -0.5 * squares - 0.5 * new.shape[1] * np.log(left)


def _asked(spec: Spec) -> tuple[Simulation, Prior, Model, Pooling]:
    return spec.data.simulated, spec.prior, spec.model, spec.pooling


def _rank_group(finished: FinishedGroup, truth: PooledTruth, spec: Spec) -> dict[str, int]:
    """The true hyperparameters' ranks: each row's centre and spreads, the product of all spreads, and each type's."""
    random = np.random.default_rng([spec.inference.seed, int(unit_id(("", finished.group.label)), 16)])
    parts = 2 + len(finished.group.keys)
    flat = finished.hyper.draws.reshape(*finished.hyper.draws.shape[:2], -1)
    drawn = flat[:, :, (np.arange(LEVELS) * flat.shape[2]) // LEVELS].astype(float)
    centre, spread, around = truth.rows
    true = np.concatenate([centre[None], spread])
    both = np.concatenate([true[..., None], drawn[:parts]], axis=2)
    sources = ("centre", "spread[unit]", *(f"spread[{key}]" for key in finished.group.keys))
    values = {f"{source}[{row}]": both[i, row] for i, source in enumerate(sources) for row in range(both.shape[1])}
    values["spreads"] = np.log(both[1:]).sum(axis=(0, 1))
    # A type is the same in all of its rows, but for their priors' scales.
    for t, rows in enumerate(np.asarray(finished.group.hierarchy.types)):
        row = int(np.argmax(rows))
        mean, sd = np.concatenate([around[:, row, None], drawn[-2:, row]], axis=1)
        values |= {f"mean[type {t}]": mean, f"spread[type {t}]": sd}
    return {name: _rank(of_name, random) for name, of_name in values.items()}


def p_value(ranks: Int[np.ndarray, " replicate"]) -> float:
    """Chance that uniform ranks leave the middle of their distribution function by as much, wherever they do.

    The statistic is the least probability, over all levels, of the count of ranks below the level (Saeilynoja et al.).
    """
    counts = np.bincount(ranks, minlength=LEVELS + 1)
    return float(np.mean(_null(len(ranks)) <= _least_probability(counts[None], len(ranks))[0]))


@lru_cache(maxsize=64)
def _null(replicates: int) -> Float[np.ndarray, " simulation"]:
    shares = np.full(LEVELS + 1, 1 / (LEVELS + 1))
    counts = np.random.default_rng(replicates).multinomial(replicates, shares, size=SIMULATIONS)
    return _least_probability(counts, replicates)


def _least_probability(counts: Int[np.ndarray, "set level"], replicates: int) -> Float[np.ndarray, " set"]:
    below = np.cumsum(counts, axis=1)[:, :-1]
    level = np.arange(1, LEVELS + 1) / (LEVELS + 1)
    at_most = bdtr(below, replicates, level)
    at_least = 1 - np.where(below > 0, bdtr(np.maximum(below - 1, 0), replicates, level), 0.0)
    return np.minimum(1.0, 2 * np.min(np.minimum(at_most, at_least), axis=1))


def _judged(ranks: Mapping[str, Int[np.ndarray, " replicate"]]) -> pa.Table:
    uniform_sd = np.sqrt(LEVELS * (LEVELS + 2) / 12)
    names = list(ranks)
    return pa.table(
        {
            "quantity": names,
            "replicates": [len(ranks[name]) for name in names],
            "p_value": [p_value(ranks[name]) for name in names],
            "shift": [float((ranks[name].mean() - LEVELS / 2) / uniform_sd) for name in names],
            "spread": [float(ranks[name].std() / uniform_sd) for name in names],
        }
    )


def _rank(values: Float[np.ndarray, " draw"], random: np.random.Generator) -> int:
    """Rank of the first among the others, ties broken by chance."""
    below, ties = np.sum(values[1:] < values[0]), np.sum(values[1:] == values[0])
    return int(below + random.integers(ties + 1))


def _contributions(
    values: _Values, media: Float[np.ndarray, "week channel"], channels: tuple[str, ...], spec: Spec
) -> Float[np.ndarray, "draw week channel"]:
    return np.stack(
        [
            saturated_adstock(media, {name: v[i] for name, v in values.channel.items()}, spec.model, channels)
            * values.channel["effect"][i]
            for i in range(len(values.noise))
        ]
    )


def _lifts(
    values: _Values,
    path: Float[np.ndarray, "2 week channel"],
    test: Experiment,
    channels: tuple[str, ...],
    spec: Spec,
) -> Float[np.ndarray, " draw"]:
    """A test's lift by draw, of scaled media with it and without."""
    places, media = list(test.places), np.zeros((*path.shape[:2], next(iter(values.channel.values())).shape[1]))
    media[:, :, places] = path
    changed = _contributions(values, media[0], channels, spec) - _contributions(values, media[1], channels, spec)
    return changed[:, :, places].sum(axis=2) @ test.worth


def _drawn(result: UnitResult, factors: scaling.Scale, spec: Spec) -> _Values:
    """`LEVELS` of a unit's draws, back on the model's scale."""

    def pick(name: str) -> np.ndarray:
        flat = np.asarray(result.draws[name], float).reshape(-1, *result.draws[name].shape[2:])
        return flat[(np.arange(LEVELS) * len(flat)) // LEVELS]

    curves = spec.model.channel_parameters[:-1]
    channel = {name: pick(name) / factors.media ** scaling.MEDIA_POWERS.get(name, 0) for name in curves}
    coefficients = pick("coefficients")
    coefficients[:, 0] -= factors.kpi_shift
    linear = np.linalg.solve(factors.column_mixing(coefficients.shape[1]), coefficients.T).T
    noise = pick("noise") / factors.kpi
    return _Values(
        channel={**channel, "effect": pick("effect") / factors.kpi},
        linear=linear,
        noise=noise,
        autocorrelation=pick("autocorrelation") if spec.model.observation == "ar1" else np.zeros(len(noise)),
        scales={name: pick(name) / factors.kpi for name in spec.model.scale_parameters},
    )


def _truths(fleet: simulate.Simulated, model: Model) -> dict[tuple[str, ...], _Values]:
    """Each unit's truth, on the model's scale, as a single draw; one for the parameters of a channel that is absent."""
    names = [channel.name for channel in fleet.data.channels]
    parameters = [
        name for name in fleet.truth.column_names if name not in (*simulate.KEYS, "channel", *_NOT_PARAMETERS)
    ]
    channel: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
    for row in fleet.truth.to_pylist():
        own = channel.setdefault(_labels(row), {name: np.ones((1, len(names))) for name in parameters})
        for name in parameters:
            if row[name] is not None:
                own[name][0, names.index(row["channel"])] = row[name]
    linear: dict[tuple[str, ...], dict[str, float]] = {}
    for row in fleet.truth_linear.to_pylist():
        linear.setdefault(_labels(row), {})[row["column"]] = row["value"]
    not_columns = (*_NOT_COLUMNS, *model.scale_parameters)
    return {
        labels: _Values(
            channel=values,
            linear=np.array([[v for name, v in linear[labels].items() if name not in not_columns]]),
            noise=np.array([linear[labels]["noise"]]),
            autocorrelation=np.array([linear[labels].get("autocorrelation", 0.0)]),
            scales={name: np.array([linear[labels][name]]) for name in model.scale_parameters},
        )
        for labels, values in channel.items()
    }


_NOT_COLUMNS = ("noise", "autocorrelation", "kpi_scale")
_NOT_PARAMETERS = ("contribution", "spend", "roi")


def _labels(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[key] for key in simulate.KEYS)
