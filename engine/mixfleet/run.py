"""A finished run: its tables, insight, charts, plans, report and export. Reading tables starts no jax."""

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mixfleet.analysis.economics import Economics, EconomicsOptions, unit_rates
from mixfleet.analysis.posterior_draws import Fleet, read_fleet
from mixfleet.config import Business, build, to_mapping
from mixfleet.data.frames import FrameKind, Shown, to_frame
from mixfleet.errors import ConfigError, RunError, counted
from mixfleet.posterior.unit_result import CERTIFIED, certified, summed_statuses
from mixfleet.posterior.unit_series import SUMMARY_DRAWS
from mixfleet.storage import atomic_files
from mixfleet.storage.draws_reader import UnitDraws
from mixfleet.storage.reader import RunReader, read_run
from mixfleet.storage.remote.remote_run import RemoteRun
from mixfleet.storage.table_files import read_table, write_tables

if TYPE_CHECKING:
    import xarray as xr

    from mixfleet.analysis.comparison import Comparison
    from mixfleet.analysis.insight import Insight
    from mixfleet.budgeting.plan import Plan
    from mixfleet.budgeting.request import BudgetOptions
    from mixfleet.reporting.charts import Plots
    from mixfleet.reporting.summary import Summary

__all__ = ["Run", "SavedUnit", "open"]


def open(
    path: str | Path, *, frame: FrameKind = "pandas", include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> "Run":
    """A finished run.

    Args:
        path: A run folder, or a folder of runs for the one finished last; or either's address, such as `s3://bucket/runs`.
        frame: Library of the tables it returns.
        include: Statuses whose units enter totals and plans beside the certified ones: `misfit`.
        exclude: Certified statuses whose units do not, such as `ok_warn`.

    Raises:
        ConfigError: A status that cannot be included, or is not among the certified ones.
        RunError: There is no finished run, or its files are damaged.
    """
    reader, summed = read_run(path), summed_statuses(include, exclude)
    return Run(path=reader.path, manifest=reader.manifest, frame=frame, summed=summed, stored=reader.stored)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run. Tables are tidy: key columns, `status`, names, statistics, all in original units."""

    path: Path
    manifest: Mapping[str, Any]
    """Versions, seed, config, fingerprint, devices, timings, counts by status, digest of the result."""
    frame: FrameKind = "pandas"
    summed: frozenset[str] = CERTIFIED
    """Statuses of the units that enter totals and plans."""
    stored: RemoteRun | None = None
    """Where the run lies in an object store; `path` is then the local folder that stands for it."""

    def __repr__(self) -> str:
        """Counts by status."""
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items()) or "none"
        return f"<mixfleet run {self.place}: {counted(self.manifest['units'], 'unit')}, {counts}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: where it is, how many units can be used, and what to ask next."""
        from mixfleet.reporting.notebook import run_html

        return run_html(self.place, self.manifest, self.counts)

    @property
    def place(self) -> str:
        """What opens it again: its folder, or its address in an object store."""
        return self._reader.place

    @property
    def counts(self) -> dict[str, int]:
        """Number of units by status, those that occur."""
        return {status: count for status, count in self.manifest["counts"].items() if count}

    @property
    def ok_share(self) -> float:
        """Share of the table's units that are certified, in [0, 1]; 1 for a table without units."""
        ok = sum(count for status, count in self.counts.items() if certified(status))
        return ok / self.manifest["units"] if self.manifest["units"] else 1.0

    @property
    def keeps_draws(self) -> bool:
        """Whether draws were kept, without which there is no `insight`."""
        return self._reader.keeps_draws

    @property
    def business(self) -> Business:
        """What a KPI and a currency are worth, and when a year begins: what report, plan and export rest on.

        Raises:
            RunError: What was said of it after the fit cannot be read.
        """
        return self._reader.business

    def keep(self, **business: Any) -> "Run":
        """The same run with these business settings in place of those it has, which are kept in its folder.

        Args:
            **business: Fields of `mixfleet.config.Business`; what is not named stays.

        Raises:
            ConfigError: A setting is wrong, names a unit that the run does not have, or says nothing about one.
            RunError: They cannot be written.
        """
        kept, labels = build(Business, {**to_mapping(self.business), **business}, key="business"), self._reader.labels()
        Economics.of(kept).per_kpi(self._reader.keys, labels)
        unit_rates(kept.rates, self._reader.keys, labels, key="business.rates")
        self._reader.keep_business(kept)
        return replace(self)

    @property
    def keeps_tests(self) -> bool:
        """Whether lift tests were fitted and draws were kept, so that `insight.experiments` can compare them."""
        return self._reader.keeps_tests and self._reader.keeps_draws

    @property
    def status(self) -> Any:
        """One row per unit of the table: status, reason, diagnostics."""
        return to_frame(self.table("status"), self.frame)

    def roi(self) -> Any:
        """Return on spend by unit and channel, beside its prior."""
        return to_frame(self.table("roi"), self.frame)

    def contributions(self) -> Any:
        """Outcome by unit and component over the whole period, and its share."""
        return to_frame(self.table("contributions"), self.frame)

    def curves(self) -> Any:
        """Response curves: outcome by unit, channel and spend per period."""
        return to_frame(self.table("curves"), self.frame)

    def params(self) -> Any:
        """Parameters by unit and channel, with prior and diagnostics."""
        return to_frame(self.table("params"), self.frame)

    def fit_quality(self) -> Any:
        """How well each unit's model fits what it saw and, with a holdout, what it did not see."""
        return to_frame(self.table("fit"), self.frame)

    def weekly(self) -> Any:
        """KPI and its fitted mean and 90 % interval by unit and date."""
        return to_frame(self.table("weekly"), self.frame)

    def checks(self) -> Any:
        """Every check of every unit's model; see `mixfleet.posterior.model_checks`."""
        return to_frame(self.table("checks"), self.frame)

    def structures(self) -> Any:
        """What each structure of an averaged fit says of each unit's ROI by itself, its score and its weight."""
        return to_frame(self.table("structures"), self.frame)

    def findings(self) -> Any:
        """What the checks had to say about the table."""
        return to_frame(self.table("findings"), self.frame)

    @functools.cached_property
    def insight(self) -> "Insight":
        """What media brought, by unit, group of units and time, from the draws.

        Raises:
            RunError: The run kept no draws, or an older version made it that did not keep the table.
        """
        # Starts jax, in which response curves are evaluated; tables are read without it.
        from mixfleet.analysis.insight import Insight

        kept = Economics.of(self.business)
        insight = Insight(fleet=self.fleet(), tables=self.table, frame=self.frame)
        return insight.valued(**{name: getattr(kept, name) for name in ("margin", "customer_value", "retention")})

    @property
    def plot(self) -> "Plots":
        """Altair charts, each with its frame; needs altair.

        Raises:
            RunError: As for `insight`.
        """
        from mixfleet.reporting.charts import Plots

        return Plots(insight=self.insight, weekly=self.table("weekly"))

    def budget(self, **request: Unpack["BudgetOptions"]) -> "Plan":
        """The plan for coming weeks that brings most; see `mixfleet.budgeting.request.BudgetRequest` for what to ask.

        Raises:
            ConfigError: The request is wrong, or no plan fulfils all of them.
            RunError: The run kept no draws, or an older version made it that did not keep the table.
        """
        from mixfleet.budgeting.planner import plan_budget

        plan = plan_budget(self.insight.fleet, **request)
        totals = {**plan.totals, "result_sha256": self.manifest["result_sha256"]}
        return replace(plan, totals=totals, frame=self.frame)

    def finance(self, plan: "Plan | None" = None, by: Sequence[str] = ()) -> Any:
        """A plan beside today's spend continued and last year, in lines that add up; see `analysis.finance.finance`.

        Args:
            plan: By default the one in the run's folder, or else the usual one.
            by: Key columns to sum by; by default all is one sum.

        Raises:
            ConfigError: There is nothing to plan.
            RunError: As for `insight`.
        """
        from mixfleet.analysis.finance import finance

        plan = plan or self._plan(self.insight, self.business.rates)
        if plan is None:
            raise ConfigError("there is nothing to plan: no spend, or no certified unit", key="finance")
        return to_frame(finance(plan.cells, plan.weekly, self.insight, by), self.frame)

    def summary(self, plan: "Plan | None" = None, **economics: Unpack[EconomicsOptions]) -> "Summary":
        """The run in four sentences, and pass, review or fail with reasons; its text is what `mixfleet fit` prints.

        Args:
            plan: A plan that the third sentence is to be about.
            **economics: As in `Insight.valued`.

        Raises:
            RunError: As for `insight`.
        """
        from mixfleet.reporting.summary import evidence, summarise

        insight = replace(self.insight.valued(**economics), frame="pyarrow")
        return summarise(insight, evidence(insight, self.table), self.manifest, plan, self.place)

    def report(
        self,
        out: str | Path | None = None,
        *,
        since: "Run | str | Path | None" = None,
        rates: Mapping[str, float] | None = None,
        **economics: Unpack[EconomicsOptions],
    ) -> Path:
        """Write the report, one HTML file that needs no network; by default `report.html` in the run's folder.

        It holds the plan that `mixfleet budget` left in the run's folder, or else one with the usual limits, of profit
        with a margin and in the currency of `rates` (as in a budget); the forecast that `mixfleet forecast` left there;
        what changed since an earlier run, `since` or else `run.base`; and profit, LTV:CAC and payback where `economics`
        has a margin or a customer's value, see `Insight.valued`. A plan from before that rests on others says so.

        Raises:
            ConfigError: A number of `economics` is no money or no share, or not every unit has one.
            RunError: The run kept no draws, or an older version made it that did not keep the table.
        """
        from mixfleet.reporting.html import compose_report

        insight, rates = replace(self.insight.valued(**economics), frame="pyarrow"), rates or self.business.rates
        path = Path(out) if out is not None else self.path / "report.html"
        plan = self._plan(insight, rates)
        found, changes = read_table(self.path / "forecast", "forecast"), self._changes(since)
        page = compose_report(insight, self.table, self.manifest, plan, found, changes)
        atomic_files.make_folder(path.parent)
        atomic_files.remove_abandoned(path)
        atomic_files.replace_bytes(path, page.encode())
        return path

    def slides(self, out: str | Path | None = None) -> Path:
        """Write the report's pages on the fleet as PowerPoint slides; by default `slides.pptx` in the run's folder.

        Raises:
            ConfigError: python-pptx (`mixfleet[slides]`) is missing.
            RunError: As for `insight`.
        """
        from mixfleet.reporting.slides import compose_slides

        insight = replace(self.insight, frame="pyarrow")
        plan = self._plan(insight, self.business.rates)
        path = self.path / "slides.pptx" if out is None else Path(out)
        atomic_files.make_folder(path.parent)
        atomic_files.replace_bytes(path, compose_slides(insight, self.summary(plan), plan))
        return path

    def _plan(self, insight: "Insight", rates: Mapping[str, float]) -> "Plan | None":
        """The plan in the run's folder, or else the usual one; None where there is nothing to plan."""
        from mixfleet.budgeting.plan import Plan
        from mixfleet.budgeting.plan_money import money_notes, usual_request

        request, saved_plan = usual_request(insight, rates), self.path / "budget"
        try:
            plan = Plan.read(saved_plan) if saved_plan.exists() else self.budget(**request)
        except ConfigError:
            # No spend, or no certified unit.
            return None
        if plan.totals.get("result_sha256") != self.manifest["result_sha256"]:
            raise RunError(f"the plan in {self.path / 'budget'} was made from another run; repeat mixfleet budget")
        return replace(plan, remarks=tuple(money_notes(plan, insight, rates)))

    def compare(self, earlier: "Run | str | Path", *, threshold: float = 0.5) -> "Comparison":
        """What changed since an earlier run of the fleet: units, ROI, and why, as a sum of links.

        Args:
            earlier: The run, or its folder or address.
            threshold: Posterior standard deviations that a change of ROI must exceed to be an alert.

        Raises:
            ConfigError: The runs have other key columns, or the threshold is no positive number.
            RunError: The earlier run is not finished or damaged.
        """
        from mixfleet.analysis.comparison import compared

        other = earlier if isinstance(earlier, Run) else open(earlier)
        readers = (other._reader, self._reader)
        if readers[0].keys != readers[1].keys:
            raise ConfigError(f"{other.place} has other key columns: {', '.join(other._reader.keys)}", key="compare")
        kept = all(reader.keeps_draws and reader.keeps_panel for reader in readers)
        before, after = ({name: reader.table(name) for name in ("status", "roi", "params")} for reader in readers)
        fleets = (read_fleet(readers[0], SUMMARY_DRAWS), read_fleet(readers[1], SUMMARY_DRAWS)) if kept else None
        return compared(before, after, readers[0].keys, fleets, threshold=threshold)

    def _changes(self, since: "Run | str | Path | None" = None) -> "Comparison | None":
        """What changed since a run, or else the one that units were taken over from, where that is still there."""
        if since is not None:
            return self.compare(since)
        if (base := self.manifest.get("base")) is None:
            return None
        try:
            earlier = open(base["run"])
        except RunError:
            return None
        return self.compare(earlier) if earlier.manifest["result_sha256"] == base["result_sha256"] else None

    def export(
        self,
        folder: str | Path,
        kind: str = "csv",
        *,
        rates: Mapping[str, float] | None = None,
        **economics: Unpack[EconomicsOptions],
    ) -> list[Path]:
        """Write every table of `insight` to files; `kind` is csv, parquet or xlsx, `economics` as in `Insight.valued`.

        Plan and forecast are among them, as in `report`. A workbook begins with cover, `summary`, plan and returns.

        Raises:
            ConfigError: Unknown kind, Excel is asked for without openpyxl, or a number of `economics` is wrong.
            RunError: The run kept no draws, or an older version made it that did not keep the table.
        """
        from mixfleet.reporting.workbook import front_sheets, plan_tables

        insight, rates = self.insight.valued(**economics), rates or self.business.rates
        plan, forecast = self._plan(insight, rates), read_table(self.path / "forecast", "forecast")
        front = front_sheets(self.summary(plan, **economics), self.manifest) if kind == "xlsx" else {}
        planned = {} if plan is None else plan_tables(plan, insight)
        found = {} if forecast is None else {"forecast": forecast}
        if (changes := self._changes()) is not None:
            found |= {"changes": changes.roi, "change_links": changes.links, "changed_units": changes.units}
        first = {**front, **planned, **({"roi": self.table("roi")} if front else {}), "status": self.table("status")}
        return write_tables({**first, **found, **insight.everything()}, Path(folder), kind, name=f"tables_{kind}")

    def fleet(self, draws: int = 1000) -> Fleet:
        """The units' data and draws as arrays.

        Args:
            draws: How many draws of each unit to look at, at most; evenly spaced over all chains.

        Raises:
            RunError: The run kept no draws, or an older version made it that did not keep the table.
        """
        fleet = read_fleet(self._reader, draws, summed=self.summed)
        return replace(fleet, spec=replace(fleet.spec, business=self.business))

    def table(self, name: str) -> pa.Table:
        """A summary table as Arrow, by file name without suffix.

        Raises:
            RunError: No such table, or its file is damaged.
        """
        return self._reader.table(name)

    def unit(self, *labels: str) -> "SavedUnit":
        """One unit, by its key values in the order of the key columns.

        Raises:
            RunError: No such unit.
        """
        row = self._reader.position(labels)
        return SavedUnit(run=self, position=row, status_row=self.table("status").slice(row, 1).to_pylist()[0])

    @functools.cached_property
    def _reader(self) -> RunReader:
        return RunReader(self.path, self.manifest, self.stored)


@dataclass(frozen=True, kw_only=True, repr=False)
class SavedUnit(Shown):
    """One unit of a finished run."""

    run: Run
    position: int
    """Place in the status table and in the archive."""
    status_row: Mapping[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        """Key column to value."""
        return {key: self.status_row[key] for key in self.run.manifest["keys"]}

    @property
    def status(self) -> str:
        """One of `mixfleet.posterior.unit_result.STATUSES`."""
        return self.status_row["status"]

    @property
    def reason(self) -> str:
        """Why the unit is not plain `ok`."""
        return self.status_row["reason"]

    def _sentence(self) -> str:
        return f"unit {' / '.join(self.labels.values())}: {self.status}{f' ({self.reason})' if self.reason else ''}"

    def _shown(self) -> pa.Table:
        return self.table("roi")

    def draws(self) -> UnitDraws:
        """Draws by variable [chain, draw, ...]; none for a unit that has no fit.

        Raises:
            RunError: The run kept no draws (`output.draws=summary`), or they are damaged.
        """
        return self.run._reader.draws(self.position)

    def table(self, name: str) -> pa.Table:
        """The unit's rows of a summary table, as Arrow."""
        table = self.run.table(name)
        own = [pc.field(key) == label for key, label in self.labels.items()]
        return table.filter(functools.reduce(operator.and_, own))

    def to_datatree(self, *, full: bool = False) -> "xr.DataTree":
        """The unit as ArviZ and xarray know it: groups `posterior`, `sample_stats` (`lp`), `observed_data`.

        Status and reason are attributes of the tree and of its posterior, so that a quarantined unit says so
        wherever it is printed. Groups for which the run kept nothing are absent.

        Args:
            full: Also what ArviZ's `loo`, predictive checks and `psense` look at: `log_likelihood`, `log_prior`,
                `posterior_predictive`, `prior` and `prior_predictive`. Data and predictions are then of the weeks that
                were fitted. A pooled unit's prior is its group's, and has no groups here.

        Raises:
            RunError: The full tree of a run that kept no draws or no table.
        """
        import xarray as xr  # takes a second, and tables are read without it

        attributes = {**self.labels, "status": self.status, "reason": self.reason}
        groups = {"/": xr.Dataset(attrs=attributes)}
        if self.run.keeps_draws:
            unit = self.draws()
            posterior = {name: unit.draws[name] for name in unit.draws if name != "lp"}
            if posterior:
                groups["posterior"] = _dataset(posterior, unit, attributes)
            if "lp" in unit.draws:
                groups["sample_stats"] = _dataset({"lp": unit.draws["lp"]}, unit, attributes)
        weekly = self.table("weekly")
        if weekly.num_rows:
            dates = weekly["date"].to_numpy().astype("datetime64[ns]")
            groups["observed_data"] = xr.Dataset({"kpi": ("date", weekly["kpi"].to_numpy())}, {"date": dates})
        if full:
            from mixfleet.analysis.inference_groups import inference_groups  # draws of curves need jax

            fleet = self.run.fleet(draws=1)
            if "posterior" in groups:
                place = [unit.labels for unit in fleet.units].index(tuple(self.labels.values()))
                groups |= inference_groups(fleet, place, groups["posterior"])
        return xr.DataTree.from_dict(groups)


def _dataset(draws: Mapping[str, np.ndarray], unit: UnitDraws, attributes: dict[str, str]) -> "xr.Dataset":
    import xarray as xr

    used = {axis for name in draws for axis in unit.dims[name]}
    chains, length = next(iter(draws.values())).shape[:2]
    return xr.Dataset(
        {name: (("chain", "draw", *unit.dims[name]), values) for name, values in draws.items()},
        {
            "chain": np.arange(chains),
            "draw": np.arange(length),
            **{axis: np.array(unit.coords[axis], dtype=object) for axis in sorted(used)},
        },
        attrs=attributes,
    )
