"""Sensitivity: draws of one prior weighed as draws of another."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.analysis.tables.sensitivity import sensitivity
from mixfleet.config import Model
from mixfleet.config.priors import PARAMETERS
from mixfleet.errors import ConfigError
from mixfleet.models.batch import prepare
from mixfleet.posterior.prior_draws import mean_responses
from mixfleet.posterior.unit_series import series_variables
from tests.support.saved_run import saved_run


def told(fleet: Any, alternatives: Any = None) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in sensitivity(fleet, alternatives).to_pylist():
        found.setdefault(row["alternative"], []).append(row)
    return found


def test_a_prior_to_a_power_is_the_one_of_its_family_with_that_power(tmp_path: Path) -> None:
    fleet = saved_run(tmp_path, Model(), draws=150).fleet()
    linear = {name: own.default for name, own in PARAMETERS.items() if own.linear}
    # A normal to the power 1/2 has a standard deviation of sqrt(2) times as much; Beta(a, b) squared is
    # Beta(2a - 1, 2b - 1), and LogNormal(m, s) squared LogNormal(m - s^2 / 2, s / sqrt(2)).
    wider = {name: {"sd": float(np.sqrt(2)) * prior.hyperparameters["sd"]} for name, prior in linear.items()}
    squared = {
        "decay": {"a": 1, "b": 5},
        "slope": {"mean_log": 0.2 - 0.5**2 / 2, "sd_log": 0.5 / float(np.sqrt(2))},
        "half_saturation": {"mean_log": -0.7 - 0.7**2 / 2, "sd_log": 0.7 / float(np.sqrt(2))},
    }
    scaled, given = told(fleet), told(fleet, {"baseline x 0.5": wider, "curves x 2": squared})
    assert len(scaled) == 5
    for name, rows in given.items():
        assert len(rows) == len(scaled[name]) > 0
        for one, other in zip(rows, scaled[name], strict=True):
            assert (one["channel"], one["brand"]) == (other["channel"], other["brand"])
            for number in ("k", "ess", "shift", "ratio", "sd_ratio"):
                assert one[number] == pytest.approx(other[number], rel=1e-6, nan_ok=True)


def test_weights_are_the_ratio_of_the_priors(tmp_path: Path) -> None:
    fleet = saved_run(tmp_path, Model(), draws=150).fleet()
    # Almost the same prior of one parameter, so that no weight is smoothed by much.
    rows = told(fleet, {"near": {"noise": {"sd": 0.21}}})["near"]
    series = next(fleet.series())
    noise, scale = series.observation[0], fleet.scales[0].kpi
    weight = np.exp(-0.5 * (noise / scale) ** 2 * (0.21**-2 - 0.2**-2))
    weight /= weight.sum()
    assert rows[0]["ess"] == pytest.approx(1 / np.sum(weight**2), rel=1e-2)


def test_the_runs_own_prior_moves_nothing(tmp_path: Path) -> None:
    fleet = saved_run(tmp_path, Model(), draws=150).fleet()
    for row in told(fleet, {"same": {}})["same"]:
        assert row["reliable"]
        assert row["shift"] == pytest.approx(0.0, abs=1e-12)
        assert row["sd_ratio"] == pytest.approx(1.0)


def test_what_is_no_prior_is_refused(tmp_path: Path) -> None:
    fleet = saved_run(tmp_path, Model()).fleet()
    with pytest.raises(ConfigError, match=r"alternatives\.long\.dekay"):
        sensitivity(fleet, {"long": {"dekay": {"a": 1}}})
    with pytest.raises(ConfigError, match=r"decay"):
        sensitivity(fleet, {"long": {"decay": {"sd": 1}}})


def test_units_that_weights_cannot_tell_of_are_told_by_the_fit_that_is_given(tmp_path: Path) -> None:
    fleet = saved_run(tmp_path, Model(), draws=150).fleet()
    far, asked = {"far": {"decay": {"a": 900, "b": 1}}}, []
    variables = series_variables(fleet.spec.model)
    draws = fleet.archive.read_block(slice(0, 1), draws=fleet.draws, variables=variables)[0]

    def refit(own: Any, spec: Any, places: Any) -> Any:
        asked.append((spec.prior.of("decay").hyperparameters["a"], len(places)))
        yield places[0], {name: values[0] for name, values in draws.items()}

    table = sensitivity(fleet, far, refit=refit).to_pylist()
    assert asked == [(900, len(fleet.units))]
    keys = [tuple(row[key] for key in fleet.keys) for row in table]
    for labels, row in zip(keys, table, strict=True):
        if labels == fleet.units[0].labels:
            assert (row["basis"], row["reliable"], row["ratio"]) == ("refitted", True, pytest.approx(1.0))
        else:
            assert (row["basis"], row["reliable"]) == ("", False)
            assert np.isnan(row["shift"])


def test_what_channels_bring_is_read_where_the_fit_kept_it(tmp_path: Path) -> None:
    fleet = saved_run(tmp_path, Model(), draws=150).fleet()
    kept = []
    for place, series in enumerate(fleet.series()):
        member = prepare(fleet.units[place], fleet.panel, fleet.spec)
        with jax.enable_x64(True):
            response = mean_responses(member, series.shape, fleet.term)
        kept.append((series.effect * response * member.contribution_weeks.sum()).T.astype(np.float32))

    class Kept(Fleet):
        def contributions(self) -> Any:
            yield from kept

    own = Kept(**{field.name: getattr(fleet, field.name) for field in fields(fleet)})
    for one, other in zip(sensitivity(own).to_pylist(), sensitivity(fleet).to_pylist(), strict=True):
        assert one["basis"] == other["basis"]
        for number in ("k", "shift", "ratio", "sd_ratio"):
            assert one[number] == pytest.approx(other[number], rel=1e-4, abs=1e-5, nan_ok=True)
