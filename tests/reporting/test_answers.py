"""What is said of plans, forecasts and priors, from tables of made-up numbers."""

from typing import Any

from mixfleet.reporting.answers import sensitivity_answer


def test_other_priors_are_told_by_how_many_channels_move_and_the_farthest() -> None:
    def row(unit: str, channel: str, shift: float, basis: str = "reweighted") -> dict[str, Any]:
        told = {"shift": shift, "ratio": 1 + shift / 2, "basis": basis, "reliable": bool(basis)}
        return {"market": unit, "channel": channel, "alternative": "wide", **told}

    rows = [row("DE", "tv", 0.2), row("DE", "search", -0.8), row("FR", "tv", float("nan"), basis="")]
    moved, doubt = (one.text for one in sensitivity_answer(rows, ["market"]))
    assert moved == (
        "wide: told of 1 of 2 units; 1 of 2 channels would bring something else by more than 0.5 posterior standard "
        "deviations, the most DE, search: -0.8 (-40 %)."
    )
    assert "only another fit can tell" in doubt
    [alone] = sensitivity_answer(rows[:2], ["market"])
    assert alone.topic == "next"
    anew, none = (one.text for one in sensitivity_answer([row("IT", "tv", 0.1, "refitted"), rows[2]], ["market"]))
    assert anew.startswith("wide: told of 1 of 2 units, 1 of them by another fit; 0 of 1 channel")
    assert "failed a gate" in none
