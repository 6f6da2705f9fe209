"""Law 5: `ok` means that every gate was passed; who passes none is set aside in full view."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mixfleet
from mixfleet.fitting import driver
from mixfleet.fitting.retries import result_of
from mixfleet.inference import certification
from mixfleet.inference.certification import Verdict, judge
from mixfleet.inference.scheduler import Finished
from mixfleet.posterior.unit_result import UnitResult
from tests.support.quick import digests, fit, ragged_fleet, settings, simulated, with_units

pytestmark = pytest.mark.usefixtures("programs")
FLEET = ragged_fleet()
ONE = with_units(FLEET, [unit for unit in FLEET.units if not unit.warnings][:1])
TABLES = ("roi", "contributions", "curves", "params", "weekly", "fit")
REFUSED = "R-hat 9.000 is not below 1.01"


def test_units_that_cannot_pass_are_quarantined_wherever_they_are_named(tmp_path: Path) -> None:
    spec = settings(FLEET.data, ess_floor=10**5, ess_target=10**5, max_draws=100)
    run = mixfleet.fit(simulated().table, spec, run={"root": str(tmp_path), "id": "r"})
    labels = {unit.labels for unit in FLEET.units}
    status = run.table("status").to_pandas()
    assert set(zip(status["brand"], status["market"], strict=True)) == labels
    assert set(status["status"]) == {"quarantined"}
    assert status["reason"].str.contains("effective draws .* are fewer than 100000").all()
    assert np.all(status["draws"] >= 100)
    for name in TABLES:
        table = run.table(name).to_pandas()
        assert set(zip(table["brand"], table["market"], strict=True)) == labels, name
        assert set(table["status"]) == {"quarantined"}, name
    assert run.ok_share == 0.0
    tree = run.unit(*FLEET.units[0].labels).to_datatree()
    assert tree["posterior"].attrs["status"] == "quarantined"


def test_only_those_that_pass_are_ok() -> None:
    # The median unit's effective draws as floor: some pass and some do not.
    reached = [result.diagnostics for result in fit(FLEET).values()]
    floor = int(np.median([min(each["ess_bulk_min"], each["ess_tail_min"]) for each in reached]))
    spec = settings(FLEET.data, ess_floor=floor, ess_target=floor)
    results = fit(FLEET, spec)
    assert {result.status.partition("_")[0] for result in results.values()} == {"ok", "quarantined"}
    for result in results.values():
        found = result.diagnostics
        passed = (
            min(found["ess_bulk_min"], found["ess_tail_min"]) >= floor
            and found["rhat_max"] < spec.inference.rhat_max
            and found["ebfmi_min"] > spec.inference.ebfmi_min
            and found["divergences"] <= 1e-3 * found["draws"] * found["chains"]
        )
        assert passed == result.status.startswith("ok"), result.reason
        assert result.status == "ok" or result.reason
        # The gates cover parameters and contributions; what the table says of a parameter is never worse.
        params = result.tables["params"]
        assert np.nanmin(params["ess_bulk"]) >= found["ess_bulk_min"]
        assert np.nanmax(params["rhat"]) <= found["rhat_max"]


def failing(times: int, *, mixing: bool = False) -> tuple[list[int], Callable[..., Verdict]]:
    """A judge that refuses so often and then lets everything pass, and the trajectories it was shown."""
    shown: list[int] = []

    def refuse(*arguments: Any, **keywords: Any) -> Verdict:
        verdict = judge(*arguments, **keywords)
        shown.append(keywords["trajectories"])
        if len(shown) <= times:
            return replace(verdict, passed=False, enough=False, hopeless=False, mixing=mixing, reason=REFUSED)
        return replace(verdict, passed=True, enough=True, reason="")

    return shown, refuse


@pytest.mark.parametrize(
    ("failures", "status", "rung", "reason"),
    [
        (0, "ok", 0, ""),
        (1, "ok_retried", 1, "certified on rung 1"),
        (2, "ok_retried", 2, "certified on rung 2"),
        (3, "ok_fallback", 3, "certified in double precision"),
        (4, "quarantined", 3, REFUSED),
    ],
)
def test_the_ladder_is_climbed_rung_by_rung(
    failures: int, status: str, rung: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    climbed: list[tuple[int, int, str, float]] = []
    sampled = driver._sample

    def note(kind: Any, finished: Finished) -> None:
        climbed.append((finished.job.rung, finished.job.copies, kind.dtype, finished.job.target_accept))

    def watched(kind: Any, *arguments: Any, **keywords: Any) -> Any:
        for outcome in sampled(kind, *arguments, **keywords):
            # What has a result already was noted as it was made.
            if isinstance(outcome, Finished):
                note(kind, outcome)
            yield outcome

    def told(finished: Finished, kind: Any, *arguments: Any) -> UnitResult:
        note(kind, finished)
        return result_of(finished, kind, *arguments)

    shown, refuse = failing(failures)
    monkeypatch.setattr(certification, "judge", refuse)
    monkeypatch.setattr(driver, "_sample", watched)
    monkeypatch.setattr(driver, "result_of", told)
    result = fit(ONE, settings(ONE.data, ladder=True, max_draws=256))[ONE.units[0].labels]
    assert (result.status, result.rung, result.reason) == (status, rung, reason)
    assert len(shown) == min(failures, 3) + 1
    # The first three share a batch.
    rungs = [
        (min(failures, 2), 4 if failures >= 2 else 1, "float32", 0.95 if failures else 0.8),
        (3, 1, "float64", 0.99),
    ]
    assert climbed == rungs[: max(failures - 1, 1)]
    assert all(len(table) for table in result.tables.values())


def test_a_unit_that_takes_too_long_is_given_up_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _, refuse = failing(99)
    monkeypatch.setattr(certification, "judge", refuse)
    began = time.monotonic()
    quick = settings(ONE.data, ladder=True, max_draws=2000, rung_seconds=1e-3)
    result = fit(ONE, quick)[ONE.units[0].labels]
    assert (result.status, result.rung) == ("quarantined", 3)
    assert "sampling was given up after 0.001 s (inference.rung_seconds)" in result.reason
    assert result.diagnostics["draws"] < 2000
    assert time.monotonic() - began < 120


def test_what_is_certified_ends_the_same_however_little_time_it_has() -> None:
    own = settings(ONE.data)
    little = replace(own, inference=replace(own.inference, rung_seconds=1e-6))
    assert digests(ONE, own) == digests(ONE, little)


def test_chains_that_only_mix_badly_are_not_tried_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, refuse = failing(99, mixing=True)
    monkeypatch.setattr(certification, "judge", refuse)
    result = fit(ONE, settings(ONE.data, ladder=True, max_draws=256))[ONE.units[0].labels]
    assert (result.status, result.rung, result.reason) == ("quarantined", 2, REFUSED)
    assert len(shown) == 3


def test_without_a_ladder_nothing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, refuse = failing(1)
    monkeypatch.setattr(certification, "judge", refuse)
    result = fit(ONE)[ONE.units[0].labels]
    assert (result.status, result.rung, result.reason) == ("quarantined", 0, REFUSED)
    assert len(shown) == 1
