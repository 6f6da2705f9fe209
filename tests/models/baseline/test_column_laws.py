"""Column laws: what is cut is scaled up again, and told by its own moments."""

import numpy as np
import pytest
from scipy import stats

from mixfleet.config import Data, Model, Pooling, Prior, Spec, build
from mixfleet.config.priors import Distribution, distribution
from mixfleet.errors import ConfigError
from mixfleet.models import baseline
from mixfleet.models.baseline import ColumnLaw

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


def test_pooling_structures_and_lasting_noise_refuse_coefficients_that_are_sampled() -> None:
    with pytest.raises(ConfigError, match=r"model\.signs\.rain.*cannot be pooled"):
        Spec(data=DATA, model=Model(signs={"rain": "positive"}), pooling=Pooling(by="market"))
    laplace = build(Prior, {"parameters": {"control": {"family": "laplace", "mean": 0, "scale": 0.1}}})
    averaged = build(Model, {"structures": [{"saturation": "logistic"}, {"saturation": "hill"}]})
    with pytest.raises(ConfigError, match=r"prior\.parameters\.control.*model\.structures"):
        Spec(data=DATA, model=averaged, prior=laplace)
    for key, model, prior in (
        (r"model\.signs\.rain", Model(signs={"rain": "positive"}, observation="ar1"), Prior()),
        (r"prior\.parameters\.control", Model(observation="ar1"), laplace),
    ):
        with pytest.raises(ConfigError, match=rf"{key}.*model\.observation=ar1"):
            Spec(data=DATA, model=model, prior=prior)
