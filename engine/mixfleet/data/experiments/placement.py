"""Placement: which media a test's unit would have had with it and without, period by period.

A path starts `window - 1` periods before the first day of the test and ends as many after its last one, or with the
last day on which the KPI was measured: all that a difference of media on the test's days can change. A period that
only some of the days are in moves by that share of it. Before a unit's first row and after its last one there are no
media; with a hole among its rows a test is refused.

A test may have measured several units of one pooled group together. Each has a part in it then: its own media on those
days, of all that was spent as much as it paid, and of the estimate and its squared error the share of the media that
the test moved. The sampler takes the parts only as where to begin: what it holds is their sum.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mixfleet import config
from mixfleet.data.experiments.experiment import Experiment, is_meant
from mixfleet.data.experiments.rows import Faulty, Row, read_rows
from mixfleet.data.validation.finding import Finding, Severity, about_unit, unit_name
from mixfleet.errors import TableError

if TYPE_CHECKING:
    from mixfleet.data.panel import Unit

__all__ = ["with_experiments"]

CONTRARY, DOUBTFUL = 4.0, 2.0
"""Standard errors by which a KPI may fall where media rise: beyond, estimate and media cannot mean the same, or it is
doubtful whether they do."""

AMOUNTS = ("spend_test", "spend_control", "delta_spend")

LEAST_CHANGE = 1e-3
"""Share of the media of a test's days that a test must move."""


class _Still(Faulty):
    """A test does not move the media of a unit."""


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """What the placement must know besides a unit."""

    units: Sequence["Unit"]
    channels: tuple[str, ...]
    data: config.Data
    window: int
    days: int
    """Of a period."""
    pooling: config.Pooling


def with_experiments(
    units: Sequence["Unit"],
    rejected: Sequence[tuple[str, ...]],
    channels: tuple[str, ...],
    source: Any,
    data: config.Data,
    *,
    window: int,
    days: int,
    pooling: config.Pooling | None = None,
) -> tuple[tuple["Unit", ...], tuple[Finding, ...]]:
    """The units with their tests, and what there is to say of these.

    Args:
        units: Of a panel.
        rejected: Labels of the units that were rejected; their tests say nothing.
        channels: Names of the media.
        source: Table of tests, or its path.
        data: What the columns mean.
        window: Carry-over window of the model to come.
        days: Days of a period.
        pooling: Which units share hyperparameters: of those a test may have measured several together. By default none.

    Raises:
        TableError: A test cannot be used; names all of them, with row, column and remedy.
    """
    rows, findings = read_rows(source, data)
    panel = _Panel(
        units=units, channels=channels, data=data, window=window, days=days, pooling=pooling or config.Pooling()
    )
    found: dict[tuple[str, ...], list[Experiment]] = {}
    faults: list[Finding] = []
    for row in rows:
        try:
            own = _units_of(row, panel, rejected)
            if not own:
                message = f"{row.where}: a unit of it was rejected, so the test says nothing"
                findings.append(Finding(rule="experiment_unit", severity="info", unit=row.unit, message=message))
                continue
            name = row.texts.get("name", f"test {1 + max(len(found.get(unit.labels, ())) for unit in own)}")
            parts = _parts(row, own, panel, name)
            if held := [one for unit, test in parts if (one := _held_out(row, unit, test, data))]:
                findings += held
                continue
            for unit, test in parts:
                before = [(one.together, one.name) for one in found.get(unit.labels, ())]
                if test.together and (test.together, test.name) in before:
                    raise Faulty("name", f"{name!r} is the name of an earlier test of the same units: give it another")
                found.setdefault(unit.labels, []).append(test)
                findings += _remarks(row, unit, test, panel)
        except Faulty as error:
            faults.append(row.fault(error))
    if faults:
        raise TableError("; ".join(fault.message for fault in faults), findings=faults)
    told = {labels: [f for f in findings if f.unit == labels and f.severity == "warning"] for labels in found}
    return tuple(
        replace(
            unit,
            experiments=tuple(found.get(unit.labels, ())),
            warnings=(*unit.warnings, *told.get(unit.labels, ())),
        )
        for unit in units
    ), tuple(findings)


def _units_of(row: Row, panel: _Panel, rejected: Sequence[tuple[str, ...]]) -> tuple["Unit", ...]:
    """The units that a row is about, which are one or of one group; none where one of them was rejected."""
    if not panel.data.keys:
        return tuple(panel.units[:1])
    found = [unit for unit in panel.units if is_meant(row.unit, unit.labels)]
    gone = [labels for labels in rejected if is_meant(row.unit, labels)]
    said, key, count = unit_name(row.unit), panel.data.keys[0], len(found) + len(gone)
    if not count:
        like = f", such as {unit_name(panel.units[0].labels)}" if panel.units else ""
        raise Faulty(key, f"{said} is no unit of the table{like}")
    if gone:
        return ()
    if count > 1 and not _in_one_group(found, panel):
        groups = "are not pooled" if panel.pooling.by == "none" else "are of several pooled groups"
        raise Faulty(
            key,
            f"{said} is {count} units, which {groups}: only units of one group can be measured together. Set pooling, "
            "such as pooling.by=brand, or give the lift of each unit in a row of its own",
        )
    return tuple(found)


def _in_one_group(units: Sequence["Unit"], panel: _Panel) -> bool:
    if panel.pooling.by == "none":
        return False
    return len(panel.pooling.groups(panel.data.unit_keys, [unit.labels for unit in units])) == 1


def _parts(row: Row, units: Sequence["Unit"], panel: _Panel, name: str) -> list[tuple["Unit", Experiment]]:
    """Each unit's part in the test; a unit whose media it did not move has none.

    Raises:
        Faulty: The test cannot be placed in one of the units, or moves nothing in all of them.
    """
    if len(units) == 1:
        return [(units[0], _placed(row, units[0], panel, name))]
    if "x" in row.numbers:
        raise Faulty("x", "is a level of one unit's media: give the lift of each unit in a row of its own")
    parts: list[tuple[Unit, Experiment]] = []
    still: list[Faulty] = []
    for unit, of_all in zip(units, _paid_shares(row, units, panel), strict=True):
        numbers = {k: v * of_all if k in (*AMOUNTS, "spend_all") else v for k, v in row.numbers.items()}
        try:
            parts.append((unit, _placed(replace(row, numbers=numbers), unit, panel, name)))
        except _Still as error:
            still.append(error)
    if not parts:
        raise still[0]
    if len(parts) == 1:
        return parts
    moved = np.array([float(np.abs(test.test - test.control).sum()) for _, test in parts])
    per = sum(test.per for _, test in parts) if parts[0][1].measure == "roi" else 1.0
    return [
        (unit, replace(test, together=row.unit, share=float(share), per=per))
        for (unit, test), share in zip(parts, moved / moved.sum(), strict=True)
    ]


def _paid_shares(row: Row, units: Sequence["Unit"], panel: _Panel) -> Float[np.ndarray, " unit"]:
    """Of what was paid on the test's days, or where that is nothing of all that was ever paid, each unit's share."""
    places = list(_channels(row, panel))
    paid, ever = np.zeros(len(units)), np.zeros(len(units))
    for i, unit in enumerate(units):
        share = _share(unit, *_days(row, unit, panel), panel.days)
        paid[i] = float((share[:, None] * unit.spend[:, places]).sum())
        ever[i] = float(np.nansum(unit.spend[:, places]))
    base = paid if paid.sum() > 0 else ever
    return base / base.sum() if base.sum() > 0 else np.full(len(units), 1 / len(units))


def _placed(row: Row, unit: "Unit", panel: _Panel, name: str) -> Experiment:
    places = _channels(row, panel)
    measure, given, se = row.estimate(panel.data.experiments.level)
    _check_metric(row, panel)
    if not row.dates and "x" in row.numbers:
        return _steady(row, unit, panel, name, places, (measure, given, se))
    for word in ("start", "end"):
        # A return without days is that of all of them.
        if word not in row.dates and (measure != "roi" or row.dates):
            raise Faulty(word, "the test's first and last day are needed, start and end, or x and delta_x")
    first, last = _days(row, unit, panel)
    share = _share(unit, first, last, panel.days)
    weeks = np.flatnonzero(share > 0)
    until = _measured(row, unit, weeks, panel)
    begin, window = int(weeks[0]), panel.window
    span = np.arange(begin - window + 1, len(until))
    test, control, added = _conditions(row, unit, places, share)
    inside = (span >= 0) & (span < len(unit.dates))
    _check_rows(unit, span[inside])

    def path(media: Float[np.ndarray, "week channel"]) -> Float[np.ndarray, "week channel"]:
        out = np.zeros((len(span), len(places)))
        out[inside] = media[span[inside]]
        return out

    moved, ran = float(np.abs(test - control).sum()), share[:, None] * (test + control)
    if moved <= LEAST_CHANGE * float(ran.sum()):
        column = next((name for name in ("factor", "spend_test", "spend_control") if name in row.numbers), "spend_test")
        words = "those without it: say what spend_control was" if ran.any() else "none, with it and without"
        raise _Still(column, f"the media of the test's days are {words}")
    worth = np.where(span < begin, 0.0, until[np.maximum(span, 0)])
    if measure != "lift":
        worth = worth * _price(unit, span)
    per = _per(measure, added)
    _check_sign(measure, given * per, se * abs(per), float((test - control).sum()))
    return Experiment(
        name=name,
        channels=tuple(panel.channels[place] for place in places),
        places=places,
        start=str(first),
        end=str(last),
        test=path(test),
        control=path(control),
        worth=worth,
        measure=measure,
        given=given,
        given_se=se,
        bias_sd=row.numbers.get("bias_sd", 0.0),
        per=per,
    )


def _held_out(row: Row, unit: "Unit", test: Experiment, data: config.Data) -> Finding | None:
    """What there is to say of a test that ended, or was measured, in the weeks held out: there it was not known yet."""
    if not data.holdout or not test.end:
        return None
    first = unit.dates[-min(data.holdout, len(unit.dates))]
    if max(np.datetime64(test.end), row.dates.get("measured_until", first - 1)) < first:
        return None
    words = (
        f"{row.where}: the test of {test.start} to {test.end} ends in what is held out, from {first} on: not in the fit"
    )
    return about_unit("experiment_held_out", unit.labels, words, severity="info")


def _channels(row: Row, panel: _Panel) -> tuple[int, ...]:
    """Places of the channels that a cell names, by their own name or that of a column."""
    known = {name: place for place, name in enumerate(panel.channels)}
    known |= {c: known[own.name] for own in panel.data.channels for c in (own.impressions, own.spend) if c}
    text = row.texts.get("channel", "")
    names = [text] if text in known else [part.strip() for part in text.split("+")]
    for name in names:
        if name not in known:
            raise Faulty("channel", f"{name!r} is none of {', '.join(panel.channels)}")
    if len(set(names)) < len(names):
        raise Faulty("channel", f"{text!r} names a channel twice")
    return tuple(known[name] for name in names)


def _check_metric(row: Row, panel: _Panel) -> None:
    metric, scope = row.texts.get("metric"), row.texts.get("scope")
    if metric not in (None, panel.data.kpi, panel.data.kpi_type):
        raise Faulty("metric", f"{metric!r} is not the KPI, {panel.data.kpi}: leave the test out, or convert its lift")
    if scope not in (None, "immediate", "total"):
        raise Faulty("scope", f"must be immediate or total, is {scope!r}")


def _days(row: Row, unit: "Unit", panel: _Panel) -> tuple[np.datetime64, np.datetime64]:
    final = unit.dates[-1] + np.timedelta64(panel.days - 1, "D")
    first, last = row.dates.get("start", unit.dates[0]), row.dates.get("end", final)
    if last < first:
        raise Faulty("end", f"{last} lies before the start, {first}")
    if first < unit.dates[0] or last > final:
        rows = f"the unit's rows, {unit.dates[0]} to {final}"
        raise Faulty(
            "start" if first < unit.dates[0] else "end",
            f"the test of {first} to {last} leaves {rows}: media of those days are not known. Add rows with their "
            "media and an empty KPI (data.gaps=absent), or leave the test out",
        )
    return first, last


def _share(unit: "Unit", first: np.datetime64, last: np.datetime64, days: int) -> Float[np.ndarray, " week"]:
    """Share of each period's days that the test has."""
    one = np.timedelta64(1, "D")
    ends = unit.dates + np.timedelta64(days, "D")
    covered = (np.minimum(ends, last + one) - np.maximum(unit.dates, first)) / one
    return np.clip(covered.astype(float) / days, 0.0, 1.0)


def _measured(row: Row, unit: "Unit", weeks: np.ndarray, panel: _Panel) -> Float[np.ndarray, " week"]:
    """Share of each period's days that the KPI of the test was measured in, from the unit's first period on."""
    last = int(weeks[-1]) + panel.window
    if row.texts.get("scope") == "immediate" and "measured_until" not in row.dates:
        until = row.dates["end"]
    elif "measured_until" in row.dates:
        until = row.dates["measured_until"]
    else:
        return np.ones(last)
    if until < row.dates.get("end", until):
        raise Faulty("measured_until", f"{until} lies before the end of the test, {row.dates['end']}")
    starts = unit.dates[0] + np.timedelta64(panel.days, "D") * np.arange(last)
    share = ((until - starts) / np.timedelta64(1, "D")).astype(float) + 1
    measured = np.clip(share / panel.days, 0.0, 1.0)
    return measured[: int(np.flatnonzero(measured > 0)[-1]) + 1]


def _check_rows(unit: "Unit", span: np.ndarray) -> None:
    holes = span[~unit.observed[span]]
    if len(holes):
        raise Faulty(
            "start",
            f"the table has no row of {unit.dates[holes[0]]}, whose media carry over into the test or from it: add the "
            "row, or say by measured_until how long the KPI was measured",
        )


def _conditions(
    row: Row, unit: "Unit", places: tuple[int, ...], share: Float[np.ndarray, " week"]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Media of the channels with the test and without, in every period of the unit, and the money between the two."""
    real = unit.media[:, list(places)]
    paid = float((share[:, None] * unit.spend[:, list(places)]).sum())
    amounts = {name: row.numbers[name] for name in AMOUNTS if name in row.numbers}
    if "spend_all" in row.numbers:
        # Robyn's lift is of the spend that it names, against none.
        amounts |= {"spend_test": row.numbers["spend_all"], "spend_control": 0.0}
    if "factor" in row.numbers:
        if amounts:
            raise Faulty("factor", f"says what {next(iter(amounts))} says too: leave one of them empty")
        factor = row.numbers["factor"]
        if not 0 <= factor < np.inf or factor == 1:
            raise Faulty("factor", f"must be zero or more and not 1, is {factor:g}")
        return real * (1 + share[:, None] * (factor - 1)), real, (factor - 1) * paid
    if not amounts and not row.numbers.keys() & {"roi"}:
        raise Faulty("factor", "nothing says what the media of the test were: factor, spend_test, spend_control")
    if len(places) > 1 and amounts:
        raise Faulty("channel", "spend of several channels cannot be told apart: give a factor for all of them")
    if np.isnan(paid) and amounts:
        raise Faulty(next(iter(amounts)), "the channel has no column of spend to compare it with: give a factor")
    test, control = _spends(amounts, paid)
    for name, amount in (("spend_test", test), ("spend_control", control)):
        if amount < -1e-9 * abs(paid):
            raise Faulty(name if name in amounts else "delta_spend", f"leaves {amount:g} to spend: less than nothing")
    return _scaled(unit, places, share, test, paid), _scaled(unit, places, share, control, paid), test - control


def _spends(amounts: dict[str, float], paid: float) -> tuple[float, float]:
    """Spend with the test and without. What is not said of them is what was paid, by the test where one is free."""
    test, control, delta = (amounts.get(name) for name in ("spend_test", "spend_control", "delta_spend"))
    if delta is not None and test is not None and control is not None:
        raise Faulty("delta_spend", "follows from spend_test and spend_control: leave it empty")
    if delta is not None:
        if control is not None:
            return control + delta, control
        test = paid if test is None else test
        return test, test - delta
    if test is None and control is None:
        return paid, 0.0
    return (paid if test is None else test), (paid if control is None else control)


def _scaled(
    unit: "Unit", places: tuple[int, ...], share: Float[np.ndarray, " week"], amount: float, paid: float
) -> Float[np.ndarray, "week channel"]:
    """Media of the channels had so much been spent on the test's days: as they were, all by one factor."""
    real = unit.media[:, list(places)]
    if amount == paid:
        return real
    if paid > 0 or amount <= 0 or len(places) > 1:
        factor = max(amount, 0.0) / paid if paid > 0 else 0.0
        return real * (1 + share[:, None] * (factor - 1))
    # Nothing ran on those days: at the channel's usual price, evenly.
    spend, media = float(np.nansum(unit.spend[:, list(places)])), float(real.sum())
    if not (spend > 0 and media > 0):
        raise Faulty("channel", "the unit never paid for the channel: its price of media is not known")
    return real + (share / share.sum() * amount * media / spend)[:, None]


def _price(unit: "Unit", span: np.ndarray) -> Float[np.ndarray, " week"]:
    """Value of a KPI; beyond the unit's rows that of the last one."""
    rows = np.flatnonzero(unit.observed)
    known = rows[np.clip(np.searchsorted(rows, span, side="right") - 1, 0, len(rows) - 1)]
    return unit.value_per_kpi[known]


def _per(measure: str, added: float) -> float:
    if measure != "roi":
        return 1.0
    if not np.isfinite(added) or added == 0:
        raise Faulty("roi", "a return needs the money that it is per, and the channel has no column of spend")
    return added


def _check_sign(measure: str, estimate: float, se: float, change: float) -> None:
    if estimate * np.sign(change) < -CONTRARY * se:
        moved = "more" if change > 0 else "less"
        raise Faulty(
            measure,
            f"the estimate is {estimate:g} where media are {moved} under test than without: it is the KPI under test "
            "less the KPI without, so below zero where media were cut",
        )


def _steady(
    row: Row, unit: "Unit", panel: _Panel, name: str, places: tuple[int, ...], estimate: tuple[str, float, float]
) -> Experiment:
    """A test of a level that was held for ever against another one, as PyMC-Marketing has it."""
    measure, given, se = estimate
    level, more = row.numbers["x"], row.numbers.get("delta_x", 0.0)
    if level < 0 or level + more < 0 or more == 0:
        raise Faulty("delta_x", f"x is {level:g} and delta_x {more:g}: media must be zero or more, and differ")
    if measure == "roi":
        raise Faulty("roi", "a test of a level has no days to spend in: give its lift by period")
    _check_sign(measure, given, se, more)
    control = np.full((panel.window, len(places)), level)
    worth = np.zeros(panel.window)
    worth[-1] = 1.0 if measure == "lift" else float(np.mean(unit.value_per_kpi[unit.observed]))
    return Experiment(
        name=name,
        channels=tuple(panel.channels[place] for place in places),
        places=places,
        start="",
        end="",
        test=control + more,
        control=control,
        worth=worth,
        measure=measure,
        given=given,
        given_se=se,
        bias_sd=row.numbers.get("bias_sd", 0.0),
        per=1.0,
    )


def _remarks(row: Row, unit: "Unit", test: Experiment, panel: _Panel) -> Iterator[Finding]:
    def remark(rule: str, words: str, severity: Severity) -> Finding:
        found = about_unit(rule, unit.labels, f"{row.where}: {words}", severity=severity)
        return replace(found, kept=about_unit(rule, unit.labels, f"lift test {test.name}: {words}").message)

    for place, name in zip(test.places, test.channels, strict=True):
        if not np.any(unit.media[:, place] != 0):
            words = f"the unit never ran {name}, so the test is all that is known of it"
            yield remark("experiment_absent", words, "warning")
    if test.estimate * np.sign((test.test - test.control).sum()) < -DOUBTFUL * test.sd:
        words = (
            "the estimate says that media cost sales. It is the KPI under test less the KPI without, so "
            "below zero where media were cut: check its sign"
        )
        yield remark("experiment_sign", words, "warning")
    if not test.start:
        return
    begin = np.datetime64(test.start)
    share = _share(unit, begin, np.datetime64(test.end), panel.days)
    if len(panel.units) == 1 and np.any(np.isfinite(unit.kpi[share > 0])):
        words = (
            f"the KPI of {test.start} to {test.end} is in the fit as well. If the lift was worked out "
            "from this very series, the same periods count twice: leave the test out, or empty the KPI of those days"
        )
        yield remark("experiment_twice", words, "warning")
    if begin < unit.dates[0] + np.timedelta64(panel.days * (panel.window - 1), "D") and panel.window > 1:
        words = f"media before {unit.dates[0]} would carry over into the test, and count as none"
        yield remark("experiment_early", words, "info")
    if np.any((share > 0) & (share < 1)):
        words = "the test has some days only of its first or last period, which moves by their share"
        yield remark("experiment_share", words, "info")
