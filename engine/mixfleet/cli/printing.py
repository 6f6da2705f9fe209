"""What the terminal shows of a finished run, of a check and of a table that could not be read."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from mixfleet.errors import amount, counted
from mixfleet.posterior.unit_result import certified

if TYPE_CHECKING:
    from mixfleet.budgeting.plan import Plan
    from mixfleet.evaluation.backtest import Backtest
    from mixfleet.evaluation.leaderboard import Leaderboard
    from mixfleet.evaluation.prior_check import PriorCheck
    from mixfleet.evaluation.readiness import Readiness
    from mixfleet.evaluation.sbc import Calibration
    from mixfleet.reporting.numbers import Wording
    from mixfleet.run import Run

LISTED_UNITS = 20
"""Most units whose reasons are printed; the status table names all."""

SEVERITIES = ("error", "warning", "info")

ORIGINS = {"carried": "carried over", "reweighted": "reweighted", "fitted": "fitted"}
"""Of a run with a base: where units come from, in words."""

LISTED_VERDICTS = 5
"""Most units of a verdict whose reasons are printed."""

LISTED_FINDINGS = 40
"""Most findings that are printed."""


def print_run(console: Console, run: "Run", *, seconds: float) -> None:
    """Prints how many units have which status, why some are not ok, and where the run is."""
    rows = status_rows(run)
    table = Table(
        "status", "units", "share", title=f"{counted(len(rows), 'unit')} in {seconds:.1f} s", title_justify="left"
    )
    for status, count in counts(rows).items():
        table.add_row(status, str(count), f"{count / len(rows):.1%}")
    console.print(table)
    bad = [row for row in rows if not certified(row["status"])]
    for row in bad[:LISTED_UNITS]:
        _line(console, f"{_labels(row, run)}: {row['status']}: {row['reason']}")
    if len(bad) > LISTED_UNITS:
        _line(console, f"and {len(bad) - LISTED_UNITS} more: see {run.path / 'summary' / 'status.parquet'}")
    for gate in run.manifest.get("loosened", ()):
        _line(console, f"certified by a loosened gate: {gate}")
    if slow := run.manifest.get("slow"):
        _line(console, f"slow: {slow}")
    _print_experiments(console, run)
    _print_base(console, run, rows)
    _line(console, f"run: {run.place}")


def print_answer(console: Console, lines: Iterable[str], command: str) -> None:
    """Prints what a command found out, in sentences, and which command to go on with."""
    for line in lines:
        _line(console, line)
    _line(console, f"next: {command}")


def _print_base(console: Console, run: "Run", rows: Sequence[Mapping[str, Any]]) -> None:
    """What was taken over from an earlier run, and why every unit was fitted where it was."""
    base = run.manifest.get("base")
    if base is None:
        return
    origins = Counter(row.get("origin") for row in rows)
    said = ", ".join(f"{origins[origin]} {words}" for origin, words in ORIGINS.items())
    _line(console, f"from {base['run']}: {said}")
    for difference in base.get("other_settings", ()):
        _line(console, f"other than there: {difference}")


def _print_experiments(console: Console, run: "Run") -> None:
    """A line for each lift test."""
    if not run.keeps_tests:
        return
    rows = replace(run.insight, frame="pyarrow").experiments().to_pylist()
    for row in rows[:LISTED_UNITS]:
        estimate, sd, ours = (amount(row[name]) for name in ("estimate", "sd", "with_mean"))
        said = f"{row['measure']} {estimate} +- {sd}, the model {ours}"
        _line(console, f"{row['test']}, {_labels(row, run)}, {row['channel']}: {said}; {row['statement']}")
    if len(rows) > LISTED_UNITS:
        _line(
            console,
            f"and {len(rows) - LISTED_UNITS} more tests: see the table experiments of mixfleet export {run.path}",
        )


def print_findings(console: Console, findings: Sequence[Mapping[str, Any]]) -> None:
    """Prints findings (mappings of severity, rule, message), causes and errors first, and how many there are."""
    # Two spellings of one name come first: much of the rest follows from them.
    ordered = sorted(findings, key=lambda one: (one["rule"] != "key_similar", SEVERITIES.index(one["severity"])))
    for finding in ordered[:LISTED_FINDINGS]:
        _line(console, f"{finding['severity']:<7}  {finding['rule']}: {finding['message']}")
    if len(ordered) > LISTED_FINDINGS:
        _line(console, f"and {len(ordered) - LISTED_FINDINGS} more")
    _line(console, ", ".join(counted(count, severity) for severity, count in severities(findings).items()))


def severities(findings: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many findings there are of each severity."""
    found = [finding["severity"] for finding in findings]
    return {severity: found.count(severity) for severity in SEVERITIES}


def status_rows(run: "Run") -> list[dict[str, Any]]:
    """The status table, one mapping per unit."""
    return run.table("status").to_pylist()


def counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Units by status, the certified ones first."""
    found = [row["status"] for row in rows]
    names = sorted(set(found), key=lambda status: (not certified(status), status))
    return {status: found.count(status) for status in names}


def printable(text: str) -> str:
    """The text with control characters, terminal escapes and changes of direction by their number."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def _labels(row: Mapping[str, Any], run: "Run") -> str:
    keys: Sequence[str] = run.manifest["keys"]
    return " / ".join(str(row[key]) for key in keys)


def _line(console: Console, text: str) -> None:
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def print_comparison(console: Console, found: "Leaderboard") -> None:
    """Prints the points of a sweep, the best first, and why some failed."""
    rows = found.table.to_pylist()
    known = any(row["truth_coverage90"] is not None for row in rows)
    heads = ("certified", "worse by", "+-", "near best", "holdout R2", "ROI shift", *(("truth held",) if known else ()))
    shown = Table("point", Column("changes", overflow="fold"), *heads, "seconds")
    for row in rows:
        cells = [
            _number(row["certified"], ".1%"),
            _number(row["score"], ".1%"),
            _number(row["score_se"], ".1%"),
            {None: "", True: "yes", False: "no"}[row["near_best"]],
            _number(row["holdout_r2"], ".3f"),
            _number(row["roi_shift"], ".2f"),
            *([_number(row["truth_coverage90"], ".1%")] if known else []),
            _number(row["seconds"], ".1f"),
        ]
        shown.add_row(str(row["point"]), Text(printable(row["changes"])), *cells)
    console.print(shown)
    for row in rows:
        if row["error"]:
            _line(console, f"point {row['point']} failed: {row['error']}")
    near = [str(row["point"]) for row in rows if row["near_best"]]
    if near:
        which = f"the point {near[0]} is" if len(near) == 1 else f"the points {', '.join(near)} are"
        _line(console, f"by how far the held-out weeks are missed, unit by unit, {which} within noise of the best")
    print_path(console, "sweep", found.folder / "sweep.parquet")
    print_path(console, "leaderboard", found.folder / "leaderboard.html")


def print_calibration(console: Console, found: "Calibration") -> None:
    """Prints the quantities whose ranks are least likely to be uniform, and the verdict."""
    shown = Table("quantity", "replicates", "p-value", "shift", "spread")
    rows = sorted(found.table.to_pylist(), key=lambda row: row["p_value"])
    for row in rows[:LISTED_UNITS]:
        cells = (_number(row[name], form) for name, form in (("p_value", ".4f"), ("shift", "+.3f"), ("spread", ".3f")))
        shown.add_row(Text(printable(row["quantity"])), str(row["replicates"]), *cells)
    console.print(shown)
    if len(rows) > LISTED_UNITS:
        _line(console, f"and {len(rows) - LISTED_UNITS} quantities with higher p-values")
    _line(console, "replicates: " + ", ".join(f"{count} {status}" for status, count in found.statuses.items()))
    verdict = "calibrated" if found.passed else "NOT calibrated"
    _line(console, f"{verdict}: a p-value below {found.threshold:.5f} would be no chance")


def print_prior(console: Console, found: "PriorCheck") -> None:
    """Prints what the priors expect of each channel, medians over units, and what stands out."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in found.rows.to_pylist():
        rows.setdefault(row["channel"], []).append(row)
    title = "before any data; medians over units"
    shown = Table("channel", "units", "share of KPI", "90 % interval", "ROI", "90 % interval", title=title)
    for channel, own in rows.items():
        share, roi = (
            [_median(row[f"{name}_{level}"] for row in own) for level in ("q05", "q50", "q95")]
            for name in ("share", "roi")
        )
        cells = (f"{_number(share[1], '.1%')}", f"{_number(share[0], '.1%')} to {_number(share[2], '.1%')}")
        money = ("", "") if roi[1] is None else (_number(roi[1], ".3g"), f"{roi[0]:.3g} to {roi[2]:.3g}")
        shown.add_row(Text(printable(channel)), str(len(own)), *cells, *money)
    console.print(shown)
    for line in found.statements:
        _line(console, line)
    for line in found.warnings:
        _line(console, f"warning: {line}")


def print_readiness(console: Console, found: "Readiness") -> None:
    """Prints how many units can be told alone, and of the others the first few of each verdict with their reason."""
    rows = found.units.to_pylist()
    scores = [row["score"] for row in rows if row["score"] is not None]
    median = f"; median readiness {statistics.median(scores):.0f} of 100" if scores else ""
    alone = sum(row["verdict"] == "alone" for row in rows)
    _line(console, f"{alone} of {len(rows)} units can be told alone{median}")
    keys = found.units.column_names[: found.units.column_names.index("weeks")]
    for verdict in dict.fromkeys(row["verdict"] for row in rows if row["verdict"] not in ("alone", "mend")):
        own = [row for row in rows if row["verdict"] == verdict]
        _line(console, f"{verdict}: {len(own)}")
        for row in own[:LISTED_VERDICTS]:
            name = " / ".join(printable(row[key]) for key in keys) or "the series"
            _line(console, f"  {name}: {printable(row['reason'])}")
        if len(own) > LISTED_VERDICTS:
            _line(console, f"  and {len(own) - LISTED_VERDICTS} more: see mixfleet check --json")


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def print_backtest(console: Console, found: "Backtest") -> None:
    """Prints how well each origin foretold what followed, beside what a glance at the past would have said."""
    heads = ("weeks", "units", "R2", "wMAPE", "last year", "last value", "cover", "skill")
    title = "medians over certified units; wMAPE also of last year's and of the last value"
    shown = Table(Column("origin", no_wrap=True), *heads, title=title, title_justify="left")
    rows = {(row["origin"], row["horizon"], row["forecast"]): row for row in found.summary().to_pylist()}
    for (origin, horizon, forecast), row in rows.items():
        if forecast != "model":
            continue
        last_year, last_value = (rows.get((origin, horizon, name), {}) for name in ("last_year", "last_value"))
        shown.add_row(
            str(origin),
            horizon,
            str(row["units"]),
            _number(row["r2"], ".2f"),
            _number(row["wmape"], ".1%"),
            _number(last_year.get("wmape"), ".1%"),
            _number(last_value.get("wmape"), ".1%"),
            _number(row["coverage90"], ".1%"),
            _number(last_year.get("skill", last_value.get("skill")), ".1%"),
        )
    console.print(shown)
    _line(console, "skill: how much smaller the CRPS is than last year's (else the last value's) absolute error")
    for path in sorted(found.folder.glob("backtest.*")):
        print_path(console, "backtest", path)


def print_plan(console: Console, plan: "Plan", files: Sequence[Path], say: "Wording") -> None:
    """Prints what the plan changes, channel by channel, what it is worth and whom it leaves out."""
    from mixfleet.budgeting.plan import KEPT  # loaded with the plan, and not when a command starts

    cells = plan.cells.to_pandas()
    cells = cells[~cells["binding"].isin(KEPT)]
    title = f"next {plan.totals['weeks']} weeks"
    shown = Table("channel", "today", "plan", "change", plan.gain_words, title=title, title_justify="left")
    sums = cells.groupby("channel", sort=False)[["spend_today", "spend_plan", "gain_mean"]].sum()
    for channel, row in sums.iterrows():
        change = row["spend_plan"] / row["spend_today"] - 1 if row["spend_today"] else 0.0
        numbers = (
            f"{row['spend_today']:,.0f}",
            f"{row['spend_plan']:,.0f}",
            f"{change:+.1%}",
            f"{row['gain_mean']:+,.0f}",
        )
        shown.add_row(Text(printable(str(channel))), *say.each(numbers))
    console.print(shown)
    gain, totals = plan.totals["gain"], plan.totals
    _line(
        console,
        say(
            f"spend {totals['spend_today']:,.0f} -> {totals['spend_plan']:,.0f} over {counted(totals['units'], 'unit')}"
        ),
    )
    interval = f"90 % interval {gain['q05']:+,.0f} to {gain['q95']:+,.0f}"
    _line(console, say(f"{plan.gain_words} {gain['mean']:+,.0f}, {interval}"))
    if totals["gap_share"] == totals["gap_share"] and totals["gap_share"] < float("inf"):
        other = "plan of the candidate weeks" if totals["flighting"] == "free" else "plan"
        share = f"{totals['gap_share']:.2%} of the outcome"
        _line(console, say(f"no other {other} within the limits adds more than {share}"))
    for note in plan.notes:
        _line(console, say(note))
    for name, price in totals["shadow_prices"].items():
        _line(console, say(f"binding: {name}; looser by one it would bring {price:,.3g}"))
    if totals["excluded"]:
        names = totals["excluded_units"][:LISTED_UNITS]
        more = f" and {totals['excluded'] - len(names)} more" if totals["excluded"] > len(names) else ""
        money = say(f"{totals['excluded_spend']:,.0f}")
        _line(console, f"left as they are, not in the plan: {', '.join(names)}{more} ({money})")
    _print_extra(console, plan, say)
    for path in files:
        print_path(console, "plan", path)


def _print_extra(console: Console, plan: "Plan", say: "Wording") -> None:
    """The frontier, and the experiments most worth their while."""
    if "frontier" in plan.extra:
        head = ("spend", "outcome", plan.gain_words, "90 % interval", "marginal ROI")
        shown = Table(*head, title="other totals", title_justify="left")
        for row in plan.extra["frontier"].to_pylist():
            interval = f"{row['gain_q05']:+,.0f} to {row['gain_q95']:+,.0f}"
            numbers = (f"{row[name]:,.0f}" for name in ("spend", "outcome_mean"))
            shown.add_row(*say.each([*numbers, f"{row['gain_mean']:+,.0f}", interval, f"{row['marginal_roi']:.2f}"]))
        console.print(shown)
    if "experiments" in plan.extra:
        rows = plan.extra["experiments"].slice(0, LISTED_UNITS).to_pylist()
        head = plan.extra["experiments"].column_names
        keys = head[: head.index("status")]
        title = "experiments most worth their while"
        shown = Table(*keys, "channel", "spend today", "worth", "at most", title=title, title_justify="left")
        for row in rows:
            names = (Text(printable(str(row[name]))) for name in (*keys, "channel"))
            numbers = (f"{row[name]:,.0f}" for name in ("spend_today", "experiment_value", "perfect_value"))
            shown.add_row(*names, *say.each(numbers))
        console.print(shown)


def print_path(console: Console, name: str, path: Path) -> None:
    """Prints where something was written."""
    _line(console, f"{name}: {path}")


def print_diagnosis(console: Console, diagnosis: Mapping[str, Any]) -> None:
    """Prints what `mixfleet.cli.doctor` found, hints last."""
    table = Table(show_header=False)
    for name, value in diagnosis.items():
        if name == "hints":
            continue
        if isinstance(value, Mapping):
            text = "\n".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, tuple | list):
            text = "\n".join(map(str, value))
        else:
            text = f"{value:.1f}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), Text(text))
    console.print(table)
    for hint in diagnosis["hints"]:
        _line(console, f"hint: {hint}")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
