"""Batch: units as padded arrays of one shape, a tile of them for each compiled program."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mixfleet.config import Model, Spec
from mixfleet.config.priors import Distribution, TotalShare
from mixfleet.config.schema import FrozenMapping
from mixfleet.data import scaling
from mixfleet.data.panel import Panel, Unit
from mixfleet.errors import ConfigError
from mixfleet.models import baseline, gaps
from mixfleet.models.baseline.decomposition import LinearBlock, Pilot, linear_block, pilot
from mixfleet.models.media.term import MediaTerm, media_term
from mixfleet.models.observation import OBSERVATIONS, is_autocorrelated
from mixfleet.models.parameters import DrawRows, ParameterLayout, parameter_layout, sampled_parameters
from mixfleet.models.priors.columns import ColumnFamily
from mixfleet.models.priors.families import FAMILIES, HYPER_ROWS, family_of
from mixfleet.models.strength import StrengthPrior, effect_error, strength_families, strength_prior
from mixfleet.models.virtual_weeks import ARRAYS, Extent, extent_of, no_virtual_weeks, virtual_weeks
from mixfleet_kernels.likelihood import Gaps, Series

__all__ = [
    "PreparedUnit",
    "Structure",
    "UnitBatch",
    "batch_shapes",
    "padded_weeks",
    "prepare",
    "repadded",
    "room_for_gaps",
    "stack",
    "structure_of",
]

LENGTHS = (112, 160, 224, 272, 320, 432, 544)
"""Padded lengths: two to ten years of weeks and a little room, then every 112. A function of the unit alone, so that a
unit's arithmetic never depends on its company; few, so that a fleet needs few programs."""

FAINT = 2.0**-40
"""Weight of the weeks of a unit that has none to fit: too little to say anything beside a prior, in single precision
too, and enough for the means over those weeks that a draw keeps."""


@dataclass(frozen=True, kw_only=True)
class Structure:
    """All that a compiled program depends on; hashable, and without a label in it."""

    weeks: int
    channels: int
    columns: int
    units: int
    chains: int
    model: Model
    """Without what it says of channels by name, which is in `term`."""
    term: MediaTerm
    families: tuple[str, ...]
    """Prior family of each of `parameters.sampled_parameters(model)`."""
    strengths: tuple[str, ...]
    """Prior family of each channel's strength."""
    linear: tuple[tuple[str, tuple[int, ...]], ...]
    """By prior family, the columns whose coefficients are sampled; the basis has their directions last."""
    measured: bool
    """Whether some strength's prior is on something else than its effect."""
    dtype: str
    changes: bool = False
    """Whether some strength's prior is on what a change of media brings."""
    total: bool = False
    """Whether something is believed of what all media bring together."""
    shared: int = 0
    """Columns whose coefficients are pooled: the last directions of the basis, of no variance of their own, are theirs,
    and a draw keeps their coefficients where it keeps the projection along the others."""
    evidence: Extent = Extent()
    """Room for lift tests."""
    gaps: int = 0
    """Room for distances between fitted weeks; 0 where the noise is independent."""
    scales: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """By parameter that is the standard deviation of some coefficients of the baseline, the places of their columns."""

    @property
    def lanes(self) -> int:
        """Chains that advance together."""
        return self.units * self.chains

    @cached_property
    def layout(self) -> ParameterLayout:
        """Where each sampled coordinate of a unit stands."""
        sampled = 0 if OBSERVATIONS[self.model.observation].marginal else self.columns - self.apart
        return parameter_layout(
            self.term,
            self.model.observation,
            self.families,
            scales=[name for name, _ in self.scales],
            linear=self.linear,
            sampled_columns=sampled,
        )

    @property
    def apart(self) -> int:
        """Columns that are not integrated out with the others, each sampled as it is."""
        return sum(len(places) for _, places in self.linear)

    @property
    def rows(self) -> DrawRows:
        """Where each number that is kept of a draw stands."""
        return DrawRows(self.layout.dimension, self.channels, self.columns)

    @property
    def dimension(self) -> int:
        """Sampled coordinates of one unit."""
        return self.layout.dimension


class UnitBatch(NamedTuple):
    """The data of a program's units, on device; the unit axis is last where lanes will be."""

    media: Float[Array, "week channel unit"]
    kpi: Float[Array, "week unit"]
    weight: Float[Array, "week unit"]
    basis: Float[Array, "unit week column"]
    variance: Float[Array, "column unit"]
    along: Float[Array, "column sampled unit"]
    """Columns whose coefficients are sampled, along the basis."""
    turned: Float[Array, "learned learned unit"]
    """Columns at the scales' priors along the basis, where scales are learned; none elsewhere."""
    gram: Float[Array, "learned learned unit"]
    """Products of the columns at the scales' priors."""
    reference: Float[Array, "scale unit"]
    """Standard deviations that stand for the scales' priors."""
    active: Float[Array, "channel unit"]
    hyper: Float[Array, "row column unit"]
    """Prior data of each sampled coordinate, from `PriorFamily.encode`; then of each known value."""
    measure: Float[Array, "3 channel unit"]
    """What each channel's prior is on, from `strength.StrengthPrior`."""
    changed_media: Float[Array, "change_week channel unit"]
    """Media as the priors of strengths have them changed; of no week where none is on a change."""
    change_weight: Float[Array, "change_week channel unit"]
    """What each week's change of the response counts for."""
    total: Float[Array, "row unit"]
    """Of a belief about what all media bring together: its mean and one over its standard deviation, in shares, and
    what share a mean contribution of one is; no row without one."""
    log_strength_unit: Float[Array, "channel unit"]
    """What the strength's coordinate is measured in: the log of its value, in mean contribution or effect, at 0."""
    centre: Float[Array, "coordinate unit"]
    """Where optimisation starts."""
    gap_length: Float[Array, "gap unit"]
    """Distances between neighbouring fitted weeks; none where the noise is independent, as of all `gap_` arrays."""
    gap_spans: Float[Array, "gap_week gap unit"]
    """One in weeks whose fitted week before is so far away."""
    gap_before: Float[Array, "gap_week unit"]
    """Place of the fitted week before."""
    gap_after: Float[Array, "gap_week unit"]
    """Place of the fitted week that follows."""
    gap_gram: Float[Array, "3 gap column column unit"]
    """Products of the basis between weeks of each distance."""
    lift_media: Float[Array, "virtual path unit"]
    """Media of every channel under test, on its scale: all with the test, then all without."""
    lift_weight: Float[Array, "lifted row unit"]
    """What a virtual week's response counts for in its test, in standard deviations of it."""
    lift_channel: Float[Array, "row channel unit"]
    """One where the row is the channel's."""
    lift_test: Float[Array, "test row unit"]
    """One where the row is the test's."""
    lift_estimate: Float[Array, "2 test unit"]
    """Estimate in standard deviations of the test, and the log of its density's constant."""

    def series(self, chains: int) -> Series:
        """The data with every unit repeated for its chains."""
        lanes = {
            name: jnp.repeat(getattr(self, name), chains, axis=-1)
            for name in ("media", "kpi", "weight", "variance", "active")
        }
        if not (self.gap_length.shape[0] and self.turned.shape[0]):
            return Series(basis=self.basis, **lanes)
        # Of what lasts the columns are told apart, whose scales are learned, and no basis is orthonormal anyhow.
        turned = jnp.einsum("utk,kju->utj", self.basis, self.turned, precision="highest")
        return Series(basis=turned, **lanes)

    @property
    def gaps(self) -> Gaps:
        """Distances between fitted weeks, for noise that is autocorrelated."""
        return Gaps(self.gap_length, self.gap_spans, self.gap_before, self.gap_after, self.gap_gram)


@dataclass(frozen=True, kw_only=True)
class PreparedUnit:
    """One unit, scaled and padded: host arrays in float64, and the way back to its own units."""

    unit: Unit
    scale: scaling.Scale
    fitted: Bool[np.ndarray, " week"]
    """Weeks in the likelihood, unpadded."""
    contribution_weeks: Bool[np.ndarray, " week"]
    """Weeks over which contributions are told: the same or, where there are none, all whose media are known."""
    design: Float[np.ndarray, "week column"]
    """The linear block in every week of the unit, unpadded."""
    loading: Float[np.ndarray, "column column"]
    """Takes the coefficients along the basis, in prior standard deviations, to the columns' own."""
    prior_mean: Float[np.ndarray, " column"]
    priors: tuple[tuple[Distribution, ...], ...]
    """Prior of each parameter of the curves, by parameter and channel; of no meaning where a channel lacks it."""
    strength: StrengthPrior
    """Prior of each channel's strength."""
    arrays: dict[str, np.ndarray]
    """One entry per field of `UnitBatch`, without the unit axis."""


def padded_weeks(weeks: int) -> int:
    """The least padded length that holds a series of `weeks`."""
    for length in LENGTHS:
        if weeks <= length:
            return length
    return -(-weeks // 112) * 112


def structure_of(spec: Spec, panel: Panel, weeks: int) -> Structure:
    """The structure of the program for the panel's units, of `weeks` weeks.

    Raises:
        ConfigError: A prior that a channel's strength cannot have.
    """
    term = media_term(spec.model, panel.channels)
    evidence = extent_of((unit.experiments for unit in panel.units), window=spec.model.window)
    if evidence.rows and spec.model.link == "log":
        raise ConfigError("log does not know lift tests: leave out one of the two", key="model.link")
    families = [family_of(spec.prior.of(name)).name for name in sampled_parameters(spec.model)]
    chains = spec.inference.chains
    return Structure(
        weeks=padded_weeks(weeks),
        channels=len(panel.channels),
        columns=len(baseline.column_names(spec.model, spec.data)),
        units=max(1, spec.compute.lanes // chains),
        chains=chains,
        # Columns and scales are data: neither terms nor their dates make another program.
        model=replace(spec.model, baseline=(), channels=FrozenMapping(), scaling="max", link="identity"),
        term=term,
        families=tuple(families),
        strengths=strength_families(spec.prior, panel),
        linear=baseline.sampled_blocks(spec.model, spec.data, spec.prior),
        measured=spec.prior.on.possible != ("effect",),
        dtype=spec.compute.precision,
        changes=spec.prior.on.of_changes,
        total=spec.prior.total_share is not None,
        evidence=evidence,
        gaps=room_for_gaps(panel.units, spec),
        scales=baseline.learned_scales(spec.model, spec.data),
    )


def room_for_gaps(units: Sequence[Unit], spec: Spec) -> int:
    """Room for the distances between fitted weeks of every unit; 0 where the noise is independent."""
    if not is_autocorrelated(spec.model):
        return 0
    holdout, window = spec.data.holdout or 0, spec.model.window
    return gaps.most_gaps(scaling.likelihood_weeks(unit, window=window, holdout=holdout) for unit in units)


def prepare(unit: Unit, panel: Panel, spec: Spec) -> PreparedUnit:
    """A unit as the arrays of its structure."""
    model = spec.model
    holdout = spec.data.holdout or 0
    fitted = scaling.likelihood_weeks(unit, window=model.window, holdout=holdout)
    contribution_weeks = fitted if fitted.any() else scaling.known_weeks(unit, window=model.window)
    measured = scaling.measure(unit, fitted, holdout, treatments=spec.data.treatments, model=model)
    names = dict(zip(panel.keys, unit.labels, strict=True))
    design, linear = _linear(unit, fitted, measured, names, spec)
    kpi = (measured.scaled_kpi(unit) - design @ linear.mean) * fitted
    media = measured.scaled_media(unit)
    term = media_term(model, panel.channels)
    active = _reaches(media, contribution_weeks, [1 if form.adstock == "none" else form.window for form in term.forms])
    priors = _curve_priors(spec, panel, names)
    strength = strength_prior(unit, panel, spec, measured, contribution_weeks)
    shared = tuple(spec.prior.distribution(name, unit=names) for name in model.unit_parameters)
    # The mean response of an absent channel counts as one: its effect, and so its prior, is what is sampled.
    response = np.where(active > 0, np.maximum((media * active)[contribution_weeks].mean(axis=0), 1e-6), 1.0)
    error = np.maximum(effect_error(kpi, media * active, linear.basis, fitted, strength.typical(response)), 1e-9)
    strength_unit = np.log(error if model.coordinate == "effect" else error * response)
    layout = _layout(spec, term, columns=len(linear.mean))
    hyper, centre = _prior_data(layout, (*priors, strength.distributions), shared)
    if linear.laws:
        _add_columns(hyper, centre, layout, linear, pilot(linear, kpi, fitted))
    weeks = padded_weeks(len(unit.dates))
    arrays = {
        # Media of a new unit's later weeks are on a scale of their own already, and predictions are to hold them.
        "media": _pad(media if scaling.is_new(fitted) else media * active, weeks),
        "kpi": _pad(kpi, weeks),
        "weight": _pad(np.where(fitted, 1.0, FAINT * contribution_weeks), weeks),
        "basis": _pad(linear.basis, weeks),
        **_block_arrays(linear, spec),
        "active": active,
        "hyper": hyper,
        **_measured(strength, media * active, weeks if spec.prior.on.of_changes else 0, spec.prior.total_share),
        "log_strength_unit": strength_unit,
        "centre": centre,
        **_gap_arrays(fitted, linear, model),
        **virtual_weeks(unit.experiments, measured, window=model.window),
    }
    return PreparedUnit(
        unit=unit,
        scale=measured,
        fitted=fitted,
        contribution_weeks=contribution_weeks,
        design=design,
        loading=linear.loading,
        prior_mean=linear.mean,
        priors=priors,
        strength=strength,
        arrays=arrays,
    )


def _block_arrays(linear: LinearBlock, spec: Spec) -> dict[str, np.ndarray]:
    """What a batch holds of the linear block beside its basis."""
    first = [places[0] for _, places in baseline.learned_scales(spec.model, spec.data)]
    turned, gram, reference = linear.turned, linear.turned.T @ linear.turned, np.diag(linear.loading)[first]
    return {"variance": linear.variance, "along": linear.along, "turned": turned, "gram": gram, "reference": reference}


def _measured(
    strength: StrengthPrior, media: Float[np.ndarray, "week channel"], weeks: int, belief: TotalShare | None
) -> dict[str, np.ndarray]:
    """What a batch holds of what priors are on; no week of changes where none is on one."""
    changed, weight = _pad(strength.changed * media, weeks), _pad(strength.weight, weeks)
    total = np.zeros(0) if belief is None else np.array([belief.mean, 1 / belief.sd, 1 / strength.whole])
    return {"measure": strength.rows, "changed_media": changed, "change_weight": weight, "total": total}


def _gap_arrays(fitted: Bool[np.ndarray, " week"], linear: LinearBlock, model: Model) -> dict[str, np.ndarray]:
    basis = linear.basis @ linear.turned if linear.turned.size else linear.basis
    return gaps.gap_arrays(fitted, basis) if is_autocorrelated(model) else gaps.gap_shapes(0, 0, basis.shape[1])


def _curve_priors(spec: Spec, panel: Panel, names: dict[str, str]) -> tuple[tuple[Distribution, ...], ...]:
    """Priors of the curves' parameters in one unit, by parameter and channel."""
    return tuple(
        tuple(spec.prior.distribution(parameter, unit=names, channel=channel) for channel in panel.channels)
        for parameter in spec.model.channel_parameters[:-1]
    )


def _linear(
    unit: Unit, fitted: Bool[np.ndarray, " week"], measured: scaling.Scale, names: dict[str, str], spec: Spec
) -> tuple[Float[np.ndarray, "week column"], LinearBlock]:
    """The linear block in every week of the unit, and along the basis of those that are fitted."""
    model, weeks = spec.model, measured.trend_weeks
    design = baseline.design(unit.dates, measured.scaled_controls(unit), model=model, fitted_weeks=weeks, unit=names)
    sampled = [k for _, places in baseline.sampled_blocks(model, spec.data, spec.prior) for k in places]
    laws = baseline.column_laws(model, spec.data, spec.prior, names)
    return design, linear_block(design * fitted[:, None], laws, sampled)


def _layout(spec: Spec, term: MediaTerm, *, columns: int) -> ParameterLayout:
    families = [family_of(spec.prior.of(name)).name for name in sampled_parameters(spec.model)]
    linear = baseline.sampled_blocks(spec.model, spec.data, spec.prior)
    scales, observation = spec.model.scale_parameters, spec.model.observation
    rest = columns - sum(len(places) for _, places in linear)
    sampled = 0 if OBSERVATIONS[observation].marginal else rest
    return parameter_layout(term, observation, families, scales=scales, linear=linear, sampled_columns=sampled)


def _add_columns(
    hyper: Float[np.ndarray, "row column"],
    centre: Float[np.ndarray, " coordinate"],
    layout: ParameterLayout,
    linear: LinearBlock,
    own: Pilot,
) -> None:
    """Writes what is known of the coefficients that are sampled into the prior's data and the start."""
    columns = range(layout.linear[0].first, layout.linear[0].first + len(linear.laws))
    for column, law, unit, start in zip(columns, linear.laws, own.unit, own.start, strict=True):
        family = FAMILIES[law.family]
        assert isinstance(family, ColumnFamily), "coefficients have families of their own"
        hyper[:, column] = family.column_rows(law.prior.values, float(unit))
        centre[column] = start


def _prior_data(
    layout: ParameterLayout, priors: tuple[tuple[Distribution, ...], ...], shared: tuple[Distribution, ...]
) -> tuple[Float[np.ndarray, "row column"], Float[np.ndarray, " coordinate"]]:
    """Prior data of every coordinate and known value, and where optimisation starts."""
    hyper, centre = np.zeros((HYPER_ROWS, layout.prior_columns)), np.zeros(layout.dimension)
    # Sampled coefficients are standard normal along the basis, given all the rest, and have no data of their own.
    blocks = zip((*layout.by_channel, *layout.observation), (*priors, *((prior,) for prior in shared)), strict=True)
    for block, of_block in blocks:
        own = [of_block[c] for c in block.channels] if block.axis == "channel" else of_block
        for column, prior in enumerate(own, start=block.first):
            hyper[:, column] = family_of(prior).encode(prior.values)
            if not block.fixed:
                centre[column] = 1.0 if block is layout.effect else _centre(prior)
    return hyper, centre


def repadded(member: PreparedUnit, weeks: int) -> PreparedUnit:
    """The member padded to more weeks than it needs alone, beside longer ones."""
    by_week = ["media", "kpi", "weight", "basis"]
    by_week += ["changed_media", "change_weight"] * (len(member.arrays["change_weight"]) > 0)
    longer = {name: _pad(member.arrays[name], weeks) for name in by_week}
    return replace(member, arrays={**member.arrays, **longer})


def stack(members: Sequence[PreparedUnit | None], structure: Structure) -> UnitBatch:
    """A tile of up to `structure.units` members; places after the last repeat the first.

    So do those of None, but without a week in the likelihood: nobody is to learn anything there, and it costs little.
    """
    members = [member and _with_room(member, structure) for member in members]
    first = next(member for member in members if member is not None)
    there = [*members, *[first] * (structure.units - len(members))]

    def gather(name: str) -> np.ndarray:
        parts = [(member or first).arrays[name] for member in there]
        stacked = np.empty((*parts[0].shape, len(parts)), structure.dtype)
        for place, part in enumerate(parts):
            stacked[..., place] = part
        return np.ascontiguousarray(np.moveaxis(stacked, -1, 0)) if name == "basis" else stacked

    batch = UnitBatch(**{name: gather(name) for name in UnitBatch._fields})  # pyright: ignore[reportArgumentType]
    return batch._replace(weight=batch.weight * np.array([member is not None for member in there], structure.dtype))


def _with_room(member: PreparedUnit, structure: Structure) -> PreparedUnit:
    """The member with room for as many tests, and distances between weeks, as its neighbours have."""
    given = member.arrays
    if structure.gaps:
        given = {**given, **gaps.widened(given, structure.gaps, structure.weeks)}
        member = replace(member, arrays=given)
    room = no_virtual_weeks(structure.evidence, window=structure.model.window, channels=structure.channels)
    if all(given[name].shape == room[name].shape for name in ARRAYS):
        return member
    rows = given["lift_weight"].shape[1]
    for name in ARRAYS:
        if name != "lift_media":
            room[name][tuple(slice(size) for size in given[name].shape)] = given[name]
    for first, own in ((0, 0), (structure.evidence.rows, rows)):
        room["lift_media"][: len(given["lift_media"]), first : first + rows] = given["lift_media"][:, own : own + rows]
    return replace(member, arrays={**given, **room})


def batch_shapes(structure: Structure) -> UnitBatch:
    """Shapes and types of a tile of this structure."""
    weeks, channels, columns, units = structure.weeks, structure.channels, structure.columns, structure.units
    learned = columns if structure.scales else 0
    sizes = dict(
        media=(weeks, channels, units),
        kpi=(weeks, units),
        weight=(weeks, units),
        basis=(units, weeks, columns),
        variance=(columns, units),
        along=(columns, structure.apart, units),
        turned=(learned, learned, units),
        gram=(learned, learned, units),
        reference=(len(structure.scales), units),
        active=(channels, units),
        hyper=(HYPER_ROWS, structure.layout.prior_columns, units),
        measure=(3, channels, units),
        changed_media=(weeks if structure.changes else 0, channels, units),
        change_weight=(weeks if structure.changes else 0, channels, units),
        total=(3 if structure.total else 0, units),
        log_strength_unit=(channels, units),
        centre=(structure.dimension, units),
    )
    room = no_virtual_weeks(structure.evidence, window=structure.model.window, channels=channels)
    room |= gaps.gap_shapes(structure.gaps, weeks if structure.gaps else 0, columns)
    sizes |= {name: (*own.shape, units) for name, own in room.items()}
    structs = {name: jax.ShapeDtypeStruct(size, structure.dtype) for name, size in sizes.items()}
    return UnitBatch(**structs)  # pyright: ignore[reportArgumentType]


def _reaches(
    media: Float[np.ndarray, "week channel"], fitted: Bool[np.ndarray, " week"], windows: Sequence[int]
) -> Float[np.ndarray, " channel"]:
    """1.0 for channels with media in some fitted week or the carry-over window before one."""
    found = np.zeros(media.shape[1])
    for window in set(windows):
        within = np.zeros(len(fitted), bool)
        for week in np.flatnonzero(fitted):
            within[max(0, week - window + 1) : week + 1] = True
        found = np.where(np.array(windows) == window, np.any(media[within] != 0, axis=0), found)
    return found


def _centre(prior: Distribution) -> float:
    return family_of(prior).centre(prior.values)


def _pad(values: np.ndarray, weeks: int) -> np.ndarray:
    """The values with zeros behind, up to a length; of none nothing."""
    if weeks == 0:
        return values[:0]
    return np.concatenate([values, np.zeros((weeks - len(values), *values.shape[1:]))])
