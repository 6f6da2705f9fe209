"""Column laws: what is cut is scaled up again, and told by its own moments."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from mixfleet.config import Data, Model, Pooling, Prior, Spec, build
from mixfleet.config.priors import Distribution, distribution
from mixfleet.errors import ConfigError
from mixfleet.models import baseline
from mixfleet.models.baseline import ColumnLaw

LEARNED = [{"term": "intercept"}, {"term": "fourier", "scale": "learned"}]
DATA = Data(controls=("price", "rain"), treatments=("promo",))
LAWS = [
    ColumnLaw(distribution("normal", mean=0.1, sd=0.2), 1),
    ColumnLaw(distribution("normal", mean=0.1, sd=0.2), -1),
    ColumnLaw(distribution("laplace", mean=0.0, scale=0.1)),
    ColumnLaw(distribution("laplace", mean=-0.05, scale=0.1), -1),
    ColumnLaw(distribution("student_t", df=4, mean=0.3, scale=0.2), -1),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.family}{law.sign}")
def test_density_and_moments_are_of_the_cut_prior(law: ColumnLaw) -> None:
    # A substitution that reaches far into the tails.
    place = np.linspace(-16, 16, 400_001)
    grid, width = np.sinh(place) / 1e3, np.cosh(place) / 1e3 * (place[1] - place[0])
    density = np.exp(law.log_prob(grid)) * width
    mean, sd = law.moments
    assert np.sum(density) == pytest.approx(1.0, abs=1e-4)
    assert np.sum(density * grid) == pytest.approx(mean, rel=1e-3, abs=1e-6)
    assert np.sqrt(np.sum(density * (grid - mean) ** 2)) == pytest.approx(sd, rel=1e-3)
    assert not law.sign or np.all(density[law.sign * grid < 0] == 0)
    drawn = law.from_normal(stats.norm.ppf((np.arange(40_000) + 0.5) / 40_000))
    assert (drawn.mean(), drawn.std()) == pytest.approx((mean, sd), rel=1e-2, abs=1e-6)


def test_a_half_normal_is_what_scipy_says() -> None:
    law = ColumnLaw(distribution("normal", mean=0.0, sd=0.3), 1)
    assert law.moments == pytest.approx((stats.halfnorm(scale=0.3).mean(), stats.halfnorm(scale=0.3).std()), rel=1e-6)


def test_columns_are_sampled_by_family_and_the_others_integrated_out() -> None:
    prior = build(Prior, {"parameters": {"seasonality": {"family": "laplace", "mean": 0, "scale": 0.1}}})
    model = Model(signs={"price": "negative", "promo": "positive"}, seasonality=1)
    blocks = baseline.sampled_blocks(model, DATA, prior)
    assert blocks == (("laplace", (2, 3)), ("normal_of_one_sign", (4, 6)))
    assert baseline.sampled_blocks(Model(), DATA, Prior()) == ()


@pytest.mark.parametrize(
    ("signs", "prior", "key"),
    [
        ({"rian": "positive"}, None, r"model\.signs\.rian"),
        ({"rain": "positive"}, distribution("normal", mean=-1.0, sd=0.1), r"model\.signs\.rain"),
    ],
)
def test_a_sign_of_nothing_or_against_the_prior_is_refused(
    signs: dict[str, str], prior: Distribution | None, key: str
) -> None:
    own = build(Prior, {"parameters": {"control": prior} if prior else {}})
    with pytest.raises(ConfigError, match=key):
        baseline.column_laws(build(Model, {"signs": signs}), DATA, own, {})


def test_a_learned_scale_takes_the_place_of_the_priors_spread() -> None:
    walk = {"term": "random_walk", "over": 26, "ahead": 0, "scale": "learned"}
    model = build(Model, {"baseline": [{"term": "intercept"}, walk, {"term": "fourier"}]})
    assert baseline.learned_scales(model, DATA) == (("random_walk_scale", (1, 2)),)
    assert model.unit_parameters == ("noise", "autocorrelation", "random_walk_scale")
    prior = build(Prior, {"overrides": [{"parameter": "random_walk_scale", "hyperparameters": {"sd": 0.4}}]})
    fixed, learned, other, *_ = baseline.column_laws(model, DATA, prior, {})
    assert learned == other != fixed
    assert learned.moments == pytest.approx((0.0, 0.4), rel=1e-9)
    standard, scale = np.linspace(-2, 2, 9), np.linspace(0.1, 1.0, 9)
    drawn = learned.from_normal(standard, scale)
    np.testing.assert_allclose(learned.log_prob(drawn, scale), stats.norm.logpdf(drawn, 0.0, scale))
    by_column = baseline.by_column({"random_walk_scale": scale}, model, DATA)
    assert [one is None for one in by_column] == [True, False, False, *[True] * (len(by_column) - 3)]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"pooling": {"by": "market"}}, "pooling.by"),
        ({"model": {"signs": {"rain": "positive"}}}, "model.signs"),
        ({"model": {"structures": [{"saturation": "logistic"}, {"saturation": "hill"}]}}, "model.structures"),
        ({"prior": {"parameters": {"control": {"family": "laplace", "mean": 0, "scale": 1}}}}, "prior.parameters"),
        ({"model": {"baseline": [*LEARNED, {"term": "fourier", "order": 1, "name": "more"}]}}, "model.baseline"),
    ],
)
def test_what_has_no_learned_scales_is_refused(changes: dict[str, dict[str, Any]], key: str) -> None:
    own = {**changes, "model": {"baseline": LEARNED, **changes.get("model", {})}}
    with pytest.raises(ConfigError, match=key):
        build(Spec, {"data": {"keys": ["market"], "controls": ["rain"]}, **own})


def test_pooling_and_structures_refuse_coefficients_that_are_sampled() -> None:
    with pytest.raises(ConfigError, match=r"model\.signs\.rain.*cannot be pooled"):
        Spec(data=DATA, model=Model(signs={"rain": "positive"}), pooling=Pooling(by="market"))
    laplace = build(Prior, {"parameters": {"control": {"family": "laplace", "mean": 0, "scale": 0.1}}})
    averaged = build(Model, {"structures": [{"saturation": "logistic"}, {"saturation": "hill"}]})
    with pytest.raises(ConfigError, match=r"prior\.parameters\.control.*model\.structures"):
        Spec(data=DATA, model=averaged, prior=laplace)
