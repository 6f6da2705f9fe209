"""Statistics of what a unit's or a group's media brought."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixfleet.analysis.aggregate import Totals
from mixfleet.analysis.economics import Economics
from mixfleet.posterior.statistics import statistics

__all__ = ["appraise"]


def appraise(account: Totals, economics: Economics) -> dict[str, Any]:
    """Statistics of everything in the account, by window and component or channel."""
    spend = account.spend[..., None]
    channels = account.incremental.shape[1]
    # All terms of the baseline together: what there would have been without media.
    base = account.contribution[:, account.spend.shape[1] :].sum(axis=(0, 1))
    found: dict[str, Any] = {
        "contribution": statistics(account.contribution),
        "media": statistics(account.contribution[:, : account.spend.shape[1]].sum(axis=1)),
        "spend": account.spend,
        "kpi": account.kpi,
        "weeks": account.weeks,
        "baseline_negative": float(np.mean(base < 0)),
        "correlation": _correlation(account.contribution[:, : account.spend.shape[1]].sum(axis=0)),
    }
    if channels:
        whole = np.maximum(account.spend.sum(axis=1), 1e-300)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios: Mapping[str, np.ndarray] = {
                "roi": account.returned / spend,
                "marginal_roi": account.marginal_returned / spend,
                "cpik": spend / account.incremental,
                "marginal_cpik": spend / account.marginal,
                "whole_roi": account.returned_by_all / whole,
                "whole_marginal_roi": account.marginal_returned.sum(axis=1) / whole,
                "carry_in": account.carry_in,
                "carry_out": account.carry_out,
            }
            found |= {name: statistics(values) for name, values in ratios.items()}
        found["worth"] = economics.measure(account.worth, account.marginal_worth, account.spend)
        marginal = account.marginal_worth.sum(axis=2)
        found["whole_worth"] = economics.measure(account.worth_of_all, marginal, account.spend.sum(axis=1))
    return found


def _correlation(values: np.ndarray) -> np.ndarray:
    """Of the rows; NaN for a row that is constant."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.corrcoef(values)
