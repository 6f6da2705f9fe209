"""Score tests: chi-squared under the model, whatever the directions have in common with what it fits."""

import numpy as np
from scipy.stats import chi2, kstest

from mixfleet.posterior.model_checks.checked_unit import CheckedUnit
from mixfleet.posterior.model_checks.omissions import omission_checks, score_tests
from tests.support.regressions import Drawn, Fault, baseline_columns, regression, replaced


def test_scores_are_chi_squared_under_the_model():
    rng = np.random.default_rng(0)
    columns = baseline_columns(np.arange(104))
    # Half of what these hold the model can fit, and two new directions.
    directions = np.column_stack([columns[:, 1] + rng.normal(size=104) * 0.6, rng.normal(size=104)])
    directions -= directions.mean(axis=0)
    values = []
    for seed in range(120):
        value, count = score_tests(directions[None], regression(seed).residual)
        assert count == [2]
        values.append(value[0])
    assert kstest(values, chi2(2).cdf).pvalue > 0.001


def test_directions_that_the_model_has_say_nothing():
    columns = baseline_columns(np.arange(104))[:, 2:4]
    value, count = score_tests(columns[None], regression(1).residual)
    assert count == [0]
    assert np.isnan(value).all()


def test_scores_along_what_lasting_noise_is_added_to_are_chi_squared_too():
    direction = np.cumsum(np.random.default_rng(0).normal(size=104))[:, None]
    values = []
    for seed in range(120):
        unit = regression(seed, correlation=0.7)
        values.append(score_tests(unit.as_residuals(direction - direction.mean())[None], unit.residual)[0][0])
    assert kstest(values, chi2(1).cdf).pvalue > 0.001


def test_media_of_months_before_are_found_of_all_channels_at_once():
    def months_late(drawn: Drawn) -> np.ndarray:
        late = np.sum([np.roll(drawn.response, lag, axis=0) for lag in range(5, 13)], axis=0)
        return drawn.baseline + 0.2 * late.sum(axis=1)

    def unit(seed: int, fault: Fault | None) -> CheckedUnit:
        return regression(seed, weeks=156, fault=fault, correlation=0.8)

    def found(fault: Fault | None) -> list[str]:
        checks = [check for seed in range(6) for check in omission_checks(unit(seed, fault))]
        return [check.verdict for check in checks if check.kind == "long_carry_over"]

    assert found(None) == ["passed"] * 6
    assert found(replaced("baseline", months_late)).count("doubt") >= 5


def test_a_larger_break_does_not_hide_itself_by_lasting():
    fault = replaced("baseline", lambda drawn: drawn.baseline + 0.5 * (np.arange(len(drawn.baseline)) > 70))
    checks = [check for seed in range(5) for check in omission_checks(regression(seed, fault=fault))]
    explained = [check.statistic for check in checks if check.kind == "level_break"]
    # Lasting as all of the residuals do, it would explain a quarter of them in the mean.
    assert np.mean(explained) > 0.35
