"""What media brought, from the draws of a finished run - by unit, any group of units, and time.

Every table is tidy, in original units, with mean, sd, q05, q25, q50, q75 and q95. Tables by unit carry the unit's
status; sums over units hold certified units only and say which ones they leave out.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from mixfleet.analysis.aggregate import Aggregation, Totals, keep
from mixfleet.analysis.breakdown import read_by, subjects
from mixfleet.analysis.economics import Economics, EconomicsOptions
from mixfleet.analysis.long_table import LongTable
from mixfleet.analysis.periods import Windows, read_period
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.analysis.tables import (
    collinearity,
    confounding,
    experiments,
    forecast,
    platform_reports,
    prior_shift,
    scenarios,
)
from mixfleet.analysis.tables import curves as curve_tables
from mixfleet.analysis.tables.predictive import fit_by_group
from mixfleet.analysis.tables.returns import appraise
from mixfleet.data.frames import FrameKind, Shown, to_frame
from mixfleet.errors import ConfigError, counted
from mixfleet.models.baseline import components
from mixfleet.posterior.statistics import statistics

if TYPE_CHECKING:
    from mixfleet.analysis.tables.sensitivity import Alternatives, Refit

__all__ = ["Insight"]

MEASURES = {
    "roi": "value returned per unit of spend",
    "marginal_roi": "value returned per unit of spend, at the margin",
    "cpik": "spend per incremental KPI",
    "marginal_cpik": "spend per incremental KPI, at the margin",
}
"""What `Insight.returns` measures. ROAS is roi where the KPI is revenue; CAC is cpik where it is new customers.
`Insight.valued` adds those of `Economics.measures`."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Insight(Shown):
    """Tables of one finished run.

    `by` says what a row is about: None, the unit; key columns such as "brand" or ("brand", "market"), the sum of
    all certified units that share them; (), the whole fleet. `period` is all, year, quarter, month, week, a pair of
    days or a list of pairs.
    """

    fleet: Fleet
    tables: Callable[[str], pa.Table]
    """Summary tables of the run, by name."""
    frame: FrameKind = "pandas"
    economics: Economics = field(default_factory=Economics)
    """What a KPI earns; see `valued`."""
    _ledgers: dict[Any, Aggregation] = field(default_factory=dict, repr=False)

    def _sentence(self) -> str:
        """Whom it is about, and what can be asked."""
        fleet, asked = self.fleet, "roi, contributions, marginal_roi, media, waterfall, forecast, curves, shapes, fit"
        units = len(fleet.units)
        return f"insight: {counted(units, 'unit')}, {counted(len(fleet.channels), 'channel')}; ask {asked}"

    def _shown(self) -> pa.Table:
        """What media brought, all certified units together."""
        return replace(self, frame="pyarrow").contributions(by=())

    def valued(self, **economics: Unpack[EconomicsOptions]) -> "Insight":
        """The same with profit by a margin, LTV:CAC and payback by a customer's value; see `Economics` for the fields.

        What is not given is as kept with the run.

        Raises:
            ConfigError: A number is no money or no share, not every unit has one, or a customer's value is given where
                the KPI is revenue.
        """
        given = replace(self.economics, **economics)
        if given == self.economics:
            return self
        given.check_kpi(self.fleet.spec.data)
        self._per_kpi(given)
        return replace(self, economics=given, _ledgers={})

    def _per_kpi(self, economics: Economics) -> Float[np.ndarray, "unit given"]:
        labels = [unit.labels for unit in self.fleet.units]
        return economics.per_kpi(self.fleet.keys, labels, self.fleet.missing)

    def contributions(self, by: Any = None, period: Any = "all") -> Any:
        """KPI by channel, by component of the baseline and by treatment, its share of the KPI that came, and weeks.

        A treatment's is told against its baseline value, a control's against its mean.
        """
        channels, parts = self.fleet.channels, components(self.fleet.spec.model, self.fleet.spec.data)
        kinds = np.array(["channel"] * len(channels) + self._kinds(parts))
        long_table, windows = LongTable(), self._windows(period)
        for head, summary in self._subjects(by, windows, returns=windows.kind == "all"):
            values = summary["contribution"]
            with np.errstate(divide="ignore", invalid="ignore"):
                share = values["mean"] / summary["kpi"][:, None]
            long_table.add(
                head,
                {"period": windows.names, "component": (*channels, *parts)},
                {"kind": kinds, **values, "share": share, "weeks": summary["weeks"][:, None]},
                where=(summary["weeks"] > 0)[:, None],
            )
        return self._framed(long_table.table())

    def returns(self, by: Any = None, period: Any = "all") -> Any:
        """All of `MEASURES` by paid channel, what a window's spend brought counted whenever it came.

        Of a `valued` insight also profit, LTV:CAC and payback, and `pays`, the probability that the money comes back.
        """
        long_table, windows = LongTable(), self._windows(period)
        for head, summary in self._subjects(by, windows, returns=True):
            spend = summary["spend"]
            plain = {"pays": np.nan} if self.economics.given else {}
            measures = {name: {**summary[name], **plain} for name in MEASURES} | summary["worth"]
            for measure, values in measures.items():
                long_table.add(
                    {**head, "measure": measure},
                    {"period": windows.names, "channel": self.fleet.channels},
                    {**values, "spend": spend},
                    where=spend > 0,
                )
        return self._framed(long_table.table())

    def media(self, by: Any = None, period: Any = "all") -> Any:
        """KPI that all channels together brought, those that nobody pays for included, and its share of the KPI."""
        long_table, windows = LongTable(), self._windows(period)
        for head, summary in self._subjects(by, windows, returns=windows.kind == "all"):
            with np.errstate(divide="ignore", invalid="ignore"):
                share = summary["media"]["mean"] / summary["kpi"]
            facts = {"kpi": summary["kpi"], "share": share, "weeks": summary["weeks"]}
            long_table.add(head, {"period": windows.names}, {**summary["media"], **facts}, where=summary["weeks"] > 0)
        return self._framed(long_table.table())

    def whole_roi(self, by: Any = None, period: Any = "all") -> Any:
        """Value returned per unit of spend, all paid channels together."""
        return self._whole("whole_roi", by, period)

    def whole_marginal_roi(self, by: Any = None, period: Any = "all") -> Any:
        """Value that the last unit of spend returned, all paid channels together and moving in proportion."""
        return self._whole("whole_marginal_roi", by, period)

    def whole_worth(self, by: Any = None, period: Any = "all") -> Any:
        """Profit, LTV:CAC and payback of a `valued` insight, all paid channels together."""
        long_table, windows = LongTable(), self._windows(period)
        for head, summary in self._subjects(by, windows, returns=True):
            spend = summary["spend"].sum(axis=1)
            for measure, values in summary["whole_worth"].items():
                long_table.add(
                    {**head, "measure": measure}, {"period": windows.names}, {**values, "spend": spend}, where=spend > 0
                )
        return self._framed(long_table.table())

    def roi(self, by: Any = None, period: Any = "all") -> Any:
        """Value returned per unit of spend, by paid channel."""
        return self._measure("roi", by, period)

    def marginal_roi(self, by: Any = None, period: Any = "all") -> Any:
        """Value that the last unit of spend returned, by paid channel, all of a window's spend moving in proportion."""
        return self._measure("marginal_roi", by, period)

    def cpik(self, by: Any = None, period: Any = "all") -> Any:
        """Spend per incremental KPI, by paid channel. Its mean may not settle where a contribution is near zero."""
        return self._measure("cpik", by, period)

    def marginal_cpik(self, by: Any = None, period: Any = "all") -> Any:
        """Spend per incremental KPI at the margin, by paid channel."""
        return self._measure("marginal_cpik", by, period)

    def carry_over(self, by: Any = None, period: Any = "quarter") -> Any:
        """KPI that earlier media brought in a window (carry_in) and its media brought later (carry_out)."""
        long_table, windows = LongTable(), self._windows(period)
        for head, summary in self._subjects(by, windows, returns=True):
            for direction in ("carry_in", "carry_out"):
                long_table.add(
                    {**head, "direction": direction},
                    {"period": windows.names, "channel": self.fleet.channels},
                    summary[direction],
                    where=(summary["weeks"] > 0)[:, None],
                )
        return self._framed(long_table.table())

    def calibration(self, by: Any = None, period: Any = "all") -> Any:
        """What platforms report beside what their channels brought, and the factor between the two; see `claims`.

        Raises:
            ConfigError: The run's table does not say what platforms report.
        """
        return self._framed(platform_reports.claims(self.fleet, by, self._windows(period)))

    def waterfall(self, before: Any, after: Any, by: Any = ()) -> Any:
        """What changed between two windows, each a pair of days, and why: KPI by component, after less before.

        The row `unexplained` is what is left of the change of the KPI itself. Where the windows hold different numbers
        of weeks (`weeks_before`, `weeks_after`; of a group unit-weeks) all is per week, as the column `per` says; where
        one of them holds none there is no number.
        """
        windows = self._windows([before, after])
        first, then = (0, 1) if np.datetime64(before[0]) <= np.datetime64(after[0]) else (1, 0)
        names = (*self.fleet.channels, *components(self.fleet.spec.model, self.fleet.spec.data), "unexplained")

        def summarise(account: Totals) -> dict[str, Any]:
            weeks = account.weeks[[first, then]]
            even = weeks[0] == weeks[1]
            size = np.where(weeks > 0, 1.0 if even else weeks, np.nan)
            old, new = account.contribution[[first, then]] / size[:, None, None]
            came = float(np.diff(account.kpi[[first, then]] / size)[0])
            spend = np.full((2, len(names)), np.nan)
            spend[:, : len(self.fleet.channels)] = account.spend[[first, then]] / size[:, None]
            values = statistics(np.concatenate([new - old, came - (new - old).sum(axis=0, keepdims=True)]))
            facts = {"spend_before": spend[0], "spend_after": spend[1], "kpi_change": came}
            counts = {"weeks_before": weeks[0], "weeks_after": weeks[1]}
            return {**values, **facts, **counts, "per": np.array("window" if even else "week", object)}

        long_table = LongTable()
        for head, values in self._walked(by, windows, summarise):
            long_table.add(head, {"component": names}, values)
        return self._framed(long_table.table())

    def forecast(
        self, plan: Any = None, *, controls: Any = None, weeks: int | None = None, by: Any = None, period: Any = "all"
    ) -> Any:
        """KPI of the coming weeks by component under a table of future spend; see `forecast.look_further`.

        `expected` is the sum of the components, `kpi` the same with the noise of the weeks. Without a plan nothing is
        spent, and the past's media carry over. `held` names the controls and unpaid channels that stay at their mean,
        `beyond` those that go far outside what the fit has seen, of which its priors tell, and `unplanned` the channels
        that were paid for of late and the periods that the plan has no row of.
        """
        future = forecast.look_further(self.fleet, plan, controls, weeks)
        windows = self._windows(period, [unit.dates[-future.fleet.ahead :] for unit in future.fleet.units])
        parts = components(self.fleet.spec.model, self.fleet.spec.data)
        kinds = ["channel"] * len(self.fleet.channels) + self._kinds(parts) + ["total"] * 2
        axes = {"period": windows.names, "component": (*self.fleet.channels, *parts, "expected", "kpi")}
        words = ("held", "beyond", "unplanned")
        long_table, said = LongTable(), {name: "; ".join(getattr(future, name)) for name in words}
        for head, values in replace(self, fleet=future.fleet)._walked(by, windows, forecast.outcomes, chance=True):
            columns = {"kind": np.array(kinds), **values}
            long_table.add({**head, **said}, axes, columns, where=values["weeks"] > 0)
        return self._framed(long_table.table())

    def counterfactual(self, plan: Any, by: Any = None, period: Any = "all") -> Any:
        """What past weeks would have brought on top under a table of other spend; see `alternative`.

        Raises:
            ConfigError: The plan names what is not there, twice, or an amount that is none.
            TableError: The plan cannot be read or lacks a column.
        """
        return self._framed(scenarios.alternative(self.fleet, plan, by, self._windows(period)))

    def curves(self, points: int | None = None) -> Any:
        """Weekly response by unit, channel and steady level of spend, with the spend that was seen.

        Args:
            points: Levels; by default as many as the run's own table of curves has.
        """
        return self._framed(curve_tables.curves(self.fleet, points or self.fleet.spec.output.curve_points))

    def shapes(self) -> Any:
        """Half-saturation, saturation at the usual spend, half-life and mean lag, by unit and channel."""
        return self._framed(curve_tables.shapes(self.fleet))

    def lags(self) -> Any:
        """Share of each channel's effect that comes so many periods after its media, by unit."""
        return self._framed(curve_tables.lags(self.fleet))

    def overlap(self) -> Any:
        """Pairs of channels that the data can hardly tell apart, by unit: correlations, VIF and what they mean."""
        found = self._subjects(None, self._windows("all"), returns=True)
        return self._framed(collinearity.overlap(self.fleet, [summary["correlation"] for _, summary in found]))

    def movement(self) -> Any:
        """Prior and posterior of every parameter and ROI: whether the data said anything."""
        return self._framed(prior_shift.movement(self.tables("params"), self.tables("roi"), self.fleet.keys))

    def checks(self) -> Any:
        """Every check of every unit's model: statistic, threshold, verdict and, where it is not passed, a statement."""
        return self._framed(self.tables("checks"))

    def confounding(self, break_even: float = 1.0) -> Any:
        """How strong a cause that the table lacks would have to be to turn whether a channel pays for itself.

        By unit and paid channel: `correlation` with what is left of KPI and media; see `confounding.confounding`.

        Args:
            break_even: Return on a unit of spend from which on a channel pays, such as one over the margin.
        """
        return self._framed(confounding.confounding(self.fleet, self.tables("roi"), break_even))

    def sensitivity(
        self,
        alternatives: "Alternatives | None" = None,
        units: Collection[tuple[str, ...]] | None = None,
        refit: "Refit | None" = None,
    ) -> Any:
        """How far other priors would move what each channel brings; see `sensitivity.sensitivity`.

        Args:
            alternatives: By name what differs, such as `{"long": {"decay": {"a": 3, "b": 2}}}`; by default priors of
                media, curves and baseline that count half or twice as much (power-scaled).
            units: Labels of the units to tell of; by default all.
            refit: What fits units whose draws cannot be weighed anew; `mixfleet.sensitivity` gives one.

        Raises:
            ConfigError: Units are pooled or structures averaged, or an alternative is no prior of a parameter.
        """
        from mixfleet.analysis.tables.sensitivity import sensitivity  # densities need the model's code

        return self._framed(sensitivity(self.fleet, alternatives, units, refit))

    def structures(self) -> Any:
        """What each structure of an averaged fit says of ROI by itself, by unit and channel, its score and its weight.

        Raises:
            ConfigError: The run averaged none.
        """
        if not self.averaged:
            raise ConfigError("this run has one structure: name several", key="model.structures")
        return self._framed(self.tables("structures"))

    @property
    def averaged(self) -> bool:
        """Whether several structures were averaged."""
        return bool(self.fleet.spec.model.structures)

    def pooling(self) -> Any:
        """How far each unit borrowed from its group, by parameter and channel, and where the variance lies.

        Raises:
            ConfigError: The run pooled nothing.
        """
        if not self.pooled:
            raise ConfigError("every unit of this run was fitted alone: fit with pooling.by", key="pooling.by")
        return self._framed(self.tables("pooling"))

    def experiments(self) -> Any:
        """Each lift test beside what the model says of it, with it and without; see `experiments.experiments`.

        Raises:
            ConfigError: The run was fitted without tests.
        """
        if not self.tested:
            raise ConfigError("this run was fitted without lift tests: name their table", key="data.experiments")
        return self._framed(experiments.experiments(self.fleet))

    @property
    def tested(self) -> bool:
        """Whether lift tests were fitted."""
        return experiments.has_experiments(self.fleet)

    @property
    def pooled(self) -> bool:
        """Whether units shared hyperparameters."""
        return self.fleet.spec.pooling.by != "none"

    def fit(self, by: Any = None) -> Any:
        """How well the models fit: R2, MAPE, wMAPE, CRPS, coverage; by unit also how sure a negative baseline is.

        Of a group it is the sum of its certified units that is judged, week by week, and draw by draw with the noise
        of every unit. With a holdout its weeks are judged apart.
        """
        if by is None:
            found = self._subjects(None, self._windows("all"), returns=True)
            negative = [summary["baseline_negative"] for _, summary in found]
            table = self.tables("fit")
            return self._framed(table.append_column("baseline_negative", pa.array(np.array(negative, float))))
        long_table, columns = LongTable(), read_by(self.fleet, by) or ()
        judged = [
            list(fit_by_group(fleet, columns))
            for fleet in (self.fleet.seen(), *([self.fleet.held_out()] if self.fleet.spec.data.holdout else []))
        ]
        for (head, seen), *held in zip(*judged, strict=True):
            rest = {f"holdout_{name}": value for _, values in held for name, value in values.items()}
            long_table.add(head, {}, {**seen, **rest})
        return self._framed(long_table.table())

    def everything(self) -> dict[str, pa.Table]:
        """Every table as Arrow by name: by unit, key column and fleet, over all time and by quarter."""
        arrow = replace(self, frame="pyarrow")
        groups = {
            "": None,
            **{f"_by_{key}": (key,) for key in self.fleet.keys if len(self.fleet.keys) > 1},
            "_total": (),
        }
        found: dict[str, pa.Table] = {}
        for period, ending in (("all", ""), ("quarter", "_quarterly")):
            for name, by in groups.items():
                # Returns first: they bring the contributions along.
                found[f"returns{name}{ending}"] = arrow.returns(by, period)
                found[f"contributions{name}{ending}"] = arrow.contributions(by, period)
                if self.economics.given:
                    found[f"whole_worth{name}{ending}"] = arrow.whole_worth(by, period)
            for name, by in groups.items() if platform_reports.reports(self.fleet) else ():
                found[f"calibration{name}{ending}"] = arrow.calibration(by, period)
        found["carry_over"] = arrow.carry_over()
        some = (
            *(("structures",) if self.averaged else ()),
            *(("pooling",) if self.pooled else ()),
            *(("experiments",) if self.tested else ()),
        )
        for name in ("curves", "shapes", "lags", "overlap", "movement", "fit", "checks", *some, "left_out"):
            found[name] = getattr(arrow, name)()
        return found

    def left_out(self) -> Any:
        """The units that no total holds, and their status."""
        rows = [(*unit.labels, status) for unit, status, ok in self._fitted() if not ok]
        rows += [(*labels, status) for labels, status in self.fleet.missing.items()]
        names = (*self.fleet.keys, "status")
        return self._framed(
            pa.table({name: pa.array([row[i] for row in sorted(rows)], pa.string()) for i, name in enumerate(names)})
        )

    def _fitted(self) -> Iterator[tuple[Any, str, bool]]:
        return zip(self.fleet.units, self.fleet.statuses, self.fleet.included.tolist(), strict=True)

    def _measure(self, measure: str, by: Any, period: Any) -> Any:
        # Filtered before it becomes a frame of whichever library.
        table = replace(self, frame="pyarrow").returns(by, period)
        if not table.num_columns:
            return self._framed(table)
        spare = [name for name in ("measure", "pays") if name in table.column_names]
        return self._framed(table.filter(pc.field("measure") == measure).drop_columns(spare))

    def _whole(self, measure: str, by: Any, period: Any) -> Any:
        long_table, windows = LongTable(), self._windows(period)
        for head, summary in self._subjects(by, windows, returns=True):
            spend = summary["spend"].sum(axis=1)
            long_table.add(head, {"period": windows.names}, {**summary[measure], "spend": spend}, where=spend > 0)
        return self._framed(long_table.table())

    def _windows(self, period: Any, dates: Sequence[np.ndarray] | None = None) -> Windows:
        every = [unit.dates for unit in self.fleet.units] if dates is None else dates
        return read_period(period, every, self.fleet.spec.business.fiscal_year_start)

    def _kinds(self, parts: Sequence[str]) -> list[str]:
        """Of components beside the channels: treatments, and what is not decided."""
        treatments = {treatment.name for treatment in self.fleet.spec.data.treatments}
        return ["treatment" if name in treatments else "baseline" for name in parts]

    def _subjects(self, by: Any, windows: Windows, *, returns: bool) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Head columns and summary of every unit or group."""
        columns = read_by(self.fleet, by)
        usual = [(), *((key,) for key in self.fleet.keys)] if len(self.fleet.keys) > 1 else [()]
        groupings = usual if columns is None or columns in usual else [columns]
        # Returns are the dearer ones and hold contributions too.
        with_returns, key = ((windows.names, flag, tuple(groupings)) for flag in (True, returns))
        summarise = partial(appraise, economics=self.economics)
        if with_returns not in self._ledgers and key not in self._ledgers:
            rates = self._per_kpi(self.economics)
            self._ledgers[key] = keep(self.fleet, windows, groupings, summarise, returns=returns, rates=rates)
        return subjects(self.fleet, columns, self._ledgers.get(with_returns) or self._ledgers[key], summarise)

    def _walked(
        self, by: Any, windows: Windows, summarise: Callable[[Totals], Any], *, chance: bool = False
    ) -> Iterator[tuple[dict[str, Any], Any]]:
        columns = read_by(self.fleet, by)
        groupings = [] if columns is None else [columns]
        aggregation = keep(self.fleet, windows, groupings, summarise, returns=False, chance=chance)
        return subjects(self.fleet, columns, aggregation, summarise)

    def _framed(self, table: pa.Table) -> Any:
        return to_frame(table, self.frame)
