"""What is said of plans, forecasts and priors, from tables of made-up numbers."""

from typing import Any

import pyarrow as pa

from mixfleet.budgeting.plan import Plan
from mixfleet.reporting.answers import Terms, plan_answer, sensitivity_answer


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


def test_a_plan_says_what_moves_between_units_though_no_channel_changes() -> None:
    names = ("market", "channel", "spend_today", "spend_plan", "lowest", "highest", "binding")
    rows = [
        ("DE", "tv", 100.0, 130.0, 70.0, 130.0, "highest"),
        ("FR", "tv", 100.0, 70.0, 70.0, 130.0, "lowest"),
        ("DE", "search", 50.0, 60.0, 35.0, 65.0, ""),
        ("FR", "search", 50.0, 40.0, 35.0, 65.0, ""),
    ]
    gain = {"mean": 20.0, "q05": 10.0, "q95": 30.0}
    totals = {"weeks": 13, "spend_today": 300.0, "spend_plan": 300.0, "gain": gain, "probability_better": 1.0}
    cells = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    plan = Plan(cells=cells, weekly=cells.slice(0, 0), totals={**totals, "prices": [], "maximise": "profit"})
    [said] = plan_answer(plan, Terms(kpi="sales", currency="EUR", money=True, valued=True))
    assert "spend 300 EUR, as today, with 40.0 EUR moved between units: that brings 20.0 EUR more profit" in said.text
