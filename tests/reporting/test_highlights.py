"""What is said of a run's units, each of it once."""

from typing import Any

from mixfleet.reporting.highlights import Highlight, highlights

KEYS = ("brand", "market")
DE, FR = {"brand": "acme", "market": "DE"}, {"brand": "acme", "market": "FR"}
SAID = "the lift test dark of tv measured a lift of 9"


def remarks(checks: list[dict[str, Any]], experiments: list[dict[str, Any]]) -> list[Highlight]:
    status = [{**unit, "status": "ok", "reason": ""} for unit in (DE, FR)]
    found = highlights(status, [], [], [], checks, experiments, KEYS)
    return [remark for remark in found if remark.kind == "experiment"]


def check(verdict: str) -> dict[str, Any]:
    numbers = {"statistic": 4.0 if verdict == "doubt" else 1.0, "threshold": 2.8}
    return {**DE, "kind": "experiment_conflict", "verdict": verdict, "statement": SAID, **numbers}


def row(unit: dict[str, str]) -> dict[str, Any]:
    told = {"test": "dark", "channel": "tv", "conflict": True, "tail": 1e-4, "statement": "at odds"}
    return {**unit, **told}


def test_a_test_that_a_check_speaks_of_is_named_once() -> None:
    [found] = remarks([check("doubt")], [row(DE)])
    assert (found.unit, found.text) == (("acme", "DE"), SAID)
    assert remarks([check("passed")], [row(DE)]) == []


def test_a_test_of_several_units_together_is_a_remark_of_each() -> None:
    found = remarks([check("passed")], [row({"brand": "acme", "market": "*"})])
    assert [remark.unit for remark in found] == [("acme", "DE"), ("acme", "FR")]


def test_of_a_run_without_the_check_tests_are_still_told() -> None:
    assert [remark.unit for remark in remarks([], [row(FR)])] == [("acme", "FR")]
