"""Mixture: the draws of a unit's structures as draws of one posterior, each structure's as many as its weight says.

A draw keeps the place of its structure, and what it says of a curve is what that structure says. Draws stand in the
order of the structures in every unit, so that draw i of all units is of one structure as far as their weights go: what
is not known of the form of response is common to units, and must not average out over a fleet.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from mixfleet.config import Spec
from mixfleet.config.model import STRUCTURE
from mixfleet.data.panel import Panel
from mixfleet.models.batch import PreparedUnit
from mixfleet.models.media import MediaTerm, media_term
from mixfleet.posterior.counterfactual import decompose
from mixfleet.posterior.importance import BAD_TAIL
from mixfleet.posterior.model_checks.check import ModelCheck
from mixfleet.posterior.model_checks.judge import checked_unit
from mixfleet.posterior.prior_draws import prior_response
from mixfleet.posterior.statistics import QUANTILES, statistics
from mixfleet.posterior.structures.stacking import LeftOutScore, left_out_score
from mixfleet.posterior.summarize import kept_series, told_weeks, unit_tables
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.posterior.unit_series import evenly_spaced, series_variables

__all__ = ["StructureFit", "averaged_result", "mixed_draws", "score_of"]

ABSENT = {"autocorrelation": 0.0}
"""Values of parameters in structures that do without, where there are such."""

Draws = Mapping[str, Float32[np.ndarray, "chain draw ..."]]


class StructureFit(NamedTuple):
    """One unit under one structure."""

    name: str
    spec: Spec
    """With this structure alone."""
    member: PreparedUnit
    term: MediaTerm
    """Form of each channel's response in this structure."""
    result: UnitResult


def score_of(fit: StructureFit, panel: Panel) -> LeftOutScore:
    """How well the structure tells each fitted week of the unit from all the others."""
    series = kept_series(fit.member, fit.result.draws, panel, fit.spec, weeks=len(fit.member.arrays["kpi"]))
    told = told_weeks(fit.member, series)
    brought = decompose(series.media, told[:, 1:], series.curves, term=fit.term)
    # No check is made, so that nothing of the prior is looked at.
    unknown = np.zeros((len(panel.channels), 0))
    return left_out_score(checked_unit(fit.member, series, brought, unknown, fit.spec, panel.channels))


def averaged_result(
    fits: Sequence[StructureFit],
    scores: Sequence[LeftOutScore | None],
    weights: Float[np.ndarray, " structure"],
    panel: Panel,
    spec: Spec,
    *,
    judged: Callable[[Sequence[ModelCheck]], tuple[str, str]],
) -> UnitResult:
    """The unit's tables and draws, averaged over its structures.

    Args:
        fits: The unit under each structure.
        scores: Of each of `fits`; None of one that is not certified.
        weights: Of each of `fits`, of sum one; zero of those without draws.
        panel: Names of channels and keys.
        spec: All settings, with all structures.
        judged: Makes of the checks of the model what became of the unit, and why it is not plain ok.
    """
    counts = shares(weights, min(_total(fit) for fit, weight in zip(fits, weights, strict=True) if weight > 0))
    draws = mixed_draws([fit.result.draws for fit in fits], counts, spec, channels=len(panel.channels))
    used = [fit for fit, count in zip(fits, counts, strict=True) if count]
    member, term = fits[0].member, media_term(spec.model, panel.channels)
    series = kept_series(member, draws, panel, spec, weeks=len(member.arrays["kpi"]))
    told = told_weeks(member, series)
    priors = [prior_response(fit.member, series.media, told, fit.term).total for fit in used]
    tables, checks = unit_tables(member, series, np.concatenate(priors, axis=-1), term, panel, spec)
    status, reason = judged(checks)
    dims = {name: ("channel",) for name, values in draws.items() if values.ndim == 3}
    kept = spec.output.draws != "summary"
    return UnitResult(
        labels=member.unit.labels,
        status=status,
        reason=reason,
        rung=max(fit.result.rung for fit in used),
        diagnostics=_diagnostics(fits, used, int(counts.sum())),
        tables={
            "params": _params(used, draws, panel, spec),
            **tables,
            "structures": _structures(fits, scores, weights),
        },
        draws=draws if kept else {},
        dims={**dims, "coefficients": ("column",)} if kept else {},
        coords={"channel": panel.channels, "column": _columns(used[0])} if kept else {},
    )


def _diagnostics(fits: Sequence[StructureFit], used: Sequence[StructureFit], draws: int) -> dict[str, float]:
    """The worst of the structures that are used, and what all of them cost."""
    own, every = [fit.result.diagnostics for fit in used], [fit.result.diagnostics for fit in fits]
    worst = {"rhat_max": max, "ess_bulk_min": min, "ess_tail_min": min, "ebfmi_min": min, "energy_balance": max}
    found = {name: of(one.get(name, np.nan) for one in own) for name, of in worst.items()}
    found |= {name: sum(one.get(name, 0) for one in every) for name in ("divergences", "gradients", "seconds")}
    return {name: value for name, value in found.items() if np.isfinite(value)} | {"draws": float(draws), "chains": 1.0}


def shares(weights: Float[np.ndarray, " structure"], total: int) -> Int[np.ndarray, " structure"]:
    """How many of so many draws each structure has: its weight's, rounded so that they add up."""
    counts = np.floor(weights * total).astype(int)
    rest = weights * total - counts
    counts[np.argsort(-rest, kind="stable")[: total - counts.sum()]] += 1
    return counts


def mixed_draws(
    draws: Sequence[Draws], counts: Int[np.ndarray, " structure"], spec: Spec, *, channels: int
) -> dict[str, Float32[np.ndarray, "1 draw ..."]]:
    """So many draws of each structure, evenly spaced, one structure behind the other.

    NaN stands for a parameter that a draw's structure has not, but for a correlation of independent noise, which is
    zero. `structure` says of each draw which one it is of.
    """
    places = np.repeat(np.arange(len(draws), dtype=np.float32), counts)
    mixed = {STRUCTURE: np.ascontiguousarray(np.broadcast_to(places[:, None], (len(places), channels))[None])}
    shapes = {name: values.shape[2:] for own in draws for name, values in own.items()}
    for name in (*series_variables(spec.model), "contribution"):
        if name == STRUCTURE:
            continue
        # A structure whose fit failed has no draws, not even of what it alone has.
        shape = shapes.get(name, (channels,) if name in spec.model.channel_parameters else ())
        absent = ABSENT.get(name, np.nan)
        parts = [
            evenly_spaced(own[name], count) if name in own else np.full((count, *shape), absent)
            for own, count in zip(draws, counts.tolist(), strict=True)
            if count
        ]
        mixed[name] = np.ascontiguousarray(np.concatenate(parts)[None], np.float32)
    return mixed


def _total(fit: StructureFit) -> int:
    chains, length = fit.result.draws["noise"].shape[:2]
    return chains * length


def _columns(fit: StructureFit) -> tuple[str, ...]:
    """Names of the baseline's columns, which are the last parameters."""
    names = fit.result.tables["params"]["parameter"].tolist()
    return tuple(names[len(names) - fit.result.draws["coefficients"].shape[2] :])


def _params(used: Sequence[StructureFit], draws: Draws, panel: Panel, spec: Spec) -> dict[str, np.ndarray]:
    """One row for each parameter that a structure has: of the draws that have it, and the worst of its diagnostics."""
    columns, order = _columns(used[0]), [*spec.model.channel_parameters, *spec.model.unit_parameters]
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for fit in used:
        own = fit.result.tables["params"]
        for place, key in enumerate(zip(own["parameter"], own["channel"], strict=True)):
            found.setdefault(key, []).append({name: values[place] for name, values in own.items()})
    rows = []
    for name, channel in sorted(found, key=lambda key: order.index(key[0]) if key[0] in order else len(order)):
        values = draws["coefficients"][0, :, columns.index(name)] if name in columns else draws[name][0]
        values = values[:, panel.channels.index(channel)] if channel else values
        own = {key: np.array([row[key] for row in found[name, channel]]) for key in _DIAGNOSED}
        rows.append(
            {
                "parameter": name,
                "channel": channel,
                **statistics(values[np.isfinite(values)], tuple(QUANTILES)),
                "prior_mean": own["prior_mean"].mean(),
                "prior_sd": np.sqrt(np.mean(own["prior_sd"] ** 2) + own["prior_mean"].var()),
                "rhat": own["rhat"].max(),
                "ess_bulk": own["ess_bulk"].min(),
                "ess_tail": own["ess_tail"].min(),
            }
        )
    return {name: np.array([row[name] for row in rows], object if name in _TEXTS else float) for name in rows[0]}


_DIAGNOSED = ("prior_mean", "prior_sd", "rhat", "ess_bulk", "ess_tail")
_TEXTS = ("parameter", "channel", "structure", "fitted")


def _structures(
    fits: Sequence[StructureFit], scores: Sequence[LeftOutScore | None], weights: Float[np.ndarray, " structure"]
) -> dict[str, np.ndarray]:
    """What each structure says of each paid channel's ROI by itself, and what weight it has."""
    rows = []
    for fit, score, weight in zip(fits, scores, weights, strict=True):
        roi = fit.result.tables.get("roi", {})
        channels = roi.get("channel", np.array([""], object))
        unknown = np.full(len(channels), np.nan)
        for i, channel in enumerate(channels):
            rows.append(
                {
                    "structure": fit.name,
                    "fitted": fit.result.status,
                    "channel": channel,
                    "weight": weight,
                    "log_score": float(score.log_density.sum()) if score else np.nan,
                    "unsure_weeks": float(np.sum(score.shape > BAD_TAIL)) if score else np.nan,
                    **{name: roi.get(name, unknown)[i] for name in ("mean", "sd", "q05", "q50", "q95")},
                }
            )
    return {name: np.array([row[name] for row in rows], object if name in _TEXTS else float) for name in rows[0]}
