"""Verdicts on units and on the fleet."""

from mixfleet.reporting.health import judge
from mixfleet.reporting.highlights import KINDS, SEVERITIES, Highlight

UNITS = [("a",), ("b",), ("c",), ("d",)]


def remark(kind: str, unit: str) -> Highlight:
    return Highlight(kind=kind, unit=(unit,), text="something")


def test_without_a_doubt_everything_passes() -> None:
    found = judge(UNITS, [remark("far", "a")])
    assert found.verdict == "pass"
    assert found.counts == {"pass": 4, "review": 0, "fail": 0}
    assert found.reasons == []


def test_the_worst_remark_decides_a_unit() -> None:
    found = judge(UNITS, [remark("overlap", "b"), remark("rejected", "b"), remark("fit", "c"), remark("fit", "c")])
    assert dict(found.units) == {("a",): "pass", ("b",): "fail", ("c",): "review", ("d",): "pass"}
    assert found.verdict == "review"
    assert [(group.kind, group.units, len(group.remarks)) for group in found.groups] == [
        ("rejected", 1, 1),
        ("fit", 1, 2),
        ("overlap", 1, 1),
    ]
    assert found.reasons[0] == f"1 unit: {KINDS['rejected'].title}"


def test_where_half_fail_the_fleet_does() -> None:
    assert judge(UNITS, [remark("error", "a"), remark("unsettled", "b")]).verdict == "fail"
    assert judge([], []).verdict == "fail"


def test_every_kind_says_what_to_do() -> None:
    assert all(kind.severity in SEVERITIES and kind.title and kind.step for kind in KINDS.values())


def test_a_loosened_gate_is_a_reason_for_review() -> None:
    gates = ["inference.rhat_max is 1.05, usually 1.01"]
    found = judge([("acme", "DE")], [], loosened=gates)
    assert found.verdict == "review"
    assert found.reasons == [f"units are certified by a loosened gate: {gates[0]}"]
