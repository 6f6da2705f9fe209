"""Simulation-based calibration passes for the engine as it is, and fails for every engine that is wrong in a known way.

The mistakes are planted in the engine, not in the simulator, unless the mistake is to fit another model than was
simulated. Each of them would give plausible numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from mixfleet.config import Data, Model, Pooling, Prior, Simulation, Spec, build, preset
from mixfleet.config.measures import On
from mixfleet.config.priors import TotalShare
from mixfleet.errors import ConfigError
from mixfleet.evaluation import sbc
from mixfleet.evaluation.sbc import LEVELS, Calibration, calibrate, p_value
from mixfleet.inference import compiled, hmc, native_block, sinh_arcsinh
from mixfleet.models import log_density
from mixfleet.models.priors import families
from mixfleet.posterior import summarize
from mixfleet.simulation import fleet as simulate
from tests.inference.test_hmc import SKEWED_MEAN, SKEWED_VARIANCE, check_moments, covariances, gaussian, sampled, skewed
from tests.support.agreement import HILL, LOGISTIC

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

REPLICATES = {"brands": 16, "markets": 16}
SHAPE = {"weeks": 60, "channels": 2, "controls": 1}


def settings(model: Model | None = None, **simulation: Any) -> Spec:
    sizes = {**REPLICATES, **SHAPE, **simulation}
    return Spec(data=Data(source="simulated", simulated=Simulation(**sizes)), model=model or Model())


def worst(found: Calibration) -> str:
    rows = sorted(found.table.to_pylist(), key=lambda row: row["p_value"])
    return f"{found.statuses} " + "; ".join(f"{row['quantity']} {row['p_value']:.5f}" for row in rows[:4])


def test_uniform_ranks_have_uniform_p_values():
    random = np.random.default_rng(1)
    found = np.array([p_value(random.integers(0, LEVELS + 1, 256)) for _ in range(400)])
    assert abs(np.mean(found < 0.1) - 0.1) < 0.05
    assert abs(np.mean(found) - 0.5) < 0.06


@pytest.mark.parametrize(
    ("ranks", "most"),
    [
        (lambda random: random.normal(0.45 * 97, 28, 1024).clip(0, LEVELS), 1e-3),
        (lambda random: 48 + 0.8 * (random.integers(0, 97, 1024) - 48), 1e-3),
        (lambda random: np.repeat(48, 256), 1e-3),
    ],
    ids=["shifted", "too_wide", "all_the_same"],
)
def test_other_ranks_have_small_ones(ranks: Callable[..., np.ndarray], most: float):
    assert p_value(ranks(np.random.default_rng(2)).astype(int)) <= most


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"simulated": Simulation(truth="fixed")}, "data.simulated.truth"), ({"holdout": 4}, "data.holdout")],
)
def test_what_cannot_be_calibrated_is_refused(changes: dict[str, Any], key: str):
    with pytest.raises(ConfigError, match=key):
        calibrate(Spec(data=Data(source="simulated", **changes)))


@pytest.mark.slow
def test_ranks_are_uniform():
    found = calibrate(settings())
    assert sum(found.statuses.values()) == 256
    assert found.passed, worst(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes",
    [{"brands": 8, "markets": 12}, pytest.param({"experiments": 4}, marks=pytest.mark.nightly)],
    ids=["two_tests", "four_tests"],
)
def test_ranks_with_lift_tests_are_uniform(sizes: dict[str, int]):
    """Tests of each unit whose lifts the simulator worked out, of whatever channel, media and standard error."""
    found = calibrate(settings(**{"experiments": 2, **sizes}))
    assert {"lift[0]", "lift[1]"} <= set(found.table["quantity"].to_pylist())
    assert found.passed, worst(found)


MIXED = build(Model, {"channels": {"tv": {"saturation": "hill"}, "search": {"adstock": "none", "saturation": "log"}}})


DATED = build(
    Model,
    {
        "baseline": [
            {"term": "intercept"},
            {"term": "knots", "every": 13},
            {"term": "holidays", "country": "US", "before": 1},
            {"term": "events", "name": "sales", "at": ["2022-03-07", "2022-11-14/2022-11-27"], "after": 7},
        ]
    },
)
PROCESS = build(Model, {"baseline": [{"term": "intercept"}, {"term": "hsgp", "basis": 12}]})
LEARNED = build(
    Model,
    {
        "baseline": [
            {"term": "intercept"},
            {"term": "random_walk", "over": 78, "scale": "learned"},
            {"term": "fourier", "scale": "learned"},
        ]
    },
)
SIGNED = build(Model, {"signs": {"control_1": "negative", "trend": "positive"}})
LAWS = {
    "seasonality": {"family": "laplace", "mean": 0, "scale": 0.05},
    "control": {"family": "student_t", "df": 4, "mean": 0, "scale": 0.1},
}
KNOWN = build(Prior, {"parameters": {"slope": {"family": "fixed", "value": 1.5}}})


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize(
    "changes",
    [
        {"prior": Prior(on=On(media="roi"))},
        {"prior": Prior(on=On(media="mroi"))},
        {"prior": Prior(on=On(media="contribution"))},
        {"prior": Prior(on=On(media="effect"))},
        {"model": preset("model", "moving")},
        {"model": MIXED},
        {"model": DATED},
        {"model": PROCESS},
        {"model": Model(link="log")},
        {"model": LOGISTIC},
        {"model": HILL},
        {"model": replace(LOGISTIC, observation="ar1")},
        {"model": Model(observation="normal", link="log")},
        {"prior": KNOWN},
        {"prior": Prior(total_share=TotalShare(mean=0.4, sd=0.05))},
        {"model": SIGNED, "prior": build(Prior, {"parameters": LAWS})},
        {"model": replace(SIGNED, observation="normal"), "prior": build(Prior, {"parameters": LAWS})},
        {"model": LEARNED},
        {"model": replace(LEARNED, observation="normal")},
    ],
    ids=[
        "roi",
        "mroi",
        "contribution",
        "effect",
        "moving_baseline",
        "mixed_forms",
        "dated_terms",
        "hsgp",
        "log_link",
        "logistic",
        "hill",
        "logistic_autocorrelated",
        "independent_log_link",
        "fixed_values",
        "total_share",
        "signs_and_laws_of_coefficients",
        "independent_signs_and_laws",
        "learned_scales",
        "independent_learned_scales",
    ],
)
def test_ranks_of_other_parts_are_uniform(changes: dict[str, Any]):
    found = calibrate(replace(settings(), **changes))
    assert found.passed, worst(found)


@pytest.mark.hours
@pytest.mark.parametrize(
    "model",
    [Model(), LOGISTIC, HILL, Model(adstock="delayed", adstock_first=False)],
    ids=["default", "logistic", "hill", "delayed_saturation_first"],
)
def test_ranks_of_a_thousand_are_uniform(model: Model):
    found = calibrate(settings(model, brands=32, markets=32))
    assert found.passed, worst(found)


POOLED = replace(settings(brands=48, markets=3), pooling=Pooling(by="brand"))
"""48 joint posteriors of three units each."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "unpooled",
    [(), pytest.param(("effect", "adstock", "saturation"), marks=pytest.mark.nightly)],
    ids=["all", "baseline"],
)
def test_ranks_in_groups_are_uniform(unpooled: tuple[str, ...]):
    found = calibrate(replace(POOLED, pooling=replace(POOLED.pooling, **dict.fromkeys(unpooled))))
    ranked = dict(zip(found.table["quantity"].to_pylist(), found.table["replicates"].to_pylist(), strict=True))
    assert ranked["spread[unit][0]"] == ranked["noise"] == ranked["autocorrelation"] == ranked["next_week"] == 48
    assert found.passed, worst(found)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("model", [LOGISTIC, HILL], ids=["logistic", "hill"])
def test_ranks_in_groups_of_other_models_are_uniform(model: Model):
    found = calibrate(replace(POOLED, model=model))
    assert found.passed, worst(found)


@pytest.mark.slow
@pytest.mark.nightly
def test_ranks_in_groups_with_lift_tests_are_uniform():
    """Each unit has a test, from which its neighbours learn."""
    found = calibrate(replace(POOLED, data=settings(brands=48, markets=3, experiments=1).data))
    ranked = dict(zip(found.table["quantity"].to_pylist(), found.table["replicates"].to_pylist(), strict=True))
    assert ranked["lift[0]"] == ranked["centre[0]"] == 48
    assert found.passed, worst(found)


@pytest.mark.slow
@pytest.mark.nightly
def test_ranks_in_groups_whose_units_were_tested_together_are_uniform():
    found = calibrate(replace(POOLED, data=settings(brands=48, markets=3, joint_experiments=2).data))
    ranked = dict(zip(found.table["quantity"].to_pylist(), found.table["replicates"].to_pylist(), strict=True))
    assert ranked["lift[0]"] == ranked["lift[1]"] == ranked["centre[0]"] == 48
    assert found.passed, worst(found)


@pytest.mark.slow
@pytest.mark.nightly
def test_ranks_in_groups_that_share_returns_are_uniform():
    found = calibrate(replace(POOLED, prior=Prior(on=On(media="roi"))))
    assert found.passed, worst(found)


@pytest.mark.slow
@pytest.mark.nightly
def test_ranks_in_groups_with_types_are_uniform():
    """Two of three channels are of one type, for which decay, rate and effect each have a mean and a spread."""
    fleet = settings(brands=48, markets=3, channels=3)
    found = calibrate(replace(fleet, pooling=Pooling(by="brand", types={"first": ["tv", "search"]})))
    ranked = dict(zip(found.table["quantity"].to_pylist(), found.table["replicates"].to_pylist(), strict=True))
    assert ranked["mean[type 2]"] == ranked["spread[type 2]"] == 48
    assert found.passed, worst(found)


@pytest.mark.hours
@pytest.mark.parametrize("model", [Model(), LOGISTIC], ids=["default", "logistic"])
def test_ranks_in_a_thousand_groups_are_uniform(model: Model):
    found = calibrate(replace(settings(model, brands=1024, markets=3), pooling=Pooling(by="brand")))
    assert found.passed, worst(found)


@pytest.fixture
def anew() -> Iterator[None]:
    """Programs compiled with a planted mistake serve nobody else."""
    compiled.program.cache_clear()
    jax.clear_caches()
    yield
    compiled.program.cache_clear()
    jax.clear_caches()


def truth_of_another_prior(patch: pytest.MonkeyPatch) -> None:
    usual = simulate.from_config
    distributions = {name: dict(distribution.hyperparameters) for name, distribution in Prior().parameters.items()}
    wider = build(
        Prior,
        {
            "parameters": {
                name: {"sd": 1.25 * distribution["sd"]}
                for name, distribution in distributions.items()
                if "sd" in distribution
            }
        },
    )
    patch.setattr(sbc.simulate, "from_config", lambda simulation, _, *rest: usual(simulation, wider, *rest))


def no_jacobian(patch: pytest.MonkeyPatch) -> None:
    def without(usual: Any, bounded: bool) -> Any:
        return lambda u, hyper: usual(u, hyper) - (families.log_normal(u) if bounded else u)

    for family in families.FAMILIES.values():
        patch.setattr(family, "log_prob", without(family.log_prob, family.bounded))


def lag_off_by_one(patch: pytest.MonkeyPatch) -> None:
    usual, likelihood = log_density.windows, log_density.likelihood

    def later(*arguments: Any) -> Any:
        weights, tangents, rest = usual(*arguments)
        return jax.numpy.roll(weights, 1, 0), tuple(jax.numpy.roll(t, 1, 0) for t in tangents), rest

    # A recursion has no windows that could be late.
    patch.setattr(
        log_density, "likelihood", lambda *arrays, **options: likelihood(*arrays, **options | {"decay": None})
    )
    patch.setattr(log_density, "windows", later)


def unnormalised(patch: pytest.MonkeyPatch) -> None:
    usual = simulate.from_config
    patch.setattr(
        sbc.simulate,
        "from_config",
        lambda simulation, prior, model, *rest: usual(simulation, prior, replace(model, normalise=False), *rest),
    )


def likelihood_changed(change: Callable[[Any], Any], **inputs: Callable[[Any], Any]) -> Callable[..., None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        usual = log_density.likelihood

        def wrong(series: Any, w: Any, t: Any, family: str, parameters: Any, strength: Any, log_noise: Any, **k: Any):
            parameters = inputs.get("parameters", tuple)(parameters)
            return change(
                usual(series, w, t, family, parameters, strength, inputs.get("noise", unchanged)(log_noise), **k)
            )

        patch.setattr(log_density, "likelihood", wrong)

    return plant


def unchanged(values: Any) -> Any:
    return values


def tempered(share: float) -> Callable[[Any], Any]:
    def temper(found: Any) -> Any:
        return found._replace(
            value=share * found.value,
            by_shape=tuple(share * values for values in found.by_shape),
            by_effect=share * found.by_effect,
            by_log_noise=share * found.by_log_noise,
        )

    return temper


def swapped(found: Any) -> Any:
    """The gradients that belong to curve parameters which went in in the wrong order."""
    *adstock, slope, half = found.by_shape
    *mean_adstock, mean_slope, mean_half = found.mean_by_shape
    return found._replace(by_shape=(*adstock, half, slope), mean_by_shape=(*mean_adstock, mean_half, mean_slope))


def always_accept(patch: pytest.MonkeyPatch) -> None:
    usual = hmc._draws
    patch.setattr(hmc, "_draws", lambda state: usual(state)._replace(threshold=usual(state).threshold - 1))


def same_momentum(patch: pytest.MonkeyPatch) -> None:
    usual = hmc._draws
    patch.setattr(
        hmc,
        "_draws",
        lambda state: usual(state)._replace(whitened=usual(state._replace(transition=0 * state.transition)).whitened),
    )


def stale_metric(patch: pytest.MonkeyPatch) -> None:
    """Momenta are drawn for another unit's metric than the one they move under."""
    usual = hmc._set_off

    def stale(state: Any, *rest: Any) -> Any:
        own = state.adaptation
        other = own._replace(metric=own.metric._replace(inverse=jax.numpy.roll(own.metric.inverse, 1, 0)))
        return usual(state._replace(adaptation=other), *rest)._replace(adaptation=own)

    patch.setattr(hmc, "_set_off", stale)


def map_without_jacobian(patch: pytest.MonkeyPatch) -> None:
    """Chains move in mapped coordinates as if a stretch of these were as long everywhere."""

    def without(there: Any, value: Any, gradient: Any, extra: Any) -> Any:
        return value, gradient * there.slope, sinh_arcsinh.Original(there.position, value, extra)

    patch.setattr(sinh_arcsinh, "_mapped", without)


def permuted_channels(patch: pytest.MonkeyPatch) -> None:
    usual = summarize._natural

    def permuted(*arguments: Any) -> dict[str, Any]:
        natural = usual(*arguments)
        return {name: np.roll(v, 1, 0) if name in ("effect", "contribution") else v for name, v in natural.items()}

    patch.setattr(summarize, "_natural", permuted)


MISTAKES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], Model]] = {
    "no_jacobian": (no_jacobian, Model()),
    "lag_off_by_one": (lag_off_by_one, Model()),
    "unnormalised": (unnormalised, Model()),
    "slope_and_half_swapped": (
        likelihood_changed(swapped, parameters=lambda pair: tuple(reversed(pair))),
        Model(saturation="hill"),
    ),
    "variance_read_as_sd": (likelihood_changed(unchanged, noise=lambda log_noise: 0.5 * log_noise), Model()),
    "half_the_likelihood": (likelihood_changed(tempered(0.5)), Model()),
    "no_likelihood": (likelihood_changed(tempered(0.0)), Model()),
    "same_momentum": (same_momentum, Model()),
    "permuted_channels": (permuted_channels, Model()),
}

SUBTLE = ("half_the_likelihood",)
"""It is looked for where there is little time; those of the sampler are held by the known moments below."""


@pytest.mark.slow
@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SUBTLE else pytest.mark.nightly) for name in MISTAKES]
)
def test_every_planted_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch):
    plant, model = MISTAKES[name]
    plant(monkeypatch)
    # They are planted in the functions in XLA.
    monkeypatch.setattr(native_block, "form_of", lambda *_: None)
    spec = settings(model)
    # A wrong engine may never be certified; its draws are judged all the same, and the ladder would only take time.
    found = calibrate(replace(spec, inference=replace(spec.inference, ladder=False, max_draws=768)))
    assert not found.passed, worst(found)


@pytest.mark.hours
def test_another_prior_is_found_among_a_thousand(monkeypatch: pytest.MonkeyPatch):
    """A fourth more spread in every prior is a small mistake where the data speak."""
    truth_of_another_prior(monkeypatch)
    found = calibrate(settings(brands=32, markets=32))
    assert not found.passed, worst(found)


def find_known_moments() -> None:
    with jax.enable_x64(True):
        found = sampled(gaussian(covariances(3), 8), 3, 8, length=24)
        for draws, covariance in zip(found.draws, covariances(3), strict=True):
            check_moments(draws, np.arange(1.0, covariance.shape[0] + 1), np.sqrt(np.diag(covariance)))
        check_moments(sampled(skewed, 1, 16, length=24).draws[0], SKEWED_MEAN, np.sqrt(SKEWED_VARIANCE))


@pytest.mark.slow
@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize(
    "plant",
    [
        always_accept,
        map_without_jacobian,
        *(pytest.param(each, marks=pytest.mark.nightly) for each in (same_momentum, stale_metric)),
    ],
)
def test_a_wrong_sampler_misses_known_moments(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
):
    """Three of these change a fleet's posteriors by less than 256 replicates can show."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        find_known_moments()
