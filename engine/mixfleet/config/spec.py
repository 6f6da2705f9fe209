"""Spec: every setting of a run, frozen and hashable, with defaults and checks."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, TypeVar

from mixfleet.config import schema
from mixfleet.config.baseline import Fourier
from mixfleet.config.business import Business
from mixfleet.config.data import Data
from mixfleet.config.measures import OF_SPEND
from mixfleet.config.model import Model
from mixfleet.config.pooling import MOVES_THE_LEVEL, Pooling
from mixfleet.config.presets import read_settings, shipped_settings
from mixfleet.config.priors import Prior
from mixfleet.config.schema import Range, Reads, build, read_label
from mixfleet.errors import ConfigError

__all__ = [
    "GROUPS",
    "Cluster",
    "Compute",
    "Inference",
    "Output",
    "RunConfig",
    "Setting",
    "SettingGroups",
    "Spec",
    "preset",
]


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How long to sample and when a unit counts as certified."""

    chains: Annotated[int, Range(2, 1024)] = 8
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0

    ess_target: Annotated[int, Range(1)] = 1500
    """Effective draws at which a unit stops; from half of `max_draws` on it stops as soon as it is certified."""

    ess_floor: Annotated[int, Range(1)] = 400
    """Effective draws, bulk and tail, below which a unit is not certified."""

    rhat_max: Annotated[float, Range(1.0, open=True)] = 1.01
    ebfmi_min: Annotated[float, Range(0.0, 1.0)] = 0.3

    max_draws: Annotated[int, Range(100)] = 4000
    """Draws per chain after which a unit climbs the ladder."""

    target_accept: Annotated[float, Range(0.0, 1.0, open=True)] = 0.8

    ladder: bool = True
    """Units that miss a gate are tried again, harder, before they are quarantined. A pooled group is tried again as
    one, if its hyperparameters or more than 2 % of its units miss one."""

    rung_seconds: Annotated[float | None, Range(0.0, open=True)] = 600.0
    """Seconds that one unit, or group of pooled ones, may take on one rung of the ladder, compiling left out: what is
    not certified by then is judged by what it has. None: no limit."""

    def __post_init__(self) -> None:
        schema.settle(self, key="inference")
        if self.ess_target < self.ess_floor:
            raise ConfigError(
                f"must be at least ess_floor ({self.ess_floor}), is {self.ess_target}",
                key="inference.ess_target",
            )


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How `compute.executor=ray` shares a fleet out; changes no result."""

    address: str | None = None
    """Of a running Ray cluster, `auto` for this machine's; unset: `RAY_ADDRESS`, or Ray started for this fit alone."""

    units: Annotated[int, Range(1)] = 64
    """Units of one task, or so many that whole pooled groups make. A worker that is lost costs its task."""

    cpus: Annotated[int, Range(1)] = 1
    """Cores, and threads, of one task."""

    gpus: Annotated[float, Range(0.0)] = 0.0
    """GPUs of one task."""

    retries: Annotated[int, Range(0)] = 4
    """How often a task whose worker or machine was lost is given to another one."""

    def __post_init__(self) -> None:
        schema.settle(self, key="compute.ray")


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and how to compute; changes no result beyond the rounding of `precision` and `lanes`."""

    lanes: Annotated[int, Range(1, 65536)] = 128
    """Chains of different units that one compiled program moves at once; native code moves fewer."""

    devices: Literal["all"] | Annotated[int, Range(1)] = "all"

    threads: Annotated[int | None, Range(1)] = None
    """Threads that move units' chains on CPU; unset: one for each core."""

    precision: Literal["float32", "float64"] = "float32"
    memory_limit_gib: Annotated[float, Range(0.0, open=True)] = 4.0

    cache_dir: str | None = None
    """Folder of compiled programs; unset: `mixfleet/xla` in the user's cache folder."""

    shard: str | None = None
    """`i/n`, i from 0: only this of n parts of the fleet is fitted, for `mixfleet collect` to put together."""

    executor: Literal["local", "ray"] = "local"
    """This process, or workers of a Ray cluster (extra `ray`); results are saved by this process either way."""

    ray: Cluster = Cluster()

    def __post_init__(self) -> None:
        schema.settle(self, key="compute")
        if self.shard is not None and not _is_part(self.shard):
            raise ConfigError(
                f"must be i/n with i from 0 to n - 1, such as 0/4, is {self.shard!r}", key="compute.shard"
            )


def _is_part(shard: str) -> bool:
    found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", shard)
    return found is not None and int(found[1]) < int(found[2])


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a run keeps."""

    draws: Literal["summary", "thin", "full"] = "thin"
    """No draws, about `thin` draws per unit, or all of them."""

    thin: Annotated[int, Range(1)] = 1000

    curve_points: Annotated[int, Range(2, 1001)] = 21
    """Spend levels at which response curves are reported."""

    def __post_init__(self) -> None:
        schema.settle(self, key="output")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where the run folder goes: `root/id`."""

    root: str = "runs"
    """A folder, or an address in an object store such as `s3://bucket/runs`: parts are put there as they are committed,
    and a fit goes on on any machine. Keys come from the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`)."""

    id: Annotated[str | None, Reads(read_label)] = None
    """Name of the folder; unset: date and time. An existing one of the same configuration is resumed."""

    base: str | None = None
    """A finished run, or a folder of runs for the one finished last, or the address of either in an object store: units
    whose data and settings are the same there are taken from it, to the byte as they would be fitted again."""

    reuse: Literal["unchanged", "reweighted"] = "unchanged"
    """What is taken from `base`: units that are the same, or also draws of units of which a few weeks came or were
    revised, weighed anew where the weights can be trusted (`pareto_k` of the status table), pooled units with their
    whole group; the others are fitted."""

    scales: Literal["own", "frozen"] = "own"
    """The weeks that scales of units are measured on: each table's own, or those that `base` measured them on, so that
    priors stay where they are while weeks come."""

    metrics: str | None = None
    """File for Prometheus' textfile collector (`*.prom`), replaced when the fit ends: units by status, share certified,
    worst diagnostics, seconds, when."""

    lineage: str | None = None
    """File for an OpenLineage event, replaced when the fit ends: which data were read, which folder was written."""

    log: str | None = None
    """File to append a line of JSON to for each event (a unit saved, the run interrupted or finished), or `stderr`:
    names, statuses and times, no data."""

    tracking: Literal["mlflow"] | None = None
    """Where a finished run is told too: settings, metrics, tables and report as one run of the server that
    `MLFLOW_TRACKING_URI` names (extra `mlflow`). A server that cannot be reached is a warning."""

    def __post_init__(self) -> None:
        schema.settle(self, key="run")
        for name, place in (("root", self.root), ("base", self.base or "")):
            # The manifest keeps them.
            if "://" in place and {"@", "?"} & set(place):
                raise ConfigError(
                    "an address holds no password and no question: keys are environment variables", key=f"run.{name}"
                )
        if self.id is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", self.id):
            raise ConfigError(f"must be letters, digits, '.', '_' or '-', is {self.id!r}", key="run.id")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """All settings of one run."""

    data: Data = Data()
    model: Model = Model()
    prior: Prior = Prior()
    pooling: Pooling = Pooling()
    inference: Inference = Inference()
    compute: Compute = Compute()
    output: Output = Output()
    business: Business = Business()
    run: RunConfig = RunConfig()

    def __post_init__(self) -> None:
        schema.settle(self, key="")
        for i, override in enumerate(self.prior.overrides):
            for column in override.unit:
                if column not in self.data.unit_keys:
                    keys = ", ".join(self.data.unit_keys)
                    raise ConfigError(f"is no key column; those are {keys}", key=f"prior.overrides[{i}].unit.{column}")
        self._refuse_terms()
        self._refuse_structures()
        self._refuse_log_link()
        self._refuse_sampled_coefficients()
        by = self.pooling.by
        for column in (by,) if isinstance(by, str) else by:
            if column not in ("none", "crossed", *self.data.unit_keys):
                keys = ", ".join(self.data.unit_keys)
                raise ConfigError(f"{column!r} is not none, crossed or a key column ({keys})", key="pooling.by")
        for family, columns in self.pooling.keys.items():
            if unknown := [column for column in columns if column not in self.data.unit_keys]:
                keys = ", ".join(self.data.unit_keys)
                raise ConfigError(f"{unknown[0]!r} is no key column ({keys})", key=f"pooling.keys.{family}")

    def _refuse_structures(self) -> None:
        """Refuses settings under which structures cannot be averaged."""
        if not self.model.structures:
            return
        exact = self.model.observation in ("normal", "ar1")
        for key, unset, why in (
            ("pooling.by", self.pooling.by == "none", "weighs units of a group together, which must share a structure"),
            ("model.observation", exact, "has no exact density of weeks left out"),
            ("model.link", self.model.link == "identity", "has no parts that add up over structures"),
            ("compute.shard", self.compute.shard is None, "knows only some of the units, and weights are of all"),
            ("run.base", self.run.base is None, "has units alone, and weights are of all"),
        ):
            if not unset:
                raise ConfigError(f"{why}: leave it or model.structures out", key=key)

    def _refuse_log_link(self) -> None:
        """Refuses what a model in which all multiplies does not know."""
        if self.model.link != "log":
            return
        if money := [measure for measure in self.prior.on.possible if measure in OF_SPEND]:
            raise ConfigError(
                f"{money[0]} is not known to model.link=log, where what a channel brings depends on all the rest: use "
                "media_share, contribution or effect, which are then of the KPI's logarithm",
                key="prior.on",
            )
        if self.data.experiments.path is not None:
            raise ConfigError("lift tests are not known to model.link=log", key="data.experiments")

    def _refuse_sampled_coefficients(self) -> None:
        """Refuses coefficients that are sampled where all have to be integrated out."""
        parameters = dict.fromkeys(term.parameter for term in self.model.baseline_terms)
        parameters |= dict.fromkeys(["control"] * bool(self.data.controls) + ["treatment"] * bool(self.data.treatments))
        odd = [f"prior.parameters.{name}" for name in parameters if self.prior.of(name).family != "normal"]
        if self.pooling.by != "none" and self.prior.total_share is not None:
            raise ConfigError("cannot be pooled: media have their prior from the group", key="prior.total_share")
        if scales := self.model.scale_parameters:
            if self.pooling.by != "none":
                raise ConfigError(f"{scales[0]} is a unit's own: leave it or pooling out", key="pooling.by")
            if self.model.structures:
                raise ConfigError(f"cannot be averaged with a learned {scales[0]}", key="model.structures")
            if self.model.signs or odd:
                key = "model.signs" if self.model.signs else odd[0]
                raise ConfigError(f"needs every coefficient normal beside {scales[0]}, without a sign", key=key)
        for key in (*(f"model.signs.{name}" for name in self.model.signs), *odd):
            if self.pooling.by != "none":
                raise ConfigError("cannot be pooled: such a coefficient is a unit's own", key=key)
            if self.model.structures:
                raise ConfigError("is not known to model.structures, which need every coefficient normal", key=key)

    def _refuse_terms(self) -> None:
        """Refuses terms of the baseline that do not go with the table or the pooling."""
        terms = self.model.baseline_terms
        used = {name for term in terms for name in (term.component, *term.names())}
        for name in (*self.data.linear, *(channel.name for channel in self.data.channels)):
            if name in used:
                raise ConfigError(
                    f"{name!r} is a column of the table too: give the term another name", key="model.baseline"
                )
        for term in terms:
            if isinstance(term, Fourier) and self.data.frequency == "weekly" and term.days < 14 * term.order:
                raise ConfigError(
                    f"waves of {term.days:g} / {term.order} days are too short to be seen in weekly data: "
                    "leave the term out or lower its order",
                    key="model.baseline",
                )
            counted = term.parameter in MOVES_THE_LEVEL and not getattr(term, "at", ())
            if counted and self.pooling.by != "none" and self.pooling.intercept is not None:
                raise ConfigError(
                    f"the columns of {term.prefix} are counted from each unit's own end and cannot be pooled: "
                    "give it `at: [days]` or leave pooling.intercept out",
                    key="model.baseline",
                )


S = TypeVar("S")

Setting = S | Mapping[str, Any] | str | None
"""A group of settings as a call takes it: its dataclass, a mapping of what differs, or the name of a preset."""


class SettingGroups(TypedDict, total=False):
    """The groups of settings, as keywords of a call; see `Spec`."""

    data: Setting[Data]
    model: Setting[Model]
    prior: Setting[Prior]
    pooling: Setting[Pooling]
    inference: Setting[Inference]
    compute: Setting[Compute]
    output: Setting[Output]
    business: Setting[Business]
    run: Setting[RunConfig]


GROUPS: dict[str, type] = {field.name: field.type for field in dataclasses.fields(Spec)}  # pyright: ignore[reportAssignmentType]
"""The groups of settings and the dataclass of each."""


def preset(group: str, name: str) -> Any:
    """A shipped group of settings as its dataclass, such as `preset("prior", "tight")`.

    Raises:
        ConfigError: No such group or name; the message lists those there are.
    """
    if group not in GROUPS:
        raise ConfigError(f"unknown group; known: {', '.join(GROUPS)}", key=group)
    folder: Path = shipped_settings() / group
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise ConfigError(f"no preset {name!r}; there are: {', '.join(names)}", key=group)
    return build(GROUPS[group], read_settings(folder / f"{name}.yaml"), key=group)
