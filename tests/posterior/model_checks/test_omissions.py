"""Score tests: chi-squared under the model, whatever the directions have in common with what it fits."""

import numpy as np
from scipy.stats import chi2, kstest

from mixfleet.posterior.model_checks.omissions import omission_checks, score_tests
from tests.support.regressions import baseline_columns, regression, replaced


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


def test_a_larger_break_does_not_hide_itself_by_lasting():
    fault = replaced("baseline", lambda drawn: drawn.baseline + 0.5 * (np.arange(len(drawn.baseline)) > 70))
    checks = [check for seed in range(5) for check in omission_checks(regression(seed, fault=fault))]
    explained = [check.statistic for check in checks if check.kind == "level_break"]
    # Lasting as all of the residuals do, it would explain a quarter of them in the mean.
    assert np.mean(explained) > 0.35
