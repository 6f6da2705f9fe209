"""What media brought, against the same past without some of them: where channels add up, and where they multiply."""

from mixfleet.posterior.counterfactual.additive import (
    Difference,
    by_week,
    by_window,
    contributions,
    decompose,
    responses,
    value_weights,
    weekly,
    whole,
)

__all__ = [
    "Difference",
    "by_week",
    "by_window",
    "contributions",
    "decompose",
    "responses",
    "value_weights",
    "weekly",
    "whole",
]
