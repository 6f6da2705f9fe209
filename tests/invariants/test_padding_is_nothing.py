"""Law 2: padded weeks, absent channels, padded columns and empty places add exactly zero to value and gradient."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet.config import Compute, Model, Spec
from mixfleet.data.panel import Unit
from mixfleet.models.batch import Structure, UnitBatch, prepare, stack, structure_of
from mixfleet.models.log_density import Evaluation, evaluate_density
from mixfleet.models.priors.families import family_of
from tests.support.terms import LEARNED_SCALES
from tests.support.units import odd_unit, panel_of

LANES = 16
FULL = odd_unit(weeks=61, channels=3)
WITHOUT_FIRST = odd_unit(weeks=61, channels=3, absent=(0,), seed=1)
COORDINATES = ("contribution", "effect")


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


def tile_of(
    *units: Unit, places: int = 1, coordinate: str = "contribution", model: Model | None = None
) -> tuple[Structure, UnitBatch]:
    panel = panel_of(*units)
    model = replace(model or Model(observation="normal"), coordinate=coordinate)  # pyright: ignore[reportArgumentType]
    spec = Spec(data=panel.data, model=model, compute=Compute(precision="float64"))
    structure = replace(structure_of(spec, panel, len(units[0].dates)), units=places, chains=LANES // places)
    return structure, stack([prepare(unit, panel, spec) for unit in units], structure)


def positions(structure: Structure) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(structure.dimension, LANES))


@partial(jax.jit, static_argnums=0)
def density(structure: Structure, batch: UnitBatch, position: jax.Array) -> Evaluation:
    return evaluate_density(position, batch, batch.series(structure.chains), structure)


def evaluated(structure: Structure, batch: UnitBatch, position: np.ndarray) -> Evaluation:
    return jax.tree.map(np.asarray, density(structure, jax.tree.map(jnp.asarray, batch), jnp.asarray(position)))


def assert_same(one: Evaluation, other: Evaluation) -> None:
    for mine, others in zip(one, other, strict=True):
        assert np.all(np.isfinite(mine))
        np.testing.assert_array_equal(mine, others)


def assert_close(one: Evaluation, other: Evaluation) -> None:
    for mine, others in zip(one, other, strict=True):
        assert np.all(np.isfinite(mine))
        np.testing.assert_allclose(mine, others, rtol=1e-12, atol=1e-12 * np.abs(others).max())


@pytest.mark.parametrize(
    "model", [Model(), Model(observation="normal"), LEARNED_SCALES], ids=["usual", "independent", "learned_scales"]
)
def test_more_padded_weeks_change_nothing(model: Model) -> None:
    structure, batch = tile_of(FULL, model=model)
    weeks = 160
    further = [(0, weeks - structure.weeks)]
    longer = batch._replace(
        media=np.pad(batch.media, further + [(0, 0)] * 2),
        kpi=np.pad(batch.kpi, [*further, (0, 0)]),
        weight=np.pad(batch.weight, [*further, (0, 0)]),
        basis=np.pad(batch.basis, [(0, 0), *further, (0, 0)]),
        **{
            # Where noise lasts.
            name: np.pad(values, [*further, *[(0, 0)] * (values.ndim - 1)])
            for name in ("gap_spans", "gap_before", "gap_after")
            if (values := getattr(batch, name)).size
        },
    )
    assert structure.weeks == 112
    at = positions(structure)
    # Weeks are summed in slices, so another length is another order of the same sum.
    assert_close(evaluated(replace(structure, weeks=weeks), longer, at), evaluated(structure, batch, at))


@pytest.mark.parametrize("coordinate", COORDINATES)
def test_what_lies_in_padded_weeks_is_not_seen(coordinate: str) -> None:
    structure, batch = tile_of(FULL, coordinate=coordinate)
    media, kpi = np.array(batch.media), np.array(batch.kpi)
    media[61:], kpi[61:] = 0.7, 1e6
    at = positions(structure)
    assert_same(evaluated(structure, batch._replace(media=media, kpi=kpi), at), evaluated(structure, batch, at))


def rows_of(structure: Structure, channel: int) -> np.ndarray:
    """Coordinates that belong to a channel."""
    return np.arange(channel, structure.dimension - 1, structure.channels)


@pytest.mark.parametrize("coordinate", COORDINATES)
def test_data_do_not_pull_at_an_absent_channel(coordinate: str) -> None:
    structure, batch = tile_of(WITHOUT_FIRST, coordinate=coordinate)
    assert batch.active[:, 0].tolist() == [0.0, 1.0, 1.0]
    at = positions(structure)
    other = batch._replace(kpi=batch.kpi * 3.0, weight=batch.weight * (np.arange(structure.weeks) < 50)[:, None])
    gradient, changed = evaluated(structure, batch, at).gradient, evaluated(structure, other, at).gradient
    absent = rows_of(structure, 0)
    np.testing.assert_array_equal(changed[absent], gradient[absent])
    assert np.all(changed[rows_of(structure, 1)] != gradient[rows_of(structure, 1)])

    # Nor does where the absent channel's coordinates are pull at the others.
    moved = at.copy()
    moved[absent] += 1.0
    rest = np.setdiff1d(np.arange(structure.dimension), absent)
    np.testing.assert_array_equal(evaluated(structure, batch, moved).gradient[rest], gradient[rest])


def test_an_absent_channel_adds_its_prior_and_nothing_else() -> None:
    structure, batch = tile_of(WITHOUT_FIRST)
    at = positions(structure)
    present = np.setdiff1d(np.arange(structure.dimension), rows_of(structure, 0))
    smaller = batch._replace(
        media=batch.media[:, 1:],
        active=batch.active[1:],
        hyper=batch.hyper[:, present],
        measure=batch.measure[:, 1:],
        log_strength_unit=batch.log_strength_unit[1:],
        centre=batch.centre[present],
    )
    whole = evaluated(structure, batch, at)
    two = replace(structure, channels=2, term=structure.term.of((1, 2)), strengths=structure.strengths[1:])
    without = evaluated(two, smaller, at[present])
    np.testing.assert_allclose(whole.gradient[present], without.gradient, rtol=1e-12, atol=1e-12)

    moved = at.copy()
    moved[rows_of(structure, 0)] = at[rows_of(structure, 0)][:, ::-1]
    shifted = evaluated(structure, batch, moved)
    prior = whole.value - without.value
    np.testing.assert_allclose(shifted.value - without.value, prior[::-1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("coordinate", COORDINATES)
def test_an_absent_channel_is_measured_by_its_prior(coordinate: str) -> None:
    """Its coordinate is as wide as its prior: the posterior is the prior, and the chains must get around in it."""
    _, batch = tile_of(WITHOUT_FIRST, coordinate=coordinate)
    panel = panel_of(WITHOUT_FIRST)
    prior = Spec(data=panel.data).prior.distribution("media_share", unit={}, channel="channel_0")
    assert np.exp(batch.log_strength_unit[0, 0]) == pytest.approx(
        np.exp(family_of(prior).centre(prior.values)), rel=0.5
    )


def test_padded_columns_change_nothing() -> None:
    structure, batch = tile_of(FULL)
    wider = batch._replace(
        basis=np.pad(batch.basis, [(0, 0), (0, 0), (0, 3)]), variance=np.pad(batch.variance, [(0, 3), (0, 0)])
    )
    at = positions(structure)
    padded = evaluated(replace(structure, columns=structure.columns + 3), wider, at)
    plain = evaluated(structure, batch, at)
    assert np.all(padded.extra[-3:] == 0.0)
    assert_close(padded._replace(extra=padded.extra[:-3]), plain)


def test_empty_places_change_nothing() -> None:
    strangers = [odd_unit(weeks=61, seed=seed, absent=(seed % 3,)) for seed in (5, 6)]
    structure, full = tile_of(FULL, WITHOUT_FIRST, *strangers, places=4)
    _, half = tile_of(FULL, WITHOUT_FIRST, places=4)
    at = positions(structure)
    mine = slice(0, 2 * structure.chains)
    with_strangers, alone = evaluated(structure, full, at), evaluated(structure, half, at)
    assert_same(
        Evaluation(*(part[..., mine] for part in alone)), Evaluation(*(part[..., mine] for part in with_strangers))
    )
    assert not np.array_equal(alone.value[mine.stop :], with_strangers.value[mine.stop :])
