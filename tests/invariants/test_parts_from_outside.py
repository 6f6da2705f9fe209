"""Parts registered from outside this package hold the invariants that its own parts hold."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.scipy import stats as jax_stats
from jax.scipy.stats import norm
from numpyro.infer.util import compute_log_probs
from scipy import stats

from mixfleet.config import Compute, Inference, Model, Prior, Spec, priors
from mixfleet.config.measures import On
from mixfleet.config.priors import TotalShare, distribution
from mixfleet.config.schema import FrozenMapping
from mixfleet.models import baseline, media, observation, reference
from mixfleet.models.batch import PreparedUnit, Structure, UnitBatch, prepare, stack, structure_of
from mixfleet.models.log_density import Evaluation, evaluate_density
from mixfleet.models.parameters import sampled_parameters
from mixfleet.models.priors import families
from mixfleet_kernels import adstock, saturation
from tests.support.quick import digests, fit, ragged_fleet, settings, with_units
from tests.support.reference import at_each
from tests.support.units import odd_unit, panel_of

POINTS = 256


class Weibull(families.Positive):
    """A family of priors."""

    name = "weibull"
    hyperparameters = ("shape", "scale")

    def log_density(self, value: jax.Array, hyper: jax.Array) -> jax.Array:
        ratio = value / hyper[1]
        return jnp.log(hyper[0] / hyper[1]) + (hyper[0] - 1) * jnp.log(ratio) - ratio ** hyper[0]

    def frozen(self, **h: float) -> Any:
        return stats.weibull_min(h["shape"], scale=h["scale"])


class TwoDaysAWeek:
    """A term of the baseline: a square wave."""

    component = parameter = "square_wave"

    def names(self) -> tuple[str, ...]:
        return ("square_wave",)

    def columns(self, calendar: baseline.Calendar) -> np.ndarray:
        return np.where(np.arange(len(calendar.dates)) % 13 < 6, 0.5, -0.5)[:, None]


@dataclass(frozen=True)
class StudentT:
    """An observation with heavy tails."""

    marginal = False

    def log_prob(self, kpi: jax.Array, expected: jax.Array, parameters: tuple[jax.Array, ...]) -> jax.Array:
        scale, freedom = parameters
        return jax_stats.t.logpdf(kpi, freedom[None], expected, scale[None])

    def noise(self, rng: np.random.Generator, size: tuple[int, int], parameters: tuple[np.ndarray, ...]) -> np.ndarray:
        scale, freedom = parameters
        return scale * rng.standard_t(freedom, size)


@dataclass(frozen=True)
class SampledNormal:
    """The usual observation on the path of those whose coefficients are sampled."""

    marginal = False

    def log_prob(self, kpi: jax.Array, expected: jax.Array, parameters: tuple[jax.Array, ...]) -> jax.Array:
        return norm.logpdf(kpi, expected, parameters[0][None])

    def noise(self, rng: np.random.Generator, size: tuple[int, int], parameters: tuple[np.ndarray, ...]) -> np.ndarray:
        return parameters[0] * rng.standard_normal(size)


def hyperbolic(lag: jax.Array, power: jax.Array) -> jax.Array:
    """Weight of an adstock."""
    return (1 + lag) ** -power


def arctangent(media: jax.Array, steepness: jax.Array) -> jax.Array:
    """Curve of a saturation."""
    return jnp.arctan(steepness * media) * (2 / jnp.pi)


TABLES: tuple[dict[str, Any], ...] = (
    *(priors.FAMILIES, priors.PARAMETERS, priors.ADSTOCK_PARAMETERS, priors.SATURATION_PARAMETERS),
    *(priors.OBSERVATION_PARAMETERS, priors.BASELINE_TERMS, families.FAMILIES, baseline.REGISTERED),
    *(observation.OBSERVATIONS, adstock.PARAMETERS, saturation.PARAMETERS),
    *(reference.ADSTOCKS, reference.SATURATIONS, reference.OBSERVATIONS, reference.PRIORS),
)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    before = [dict(table) for table in TABLES]
    media.register_adstock("hyperbolic", hyperbolic, {"power": distribution("gamma", shape=6, rate=3)})
    media.register_saturation("arctangent", arctangent, {"steepness": distribution("gamma", shape=4, rate=2)})
    families.register(Weibull())
    baseline.register("square_wave", TwoDaysAWeek(), distribution("normal", mean=0, sd=0.1))
    observation.register("student_t", StudentT(), {"freedom": distribution("gamma", shape=4, rate=0.5)})
    observation.register("sampled_normal", SampledNormal(), {})
    # The same in numpyro, for the plain model.
    reference.ADSTOCKS["hyperbolic"] = lambda lag, p: 1 / (1 + lag) ** p["power"]
    reference.SATURATIONS["arctangent"] = lambda media, p: jnp.arctan(p["steepness"] * media) / (jnp.pi / 2)
    reference.PRIORS["weibull"] = lambda h: dist.Weibull(h["scale"], h["shape"])
    reference.OBSERVATIONS["student_t"] = lambda mean, p: dist.StudentT(p["freedom"], mean, p["noise"])
    reference.OBSERVATIONS["sampled_normal"] = reference.OBSERVATIONS["normal"]
    yield
    for table, kept in zip(TABLES, before, strict=True):
        table.clear()
        table.update(kept)


WEIBULL = {"rate": {"family": "weibull", "shape": 2.0, "scale": 1.5}}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "adstock": ({"adstock": "hyperbolic"}, {}),
    "saturation": ({"saturation": "arctangent"}, {}),
    "prior family": ({}, WEIBULL),
    "baseline term": ({"terms": ("square_wave",)}, {}),
    "observation": ({"observation": "student_t"}, {}),
    "all": (
        {"adstock": "hyperbolic", "terms": ("square_wave",), "observation": "student_t", "seasonality": 1},
        WEIBULL,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One unit under a model, for the density and for the plain model."""

    member: PreparedUnit
    structure: Structure
    batch: UnitBatch
    plain: tuple[reference.Series, reference.Priors]

    @property
    def model(self) -> Model:
        return self.structure.model

    def density(self, positions: jax.Array) -> Evaluation:
        return evaluate_density(positions, self.batch, self.batch.series(positions.shape[1]), self.structure)

    def parameters(self, position: jax.Array, white: jax.Array) -> dict[str, jax.Array]:
        """The change of variables, written anew: coordinates and a white number for each coefficient."""
        series, priors = self.plain
        found: dict[str, jax.Array] = {}
        for block in self.structure.layout.shapes:
            by_channel = zip(priors.channel[block.parameter], position[block.rows], strict=True)
            found[block.parameter] = jnp.stack([bounded(distribution.support, u) for distribution, u in by_channel])
        for block in self.structure.layout.observation:
            found[block.parameter] = bounded(priors.observation[block.parameter].support, position[block.rows])
        media = reference.saturated_adstock(jnp.asarray(series.media), found, self.model)
        mean = media[series.fitted].mean(axis=0)
        u = position[self.structure.layout.effect.rows]
        unit = jnp.exp(jnp.asarray(self.member.arrays["log_strength_unit"]))
        found["effect"] = unit * (u * norm.cdf(u) + norm.pdf(u)) / jnp.where(mean > 0, mean, 1.0)
        variance, noise = jnp.asarray(self.member.arrays["variance"]), found["noise"] ** 2
        residual = (jnp.asarray(series.kpi) - (media * found["effect"]).sum(axis=1)) * series.fitted
        residual = residual - jnp.asarray(series.design) @ self.member.prior_mean * series.fitted
        projection = jnp.asarray(self.member.arrays["basis"][: len(residual)]).T @ residual
        along = jnp.sqrt(variance) * projection / (noise + variance) + jnp.sqrt(noise / (noise + variance)) * white
        found["coefficients"] = jnp.asarray(self.member.prior_mean) + jnp.asarray(self.member.loading) @ along
        return found

    def log_joint(self, position: jax.Array, white: jax.Array) -> jax.Array:
        """The plain model's density of coordinates and white numbers."""
        values = self.parameters(position, white)
        sites, _ = compute_log_probs(reference.media_mix, (*self.plain, self.model), {}, values)

        def flat(u: jax.Array) -> jax.Array:
            found = self.parameters(u[: len(position)], u[len(position) :])
            return jnp.concatenate([found[name] for name in values])

        jacobian = jax.jacfwd(flat)(jnp.concatenate([position, white]))
        return sum(sites.values(), start=jnp.zeros(())) + jnp.linalg.slogdet(jacobian)[1]


def bounded(support: tuple[float, float], u: jax.Array) -> jax.Array:
    low, high = support
    return low + (high - low) * norm.cdf(u) if np.isfinite(high) else low + jnp.exp(u)


EFFECT = On(media="effect")


def setting_of(
    model: Mapping[str, Any], parameters: Mapping[str, Any], *, on: On = EFFECT, belief: TotalShare | None = None
) -> Setting:
    unit = odd_unit(weeks=58, channels=2)
    panel = panel_of(unit)
    spec = Spec(
        data=panel.data,
        model=Model(**{"observation": "normal", **model}),
        # So that the change of variables below is short; what else a prior may be on has cases in test_fast_is_plain.
        prior=Prior(parameters=FrozenMapping(parameters), on=on, total_share=belief),
        compute=Compute(lanes=POINTS, precision="float64"),
        inference=Inference(chains=POINTS),
    )
    structure = structure_of(spec, panel, 58)
    member = prepare(unit, panel, spec)
    batch = jax.tree.map(jnp.asarray, stack([member], structure))
    plain = reference.unit_arguments(unit, panel, spec)
    return Setting(member=member, structure=structure, batch=batch, plain=plain)


def positions_of(setting: Setting) -> jax.Array:
    spread = 0.5 * np.random.default_rng(5).standard_normal((setting.structure.dimension, POINTS))
    return jnp.asarray(setting.member.arrays["centre"][:, None] + spread)


@pytest.mark.parametrize("name", CASES)
def test_the_density_is_the_plain_models(name: str) -> None:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        setting = setting_of(*CASES[name])
        block, columns = setting.structure.layout.coefficients, setting.structure.columns
        positions = positions_of(setting)
        white = jnp.asarray(np.random.default_rng(6).standard_normal((columns, POINTS)))
        sampled = positions if block is None else positions.at[block.rows].set(white)
        found = jax.jit(setting.density)(sampled)
        own = positions if block is None else positions[: block.first]

        def at_point(point: tuple[jax.Array, jax.Array]) -> Any:
            return jax.value_and_grad(setting.log_joint, argnums=(0, 1))(*point)

        value, (by_own, by_white) = jax.tree.map(np.asarray, at_each(at_point, (own.T, white.T)))
        found = jax.tree.map(np.asarray, found)
    # Where coefficients are integrated out, the white numbers are standard normal and nothing else.
    rest = stats.norm.logpdf(np.asarray(white)).sum(axis=0) if block is None else 0.0
    gradient = by_own.T if block is None else np.concatenate([by_own.T, by_white.T])
    assert np.all(np.isfinite(found.value))
    np.testing.assert_array_less(np.abs(found.value + rest - value) / (1 + np.abs(value)), 1e-10)
    steepest = 1 + np.max(np.abs(gradient), axis=0)
    np.testing.assert_array_less(np.max(np.abs(found.gradient - gradient), axis=0) / steepest, 1e-9)


@pytest.mark.parametrize(
    ("on", "model", "belief"),
    [
        (EFFECT, {}, None),
        (On(media="mroi"), {}, None),
        (EFFECT, {"signs": {"control_0": "negative"}}, TotalShare(mean=0.3, sd=0.05)),
    ],
    ids=["effect", "mroi", "signs_and_total_share"],
)
def test_sampled_coefficients_are_the_integrated_ones(on: On, model: dict[str, Any], belief: TotalShare | None) -> None:
    """Law 11: the sheared density is the collapsed one times that of the white numbers."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        collapsed, sheared = (
            setting_of({"observation": o, **model}, {}, on=on, belief=belief) for o in ("normal", "sampled_normal")
        )
        positions = positions_of(sheared)
        block = sheared.structure.layout.coefficients
        assert block is not None
        whole, part = jax.jit(sheared.density)(positions), jax.jit(collapsed.density)(positions[: block.first])
        whole, part, positions = jax.tree.map(np.asarray, (whole, part, positions))
    expected = part.value + stats.norm.logpdf(positions[block.rows]).sum(axis=0)
    np.testing.assert_allclose(whole.value, expected, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(whole.gradient[: block.first], part.gradient, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(whole.gradient[block.first :], -positions[block.rows], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_padding_is_nothing(name: str) -> None:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        setting = setting_of(*CASES[name])
        positions, batch = positions_of(setting), setting.batch
        changed = batch._replace(media=batch.media.at[58:].set(0.7), kpi=batch.kpi.at[58:].set(1e6))
        density = jax.jit(lambda batch: evaluate_density(positions, batch, batch.series(POINTS), setting.structure))
        for one, other in zip(density(batch), density(changed), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("name", [pytest.param("saturation", marks=pytest.mark.nightly), "all"])
def test_a_fit_is_certified_and_alone_is_together(name: str) -> None:
    model, parameters = CASES[name]
    fleet = ragged_fleet()
    several = with_units(fleet, fleet.units[:3])
    prior = Prior(parameters=FrozenMapping(parameters))
    spec = settings(fleet.data, max_draws=1024)
    spec = type(spec)(data=spec.data, model=Model(**model), prior=prior, inference=spec.inference, compute=spec.compute)
    together = digests(several, spec)
    alone = fit(with_units(fleet, fleet.units[1:2]), spec)
    (labels,) = alone
    assert digests(with_units(fleet, fleet.units[1:2]), spec)[labels] == together[labels]
    assert alone[labels].status.startswith("ok"), alone[labels].reason
    names = set(alone[labels].tables["params"]["parameter"])
    assert names >= set(sampled_parameters(Model(**model)))
