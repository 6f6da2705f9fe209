import pytest

from mixfleet.reporting.fleet_view import EASILY, structures, turned, weights


def test_verdicts_that_a_weak_cause_turns_are_counted_by_channel() -> None:
    def row(channel: str, verdict: str, correlation: float, status: str = "ok") -> dict:
        return {"channel": channel, "verdict": verdict, "correlation": correlation, "status": status}

    rows = [
        row("tv", "above", 0.5),
        row("tv", "below", EASILY / 2),
        row("tv", "below", EASILY),
        row("tv", "above", 0.0, "quarantined"),
        row("search", "above", float("nan")),
        row("radio", "above", 0.0),
    ]
    assert turned(rows, {"ok"}) == [["tv", 1, 2, 1], ["radio", 1, 0, 1]]


def test_structures_are_told_by_unit_and_weighed_over_units() -> None:
    def row(structure: str, weight: float, channel: str, mean: float) -> dict:
        return {
            "structure": structure,
            "weight": weight,
            "channel": channel,
            "mean": mean,
            "q05": mean - 1,
            "q95": mean + 1,
        }

    one = [row("hill", 0.25, "tv", 2.0), row("hill", 0.25, "search", 3.0), row("root", 0.75, "tv", 4.0)]
    other = [row("hill", 0.75, "", float("nan")), row("root", 0.25, "tv", 1.0)]
    assert structures(one) == [
        ["hill", 0.25, {"tv": [2.0, 1.0, 3.0], "search": [3.0, 2.0, 4.0]}],
        ["root", 0.75, {"tv": [4.0, 3.0, 5.0]}],
    ]
    assert structures(other)[0] == ["hill", 0.75, {}]
    assert weights([one, other]) == [["hill", pytest.approx(0.5)], ["root", pytest.approx(0.5)]]
