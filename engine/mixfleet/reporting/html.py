"""One HTML file about a run that needs no network and no server.

The numbers lie in the file as JSON, a piece for the fleet and a piece for each unit that is parsed when somebody looks
at it; the page's script draws them. Every text of the table's goes through JSON and `textContent`, never through
markup.
"""

import calendar
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mixfleet.analysis.insight import Insight
from mixfleet.analysis.tables.platform_reports import reports
from mixfleet.analysis.tables.predictive import ComponentMeans
from mixfleet.budgeting.plan import KEPT, Plan
from mixfleet.reporting import fleet_view
from mixfleet.reporting.answers import gained
from mixfleet.reporting.glossary import GLOSSARY, STATUS_WORDS
from mixfleet.reporting.highlights import KINDS
from mixfleet.reporting.numbers import Wording, before, money
from mixfleet.reporting.pieces import EXACT, page, piece
from mixfleet.reporting.summary import Summary, evidence, summarise

if TYPE_CHECKING:
    # Starts the models, which a page without a comparison does without.
    from mixfleet.analysis.comparison import Comparison

__all__ = ["compose_report"]

CURVE_POINTS = 16
PLAN_ROWS = 20
SCORES = ("r2", "wmape", "coverage90", "holdout_r2", "holdout_wmape", "baseline_negative")

SENTENCES = {"status": "reason", "overlap": "statement", "checks": "statement", "experiments": "statement"}
"""Tables that hold sentences, and the column of these."""

Rows = list[dict[str, Any]]
ByUnit = Mapping[tuple[str, ...], Rows]


def compose_report(
    insight: Insight,
    tables: Callable[[str], pa.Table],
    manifest: Mapping[str, Any],
    plan: Plan | None,
    forecast: pa.Table | None = None,
    changes: "Comparison | None" = None,
) -> str:
    """The page.

    Args:
        insight: Of the run; its frame must be pyarrow.
        tables: The run's summary tables by name.
        manifest: The run's manifest.
        plan: The budget plan to show, if any.
        forecast: What `Insight.forecast` found, to show, if anything.
        changes: What changed since an earlier run, to show, if there is one.
    """
    keys = insight.fleet.keys
    seen = evidence(insight, tables)
    said = summarise(insight, seen, manifest, plan, manifest["run_id"])
    found = {**seen, **_found(insight, tables, plan), **_doubts(insight, said.break_even)}
    say = Wording.of(insight.fleet)
    for name, column in SENTENCES.items():
        found[name] = [{**row, column: say(row[column])} for row in found[name]]
    status, tests = found.pop("status"), found.pop("experiments")
    means = fleet_view.monthly(insight)
    told = [{**row, "message": say(row["message"])} for row in tables("findings").to_pylist()]
    own: dict[str, Any] = {
        **{name: _by_unit(rows, keys) for name, rows in found.items()},
        **_long_tables(insight, tables, means),
        "findings": _by_labels(told),
        "words": _controls(insight, tables("params"), said, say),
    }
    head = {
        "run": manifest["run_id"],
        "keys": keys,
        "step": said.step,
        "locale": _locale(say),
        "currency": said.terms.currency,
        "given": insight.economics.given,
        "channels": insight.fleet.channels,
        "status": [_status(row, own, insight) | {"verdict": said.health.units[_labels(row, keys)]} for row in status],
        "total": _total(insight),
        **_first_screen(insight, said, plan, say),
        **_attention(said),
        **_together(insight, means, plan),
        **_turnable(insight, found, own, say),
        "plan": None if plan is None else _plan(plan, say),
        "findings": [[row["severity"], row["rule"], row["message"]] for row in told],
        "tests": [_test(row, keys) for row in tests],
        "forecast": None if forecast is None else _forecast(forecast, insight, say),
        "since": None if changes is None else fleet_view.since(changes, keys, say),
        "glossary": list(GLOSSARY.items()),
        "provenance": _provenance(manifest) + _said(insight),
    }
    worth = _worth(insight)
    units = (piece(f"unit-{i}", _unit(_labels(row, keys), own, worth)) for i, row in enumerate(status))
    return page(manifest["run_id"], [piece("fleet", head, EXACT), *units])


def _long_tables(insight: Insight, tables: Callable[[str], pa.Table], means: ComponentMeans) -> dict[str, Any]:
    """By name, what is drawn of each unit."""
    keys, units = insight.fleet.keys, [unit.labels for unit in insight.fleet.units]
    return {
        "weekly": _columns_by_unit(tables("weekly"), keys),
        "parts": dict(zip(units, fleet_view.parts(means), strict=True)),
        "curves": _columns_by_unit(insight.curves(CURVE_POINTS), keys),
        "lags": _columns_by_unit(insight.lags(), keys),
    }


def _locale(say: Wording) -> dict[str, str | None]:
    """The marks of numbers, and the currency where it stands before its amount."""
    own = say.locale
    first = before(say.currency) if own.currency_first and say.currency else None
    return {"decimal": own.decimal, "percent": own.percent, "currency": first}


def _found(insight: Insight, tables: Callable[[str], pa.Table], plan: Plan | None) -> dict[str, Rows]:
    """Rows about units by what they tell."""
    returns = _by_measure(insight.returns())
    return {
        **{name: returns.get(name, []) for name in ("cpik", "marginal_cpik", *insight.economics.measures)},
        "roi": returns.get("roi", []),
        "whole": insight.whole_roi().to_pylist(),
        "marginal": returns.get("marginal_roi", []),
        "prior": tables("roi").select([*insight.fleet.keys, "channel", "prior_q05", "prior_q95"]).to_pylist(),
        "share": insight.contributions().to_pylist(),
        "shapes": insight.shapes().to_pylist(),
        "plan": [] if plan is None else plan.cells.to_pylist(),
        "pooling": insight.pooling().to_pylist() if insight.pooled else [],
        "claims": insight.calibration().to_pylist() if reports(insight.fleet) else [],
    }


def _doubts(insight: Insight, break_even: float | None) -> dict[str, Rows]:
    """Rows about units on what could turn an answer, and on what each averaged structure says."""
    confounding = [] if break_even is None else insight.confounding(break_even).to_pylist()
    return {
        "confounding": confounding,
        "structures": insight.structures().to_pylist() if insight.averaged else [],
    }


def _turnable(insight: Insight, found: Mapping[str, Rows], own: Mapping[str, ByUnit], say: Wording) -> dict[str, Any]:
    """What a cause left out, other priors or another structure would change."""
    return {
        "easily": fleet_view.EASILY,
        "turned": fleet_view.turned(found["confounding"], insight.fleet.summed),
        "priors": fleet_view.other_priors(insight, found["roi"], say),
        "structures": fleet_view.weights(list(own["structures"].values())),
    }


def _first_screen(insight: Insight, said: Summary, plan: Plan | None, say: Wording) -> dict[str, Any]:
    """What a reader sees first: whom and when it is about, the sentences, the verdict, and the greatest numbers."""
    terms, whole = said.terms, insight.whole_roi(by=()).to_pylist()
    spent = whole[0]["spend"] if whole else None
    return {
        "subjects": said.subjects,
        "period": [said.first, said.last],
        "made": said.made,
        "sentences": [[one.topic, one.text] for one in said.sentences],
        "health": {"verdict": said.health.verdict, "counts": said.health.counts, "reasons": said.health.reasons},
        "kpi": terms.kpi,
        "kpi_unit": terms.kpi_unit,
        "ratio": terms.ratio,
        "valued": terms.valued,
        "break_even": said.break_even,
        "spent": None if spent is None else say(money(spent, terms.currency)),
        "gained": None if plan is None else gained(plan.totals["maximise"], terms),
    }


def _attention(said: Summary) -> dict[str, Any]:
    """What deserves attention, and what each kind of it means."""
    return {
        "remarks": [
            {"severity": one.severity, "kind": one.kind, "unit": one.unit, "text": one.text} for one in said.remarks
        ],
        "kinds": [
            [group.kind, KINDS[group.kind].severity, KINDS[group.kind].title, KINDS[group.kind].step, group.units]
            for group in said.health.groups
        ],
    }


def _together(insight: Insight, means: ComponentMeans, plan: Plan | None) -> dict[str, Any]:
    """The fleet as a whole."""
    return {
        "over_time": fleet_view.over_time(insight, means),
        "waterfall": fleet_view.waterfall(insight),
        "shares": fleet_view.channel_shares(_by_measure(insight.returns(by=()))),
        "moves": None if plan is None else fleet_view.moves(plan, insight.fleet.keys),
    }


def _controls(insight: Insight, params: pa.Table, said: Summary, say: Wording) -> Mapping[tuple[str, ...], list[str]]:
    """Sentences on each unit's controls."""
    fleet, keys = insight.fleet, insight.fleet.keys
    names = fleet.columns[len(fleet.columns) - (fleet.units[0].controls.shape[1] if fleet.units else 0) :]
    rows = _by_unit(params.to_pylist(), keys) if names else {}
    found = {}
    for unit in fleet.units:
        counted = fleet.counted(unit)[: len(unit.dates)]
        own = rows.get(unit.labels, [])
        found[unit.labels] = say.each(fleet_view.controls_in_words(unit, counted, names, own, said.terms, said.step))
    return found


def _by_unit(rows: Rows, keys: tuple[str, ...]) -> ByUnit:
    found: dict[tuple[str, ...], Rows] = defaultdict(list)
    for row in rows:
        found[tuple(row[key] for key in keys)].append(row)
    return found


def _by_labels(findings: Rows) -> ByUnit:
    found: dict[tuple[str, ...], Rows] = defaultdict(list)
    for row in findings:
        found[tuple(row["unit"] or ())].append(row)
    return found


def _columns_by_unit(table: pa.Table, keys: tuple[str, ...]) -> Any:
    """Each unit's rows as arrays by column, for tables too long to be made rows of; units lie together in it."""
    if not table.num_rows:
        return {}
    labels = list(zip(*(table[key].to_pylist() for key in keys), strict=True))
    starts = [i for i, row in enumerate(labels) if i == 0 or row != labels[i - 1]]
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names if name not in keys}
    return {
        labels[start]: {name: values[start:stop] for name, values in columns.items()}
        for start, stop in zip(starts, [*starts[1:], len(labels)], strict=True)
    }


def _labels(row: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(row[key] for key in keys)


def _status(row: Mapping[str, Any], own: Mapping[str, ByUnit], insight: Insight) -> dict[str, Any]:
    unit = _labels(row, insight.fleet.keys)
    whole = own["whole"].get(unit)
    share = [part for part in own["share"].get(unit, []) if part["kind"] == "channel"]
    return {
        "unit": unit,
        "status": row["status"],
        "word": STATUS_WORDS[row["status"]],
        "reason": row["reason"],
        "ok": row["status"] in insight.fleet.summed,
        "roi": _interval(whole[0]) if whole else None,
        "by": {one["channel"]: _interval(one) for one in own["roi"].get(unit, [])},
        "share": sum(part["share"] for part in share) if share else None,
        "fit": {name: one.get(name) for one in own["fit"].get(unit, []) for name in SCORES},
    }


def _test(row: Mapping[str, Any], keys: tuple[str, ...]) -> list[Any]:
    days = f"{row['start']} to {row['end']}" if row["start"] else "any"
    numbers = [row["estimate"], row["sd"]]
    for name in ("with", "without"):
        numbers += [row[f"{name}_{part}"] for part in ("mean", "q025", "q975")]
    about = [" / ".join(row[key] for key in keys), row["test"], row["channel"], days, row["measure"]]
    return [*about, *numbers, row["expected_q025"], row["expected_q975"], row["statement"]]


def _worth(insight: Insight) -> tuple[str, ...]:
    """Measures that the page shows where somebody said what a KPI earns; customers have their cost beside it."""
    costs = ("cpik", "marginal_cpik") if "customer_value" in insight.economics.given else ()
    return (*costs, *insight.economics.measures)


def _by_measure(table: pa.Table) -> dict[str, Rows]:
    found: dict[str, Rows] = defaultdict(list)
    for row in table.to_pylist():
        found[row["measure"]].append(row)
    return found


def _unit(unit: tuple[str, ...], own: Mapping[str, Any], worth: tuple[str, ...]) -> dict[str, Any]:
    channels: dict[str, dict[str, Any]] = {}
    for name in ("roi", "marginal", *worth, "prior"):
        for row in own[name].get(unit, []):
            keep = ("prior_q05", "prior_q95") if name == "prior" else ("mean", "q05", "q95", "spend")
            channels.setdefault(row["channel"], {})[name] = [row[column] for column in keep]
    for row in own["shapes"].get(unit, []):
        channels.setdefault(row["channel"], {})[row["measure"]] = [row["q50"], row["q05"], row["q95"]]
    for row in own["confounding"].get(unit, []):
        channels.setdefault(row["channel"], {})["turned"] = [row["verdict"], row["correlation"]]
    plan = ("channel", "spend_today", "spend_plan", "gain_mean", "gain_q05", "gain_q95", "binding")
    overlap = [row for row in own["overlap"].get(unit, []) if row["statement"] != "told apart"]
    return {
        "weekly": _weekly(own["weekly"].get(unit)),
        "parts": own["parts"].get(unit),
        "curves": _curves(own["curves"].get(unit)),
        "lags": _lags(own["lags"].get(unit)),
        "words": own["words"].get(unit, []),
        "channels": channels,
        "movement": [
            [row[name] for name in ("parameter", "channel", "prior_mean", "mean", "sd", "verdict")]
            for row in own["movement"].get(unit, [])
            if row["channel"]
        ],
        "overlap": [[row["channel"], row["other"], row["posterior_correlation"], row["statement"]] for row in overlap],
        "plan": [[row[name] for name in plan] for row in own["plan"].get(unit, [])],
        "claims": _claims(own["claims"].get(unit, [])),
        "structures": fleet_view.structures(own["structures"].get(unit, [])),
        "checks": [row["statement"] for row in own["checks"].get(unit, []) if row["verdict"] != "passed"],
        "checked": len(own["checks"].get(unit, [])),
        "borrowed": [
            [row["parameter"], row["channel"], row["borrowed"]]
            for row in own["pooling"].get(unit, [])
            if row["source"] == "unit"
        ],
        "findings": [[row["severity"], row["message"]] for row in own["findings"].get(unit, [])],
    }


def _weekly(table: Any) -> Any:
    if table is None:
        return None
    days = [str(day)[:10] for day in table["date"]]
    return {"date": days, **{name: table[name] for name in ("kpi", "mean", "q05", "q95")}}


def _curves(table: Any) -> Any:
    if table is None:
        return {}
    found = {}
    for channel in dict.fromkeys(table["channel"]):
        rows = table["channel"] == channel
        found[channel] = {name: table[name][rows] for name in ("spend", "mean", "q05", "q95")}
        found[channel] |= {"usual": table["usual"][rows][0], "seen": table["spend"][rows][table["seen"][rows]].max()}
    return found


def _lags(table: Any) -> Any:
    if table is None:
        return {}
    return {name: table["mean"][table["channel"] == name] for name in dict.fromkeys(table["channel"])}


def _total(insight: Insight) -> dict[str, Any]:
    """The fleet as a whole: ROI by channel and contribution by component, and what is not in them."""
    contributions, returns = insight.contributions(by=()).to_pylist(), insight.roi(by=()).to_pylist()
    whole, worth = insight.whole_roi(by=()).to_pylist(), _by_measure(insight.returns(by=()))
    head = contributions[0] if contributions else {"units": 0, "excluded": 0, "excluded_units": ""}
    return {
        "units": head["units"],
        "excluded": head["excluded"],
        "excluded_units": head["excluded_units"],
        "roi": _interval(whole[0]) if whole else None,
        "spend": whole[0]["spend"] if whole else None,
        "channels": [[row["channel"], *_interval(row), row["spend"]] for row in returns],
        "worth": {name: [[row["channel"], *_interval(row)] for row in worth[name]] for name in _worth(insight)},
        "whole": {row["measure"]: _interval(row) for row in insight.whole_worth(by=()).to_pylist()},
        "claims": _claims(insight.calibration(by=()).to_pylist() if reports(insight.fleet) else []),
        "components": [[row["component"], row["kind"], *_interval(row), row["share"]] for row in contributions],
    }


def _claims(rows: Rows) -> list[list[Any]]:
    """What platforms report, what came, and the factor between them, by channel."""
    measures = {name: [row for row in rows if row["measure"] == name] for name in ("incremental", "factor")}
    return [
        [one["channel"], one["reported"], one["claimed"], one["double_claimed"], _interval(one), _interval(factor)]
        for one, factor in zip(measures["incremental"], measures["factor"], strict=True)
    ]


def _plan(plan: Plan, say: Wording) -> dict[str, Any]:
    rows = [row for row in plan.cells.to_pylist() if row["binding"] not in KEPT]
    channels: dict[str, list[float]] = {}
    for row in rows:
        sums = channels.setdefault(row["channel"], [0.0, 0.0, 0.0])
        for i, name in enumerate(("spend_today", "spend_plan", "gain_mean")):
            sums[i] += row[name]
    extra = {name: table.slice(0, PLAN_ROWS).to_pylist() for name, table in plan.extra.items()}
    found = [[name, *sums] for name, sums in channels.items()]
    return {**plan.totals, "notes": say.each(plan.notes), "channels": found, **extra}


def _forecast(table: pa.Table, insight: Insight, say: Wording) -> dict[str, Any]:
    """By subject: the KPI by period, of the past too, and the mean of each component over all periods."""
    columns = [key for key in insight.fleet.keys if key in table.column_names]
    subjects: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in table.to_pylist():
        name = tuple(row[key] for key in columns)
        one = subjects.setdefault(
            name,
            {"name": " / ".join(name) or "whole fleet", "status": row.get("status"), "period": [], "kpi": []}
            | {"excluded": row.get("excluded", 0), "held": row["held"], "components": {}}
            | {"beyond": say(row.get("beyond") or ""), "unplanned": row.get("unplanned", "")},
        )
        if row["component"] == "kpi":
            one["period"].append(row["period"])
            one["kpi"].append(_interval(row))
        elif row["component"] != "expected":
            one["components"][row["component"]] = one["components"].get(row["component"], 0.0) + row["mean"]
    for name, one in subjects.items():
        if one["period"] and one["period"][0] != "all":
            one |= {"before": fleet_view.history(insight, dict(zip(columns, name, strict=True)), one["period"])}
    return {"subjects": list(subjects.values())}


def _provenance(manifest: Mapping[str, Any]) -> list[list[str]]:
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    return [
        ["run", manifest["run_id"]],
        ["created", str(manifest.get("created", ""))],
        ["finished", str(manifest["timings"].get("finished", ""))],
        ["versions", versions],
        ["platform", manifest["platform"]],
        ["devices", ", ".join(manifest["devices"])],
        ["sampled", str(manifest.get("path", ""))],
        ["seed", str(manifest["seed"])],
        *(["loosened gate", gate] for gate in manifest.get("loosened", ())),
        ["data (SHA-256)", manifest["fingerprint"]["data"]],
        ["result (SHA-256)", manifest["result_sha256"]],
        ["model", json.dumps(manifest["config"]["model"])],
        ["inference", json.dumps(manifest["config"]["inference"])],
    ]


def _said(insight: Insight) -> list[list[str]]:
    """What the reader said that a KPI earns, as the numbers about money rest on it."""
    given, kept = insight.economics.given, insight.fleet.spec.business
    names = (*given, "retention") if "customer_value" in given else given
    said = [[name.replace("_", " "), str(getattr(insight.economics, name))] for name in names]
    rates = [["exchange rates", str(kept.rates)]] if kept.rates else []
    year = [["fiscal year begins in", calendar.month_name[kept.fiscal_year_start]]]
    return said + rates + (year if kept.fiscal_year_start > 1 else [])


def _interval(row: Mapping[str, Any]) -> list[float]:
    return [row["mean"], row["q05"], row["q95"]]
