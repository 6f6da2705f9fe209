"""Fleets drawn from known parameters, with the truth beside the table."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from mixfleet import config
from mixfleet.config.priors import Distribution
from mixfleet.data.panel import unit_id
from mixfleet.models.baseline import with_dates
from mixfleet.simulation.baseline import column_kinds, column_names, term_columns
from mixfleet.simulation.experiments import Tested, drawn_tests
from mixfleet.simulation.spend import channel_names, weekly_controls, weekly_spend
from mixfleet.simulation.truth import (
    PooledTruth,
    Truth,
    believed,
    draw_pooled,
    draw_truth,
    fixed_truth,
    prior_of,
    saturated_adstock,
    with_effects,
)

KEYS: tuple[str, ...] = ("brand", "market")
LAST_WEEK = np.datetime64("2022-12-26")
"""A Monday; fleets end here however long they are, so that no date lies in the future."""
SALES = 100_000.0
"""Usual weekly sales of a brand in a market of middling size."""
_ABSENT_SHARE = 0.15
"""Probability that a unit of a ragged fleet lacks a channel."""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A fleet and what is true of it."""

    table: pa.Table
    """One row per unit and week: keys, date, kpi, spend, controls; kpi_scale with `truth: prior`."""
    truth: pa.Table
    """One row per unit and channel that ran: keys, channel, the parameters on the model's scale, contribution
    (KPI, all weeks), spend (all weeks), roi."""
    truth_linear: pa.Table
    """One row per unit and linear column: keys, column, value on the model's scale; besides those noise,
    autocorrelation if the model has it, and kpi_scale in KPI."""
    data: config.Data
    """Reads the table."""
    experiments: pa.Table | None = None
    """Lift tests with errors around the truth's lifts; None without any."""


@dataclass(frozen=True, kw_only=True)
class _Unit:
    labels: tuple[str, ...]
    dates: np.ndarray
    kpi: Float[np.ndarray, " week"]
    spend: Float[np.ndarray, "week channel"]
    present: np.ndarray
    controls: Float[np.ndarray, "week control"]
    truth: Truth
    kpi_scale: float
    contribution: Float[np.ndarray, " channel"]


def fleet(
    *,
    brands: int = 20,
    markets: int = 15,
    weeks: int = 156,
    channels: int = 8,
    controls: int = 2,
    seed: int = 0,
    ragged: bool = False,
    experiments: int = 0,
    joint_experiments: int = 0,
    truth: Literal["prior", "fixed"] = "prior",
    prior: config.Prior | None = None,
    model: config.Model | None = None,
    pooling: config.Pooling | None = None,
) -> Simulated:
    """A fleet of `brands` x `markets` units; see `from_config`.

    Args:
        brands: Number of brands.
        markets: Number of markets.
        weeks: Weeks of the longest unit.
        channels: Number of paid channels.
        controls: Number of controls.
        seed: Another seed is another fleet.
        ragged: Units start and end at different weeks, and some lack a channel.
        experiments: Lift tests of every unit.
        joint_experiments: Lift tests of all markets of each brand together.
        truth: `prior` draws every parameter from its prior, `fixed` takes realistic ones.
        prior: Priors to draw from; the default prior if not given.
        model: Structure of the units' models; the default if not given.
        pooling: Which units share hyperparameters, with `truth` from the prior; none if not given.
    """
    simulation = config.Simulation(
        brands=brands,
        markets=markets,
        weeks=weeks,
        channels=channels,
        controls=controls,
        seed=seed,
        ragged=ragged,
        experiments=experiments,
        joint_experiments=joint_experiments,
        truth=truth,
    )
    return from_config(simulation, prior or config.Prior(), model or config.Model(), pooling or config.Pooling())


def from_config(
    simulation: config.Simulation,
    prior: config.Prior,
    model: config.Model,
    pooling: config.Pooling,
) -> Simulated:
    """The fleet that the settings describe, with `truth: prior` its pooled parameters drawn group by group.

    Each unit has its own random stream, made from the seed and its labels: it is the same in a fleet of ten
    and of three thousand. With `truth: prior` the table carries the KPI scale, so that the prior holds
    exactly for the scaled KPI; such a KPI may be negative in part. With `truth: fixed` media bring 27 % of
    sales and the scale is the largest KPI, as for any table.

    Raises:
        ConfigError: The model has several structures.
    """
    model.refuse_structures()
    names = channel_names(simulation.channels)
    controls = control_names(simulation)
    pairs = [
        (f"brand_{b + 1:03d}", f"market_{m + 1:03d}")
        for b in range(simulation.brands)
        for m in range(simulation.markets)
    ]
    contexts = {labels: _context(labels, simulation) for labels in pairs}
    frames = _frames(contexts, pooling)
    first = LAST_WEEK - np.timedelta64(7, "D") * (simulation.weeks - 1)
    model = with_dates(model, [dict(zip(KEYS, labels, strict=True)) for labels in pairs], first, LAST_WEEK)
    units = [
        _simulate_unit(labels, contexts[labels], frames, simulation, prior, model, pooling, names) for labels in pairs
    ]
    shortest = min(len(unit.dates) for unit in units)
    data = config.Data(
        keys=KEYS,
        channels=tuple(config.Channel(name=name, spend=f"spend_{name}") for name in names),
        controls=controls,
        kpi_scale="kpi_scale" if simulation.truth == "prior" else None,
        min_weeks=min(config.Data().min_weeks, shortest),
    )
    return Simulated(
        table=_table(units, data),
        truth=_truth_table(units, names, model),
        truth_linear=_linear_table(units, (*column_names(model), *controls), lasting=model.observation == "ar1"),
        data=data,
        experiments=_experiments_table(units, simulation, model, names),
    )


def _experiments_table(
    units: list[_Unit], simulation: config.Simulation, model: config.Model, names: tuple[str, ...]
) -> pa.Table | None:
    rows: list[dict[str, Any]] = []
    brands: dict[str, list[Tested]] = {}
    for unit in units:
        largest = unit.spend.max(axis=0)
        media = unit.spend / np.where(largest > 0, largest, 1.0)
        tested = Tested(unit.dates, media, names, unit.truth, unit.kpi_scale)
        brands.setdefault(unit.labels[0], []).append(tested)
        stream = _streams(simulation.seed, ("experiments", *unit.labels), 1)[0]
        own = drawn_tests(stream, [tested], count=simulation.experiments, model=model)
        rows += [{**dict(zip(KEYS, unit.labels, strict=True)), **test} for test in own]
    for brand, members in brands.items() if simulation.joint_experiments else ():
        stream = _streams(simulation.seed, ("experiments", brand), 1)[0]
        own = drawn_tests(stream, members, count=simulation.joint_experiments, model=model)
        rows += [{**dict(zip(KEYS, (brand, "*"), strict=True)), **test} for test in own]
    return pa.Table.from_pylist(rows) if rows else None


@dataclass(frozen=True, kw_only=True)
class _Context:
    """What a unit was given before anything was sold."""

    weeks: Int[np.ndarray, " week"]
    """Of those of the fleet."""
    present: np.ndarray
    """Channels that it uses."""
    controls: Float[np.ndarray, "week control"]


def _context(labels: tuple[str, str], simulation: config.Simulation) -> _Context:
    shape, _, _, context, _ = _streams(simulation.seed, labels, 5)
    weeks, present = _extent(shape, simulation)
    controls = weekly_controls(context, weeks=simulation.weeks, controls=simulation.controls)[weeks]
    return _Context(weeks=weeks, present=present, controls=controls)


class _OfColumns(TypedDict):
    """What is known of the coefficients of the linear columns, by column."""

    kinds: tuple[str, ...]
    signs: tuple[str | None, ...]


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """What the linear columns that a group shares are measured in."""

    first: int
    last: int
    """Weeks of the fleet from which and to which the trend runs."""
    control_sd: Float[np.ndarray, " control"]
    """Root mean square of its units' standard deviations."""


def _frames(contexts: Mapping[tuple[str, str], _Context], pooling: config.Pooling) -> dict[tuple[str, ...], _Frame]:
    """The frame of every group, by the group's name; none without groups."""
    groups: dict[tuple[str, ...], list[_Context]] = {}
    if pooling.by != "none":
        for labels, context in contexts.items():
            groups.setdefault(_pooled_by(labels, pooling)[0], []).append(context)
    return {
        name: _Frame(
            first=min(one.weeks[0] for one in company),
            last=max(one.weeks[-1] for one in company),
            control_sd=np.sqrt(np.mean([one.controls.var(axis=0) for one in company], axis=0)),
        )
        for name, company in groups.items()
    }


def control_names(simulation: config.Simulation) -> tuple[str, ...]:
    """Names of the simulated controls."""
    return tuple(f"control_{i + 1}" for i in range(simulation.controls))


def _of_columns(simulation: config.Simulation, model: config.Model) -> _OfColumns:
    names = (*column_names(model), *control_names(simulation))
    kinds = (*column_kinds(model), *("control",) * simulation.controls)
    return {"kinds": kinds, "signs": tuple(model.signs.get(name) for name in names)}


def _simulate_unit(
    labels: tuple[str, str],
    context: _Context,
    frames: Mapping[tuple[str, ...], _Frame],
    simulation: config.Simulation,
    prior: config.Prior,
    model: config.Model,
    pooling: config.Pooling,
    names: tuple[str, ...],
) -> _Unit:
    # One stream per purpose, so that another prior leaves the media as they were.
    _, media, parameters, _, noise = _streams(simulation.seed, labels, 5)
    sales = SALES * _size(simulation.seed, labels[:1]) * _size(simulation.seed, labels[1:])
    weeks, present, controls = context.weeks, context.present, context.controls
    spend = weekly_spend(media, weeks=simulation.weeks, channels=len(names), sales=sales)[weeks] * present
    dates = LAST_WEEK - np.timedelta64(7, "D") * (simulation.weeks - 1 - weeks)
    columns = design(dates, controls, model)
    largest = spend.max(axis=0)
    scaled = spend / np.where(largest > 0, largest, 1.0)
    if simulation.truth == "fixed":
        truth = fixed_truth(scaled, model=model, channels=names, **_of_columns(simulation, model))
    else:
        of_unit = {"media": scaled, "spend": spend.sum(axis=0), "kpi_scale": sales}
        settings = (simulation, prior, model, pooling)
        while True:
            truth = _drawn_truth(parameters, labels, context, frames, settings, names)
            on = [prior_of("effect", name, prior) for name in names]
            truth = with_effects(truth, on, model=model, channels=names, **of_unit)
            if believed(truth, scaled, prior.total_share, parameters, model=model, channels=names):
                break
    parts = saturated_adstock(scaled, truth.channel, model, names) * truth.channel["effect"]
    kpi, parts = _kpi(parts, columns @ truth.linear, truth.noise, _chance(noise, weeks, truth.autocorrelation), model)
    scale = sales
    if simulation.truth == "fixed":
        # The model will take the largest KPI for its scale; the truth is told on that scale.
        top = float(np.abs(kpi).max())
        truth, parts, kpi, scale = _rescaled(truth, top, model), parts / top, kpi / top, sales * top
    return _Unit(
        labels=labels,
        dates=dates,
        kpi=kpi * scale,
        spend=spend,
        present=present,
        controls=controls,
        truth=truth,
        kpi_scale=scale,
        contribution=parts.sum(axis=0) * scale,
    )


def _chance(
    rng: np.random.Generator, weeks: Int[np.ndarray, " week"], correlation: float
) -> Float[np.ndarray, " week"]:
    """Standard normal numbers with a correlation that is a power of the weeks between them."""
    white = rng.standard_normal(len(weeks))
    found = white.copy()
    for i, apart in enumerate(np.diff(weeks).tolist(), start=1):
        share = correlation**apart
        found[i] = share * found[i - 1] + np.sqrt(1 - share**2) * white[i]
    return found


def _drawn_truth(
    stream: np.random.Generator,
    labels: tuple[str, str],
    context: _Context,
    frames: Mapping[tuple[str, ...], _Frame],
    settings: tuple[config.Simulation, config.Prior, config.Model, config.Pooling],
    names: tuple[str, ...],
) -> Truth:
    """A unit's parameters from their priors, with what the priors of strengths are on in place of effects."""
    simulation, prior, model, pooling = settings
    unit, of_columns = dict(zip(KEYS, labels, strict=True)), _of_columns(simulation, model)
    truth = draw_truth(stream, prior=prior, model=model, unit=unit, channels=names, **of_columns)
    if pooling.by == "none":
        return truth
    group, effects = _pooled_by(labels, pooling)
    streams = [_streams(simulation.seed, ("effect", *effect), 1)[0] for effect in effects]
    shared = pooled_truth(labels, simulation, prior, model, pooling)
    own = shared.unit(stream, streams, pooled_priors(prior, model, pooling, simulation))
    return _with_pooled(truth, own, of_columns["kinds"], context, frames[group])


def _kpi(
    parts: Float[np.ndarray, "week channel"],
    level: Float[np.ndarray, " week"],
    sd: float,
    chance: Float[np.ndarray, " week"],
    model: config.Model,
) -> tuple[Float[np.ndarray, " week"], Float[np.ndarray, "week channel"]]:
    """The KPI, and what each channel brought of it."""
    expected = parts.sum(axis=1) + level
    if model.link == "identity":
        return expected + sd * chance, parts
    # Of the mean of the log-normal, what would be missing without the channel.
    mean = np.exp(expected + 0.5 * sd**2)
    return np.exp(expected + sd * chance), mean[:, None] * (1 - np.exp(-parts))


def _with_pooled(
    truth: Truth,
    own: Mapping[str, Float[np.ndarray, " row"]],
    kinds: tuple[str, ...],
    context: _Context,
    frame: _Frame,
) -> Truth:
    """The truth with a unit's pooled parameters in it, those of linear columns in the unit's own measure again."""
    channel = {name: own.get(name, values) for name, values in truth.channel.items()}
    linear = truth.linear.copy()
    for name in dict.fromkeys(kinds):
        if name in own:
            linear[[kind == name for kind in kinds]] = own[name]
    if "trend" in own:
        slope = linear[kinds.index("trend")] / (frame.last - frame.first)
        middle = (context.weeks[0] + context.weeks[-1]) / 2
        linear[kinds.index("trend")] = slope * (context.weeks[-1] - context.weeks[0])
        linear[0] += slope * (middle - (frame.first + frame.last) / 2)
    if "control" in own:
        linear[[kind == "control" for kind in kinds]] *= context.controls.std(axis=0) / frame.control_sd
    return replace(truth, channel=channel, linear=linear)


def pooled_priors(
    prior: config.Prior, model: config.Model, pooling: config.Pooling, simulation: config.Simulation
) -> dict[str, list[Distribution]]:
    """The distribution of each pooled parameter's centre, by channel, then of those of linear columns, by column."""
    channels = channel_names(simulation.channels)
    pooled = [name for name in model.channel_parameters if pooling.scale(name) is not None]
    distributions = {
        name: [prior.distribution(prior_of(name, channel, prior), unit={}, channel=channel) for channel in channels]
        for name in pooled
    }
    kinds = (*column_kinds(model), *("control",) * simulation.controls)
    shared = [kind for kind in dict.fromkeys(kinds) if pooling.scale(kind) is not None]
    return distributions | {kind: [prior.distribution(kind, unit={})] * kinds.count(kind) for kind in shared}


def pooled_truth(
    labels: tuple[str, ...],
    simulation: config.Simulation,
    prior: config.Prior,
    model: config.Model,
    pooling: config.Pooling,
) -> PooledTruth:
    """The true hyperparameters of the group that the unit `labels` is in."""
    group, effects = _pooled_by(labels, pooling)
    distributions = pooled_priors(prior, model, pooling, simulation)
    stream = _streams(simulation.seed, ("pooling", *group), 1)[0]
    keys, channels = [key for key, _ in effects], channel_names(simulation.channels)
    return draw_pooled(stream, distributions=distributions, pooling=pooling, keys=keys, channels=channels)


def _pooled_by(labels: tuple[str, ...], pooling: config.Pooling) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """A unit's group, and the key and label of each effect that it has."""
    own = dict(zip(KEYS, labels, strict=True))
    if isinstance(pooling.by, str) and pooling.by != "crossed":
        return (pooling.by, own[pooling.by]), []
    keys = KEYS if isinstance(pooling.by, str) else pooling.by
    return (), [(key, own[key]) for key in keys]


def _rescaled(truth: Truth, top: float, model: config.Model) -> Truth:
    if model.link == "log":
        return replace(truth, linear=np.concatenate([truth.linear[:1] - np.log(top), truth.linear[1:]]))
    channel = {**truth.channel, "effect": truth.channel["effect"] / top}
    return replace(truth, channel=channel, linear=truth.linear / top, noise=truth.noise / top)


def _streams(seed: int, labels: tuple[str, ...], count: int) -> list[np.random.Generator]:
    root = np.random.SeedSequence([seed, int(unit_id(labels), 16)])
    return [np.random.Generator(np.random.PCG64(child)) for child in root.spawn(count)]


def _size(seed: int, labels: tuple[str, ...]) -> float:
    """How large a brand or a market is: all units of it share the factor."""
    return float(_streams(seed, labels, 1)[0].lognormal(0.0, 0.5))


def _extent(rng: np.random.Generator, simulation: config.Simulation) -> tuple[Int[np.ndarray, " week"], np.ndarray]:
    """Weeks that a unit has and channels that it uses."""
    late, early = (int(share * simulation.weeks / 4) for share in rng.uniform(size=2))
    absent = rng.uniform(size=simulation.channels) < _ABSENT_SHARE
    if not simulation.ragged:
        return np.arange(simulation.weeks), np.ones(simulation.channels, bool)
    # Half of the units are complete at either end, as in most real panels.
    late, early = (late if rng.uniform() < 0.5 else 0), (early if rng.uniform() < 0.5 else 0)
    absent[int(rng.integers(simulation.channels))] = False
    return np.arange(late, simulation.weeks - early), ~absent


def design(
    dates: np.ndarray, controls: Float[np.ndarray, "week control"], model: config.Model
) -> Float[np.ndarray, "week column"]:
    """The linear columns: those of the model's terms, then controls with mean 0 and standard deviation 1."""
    return np.concatenate(
        [term_columns(dates, model), (controls - controls.mean(axis=0)) / controls.std(axis=0)], axis=1
    )


def _table(units: list[_Unit], data: config.Data) -> pa.Table:
    lengths = [len(unit.dates) for unit in units]
    columns: dict[str, pa.Array] = {
        key: pa.array(np.repeat([unit.labels[i] for unit in units], lengths).tolist(), pa.string())
        for i, key in enumerate(KEYS)
    }
    columns[data.date] = pa.array(np.concatenate([unit.dates for unit in units]), pa.date32())
    columns[data.kpi] = pa.array(np.concatenate([unit.kpi for unit in units]))
    for i, channel in enumerate(data.channels):
        spend = np.concatenate([unit.spend[:, i] for unit in units])
        absent = np.repeat([not unit.present[i] for unit in units], lengths)
        columns[str(channel.spend)] = pa.array(spend, mask=absent)
    for i, name in enumerate(data.controls):
        columns[name] = pa.array(np.concatenate([unit.controls[:, i] for unit in units]))
    if data.kpi_scale is not None:
        columns[data.kpi_scale] = pa.array(np.repeat([unit.kpi_scale for unit in units], lengths))
    return pa.table(columns)


def _truth_table(units: list[_Unit], names: tuple[str, ...], model: config.Model) -> pa.Table:
    ran = [(unit, i) for unit in units for i in range(len(names)) if unit.present[i]]
    spend = np.array([unit.spend[:, i].sum() for unit, i in ran])
    contribution = np.array([unit.contribution[i] for unit, i in ran])
    columns: dict[str, pa.Array] = {key: pa.array([unit.labels[k] for unit, _ in ran]) for k, key in enumerate(KEYS)}
    columns["channel"] = pa.array([names[i] for _, i in ran])
    for name in model.channel_parameters:
        found = [float(unit.truth.channel[name][i]) if model.has(name, names[i]) else None for unit, i in ran]
        columns[name] = pa.array(found, pa.float64())
    columns["contribution"] = pa.array(contribution)
    columns["spend"] = pa.array(spend)
    columns["roi"] = pa.array(contribution / spend)
    return pa.table(columns)


def _linear_table(units: list[_Unit], names: tuple[str, ...], *, lasting: bool) -> pa.Table:
    rows: list[tuple[tuple[str, ...], str, float]] = []
    for unit in units:
        own = {**dict(zip(names, unit.truth.linear.tolist(), strict=True)), "noise": unit.truth.noise}
        own |= unit.truth.scales
        if lasting:
            own["autocorrelation"] = unit.truth.autocorrelation
        rows += [(unit.labels, name, value) for name, value in {**own, "kpi_scale": unit.kpi_scale}.items()]
    columns: dict[str, pa.Array] = {key: pa.array([labels[k] for labels, _, _ in rows]) for k, key in enumerate(KEYS)}
    columns["column"] = pa.array([name for _, name, _ in rows])
    columns["value"] = pa.array([value for _, _, value in rows])
    return pa.table(columns)
