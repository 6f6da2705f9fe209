"""Exchange: what a peer is given and what it hands back, as files; needs numpy and pandas only.

A peer runs in an environment of its own, as `python -m benchmarks.peers.<peer> FOLDER PACKAGE...` from the root of the
repository. Every folder in FOLDER is one unit; the peer fits them one after another in one process, as a loop does.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CHAINS, WARMUP, DRAWS = 4, 1000, 1000
"""What every peer runs: its users' usual."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the linear block, ready for use, and the normal prior of its coefficient."""

    name: str
    kind: str
    """`trend`, `seasonality` or `control`."""
    mean: float
    sd: float


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One unit's data and model.

    KPI and media are in the table's units; the priors hold after division of both by their maximum.
    """

    table: pd.DataFrame
    """date, kpi, one column per channel and per entry of `columns`, a row per week."""
    channels: list[str]
    columns: list[Column]
    window: int
    """Weeks of the normalised geometric adstock, the current one included."""
    saturation: str
    seasonality: int
    priors: dict[str, dict[str, Any]]
    """Parameter to family and hyperparameters."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a peer found."""

    contribution: np.ndarray
    """[chain, draw, channel]: sum over all weeks, in KPI."""
    parameters: np.ndarray
    """[chain, draw, parameter]: all that the model estimates."""
    divergences: int
    energy: np.ndarray
    """[chain, draw]; empty if the sampler does not tell."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What it took; importing the library is left out, compiling is not."""

    seconds: float
    peak_memory_gib: float
    versions: dict[str, str]


def write_problem(folder: Path, problem: Problem) -> None:
    folder.mkdir(parents=True)
    problem.table.to_csv(folder / "table.csv", index=False)
    rest = {name: value for name, value in asdict(problem).items() if name != "table"}
    (folder / "problem.json").write_text(json.dumps(rest, indent=1))


def read_problem(folder: Path) -> Problem:
    rest = json.loads((folder / "problem.json").read_text())
    rest["columns"] = [Column(**column) for column in rest["columns"]]
    table = pd.read_csv(folder / "table.csv", parse_dates=["date"])
    return Problem(table=table, **rest)


def read_answer(folder: Path) -> tuple[Answer, Cost]:
    facts = json.loads((folder / "answer.json").read_text())
    with np.load(folder / "answer.npz", allow_pickle=False) as arrays:
        answer = Answer(divergences=facts.pop("divergences"), **arrays)
    return answer, Cost(**facts)


def serve(fit: Callable[[Problem], Answer]) -> None:
    """Answers every unit of the folder on the command line, and notes the versions of the packages named there."""
    versions = {package: metadata.version(package) for package in sys.argv[2:]}
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        problem = read_problem(folder)
        began = time.perf_counter()
        answer = fit(problem)
        seconds = time.perf_counter() - began
        arrays = asdict(answer)
        cost = Cost(seconds=seconds, peak_memory_gib=peak_memory_gib(), versions=versions)
        facts = {"divergences": arrays.pop("divergences"), **asdict(cost)}
        np.savez(folder / "answer.npz", **arrays)
        (folder / "answer.json").write_text(json.dumps(facts))


def peak_memory_gib() -> float:
    """The most that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 2**30


def flattened(variables: list[np.ndarray]) -> np.ndarray:
    """Variables [chain, draw, ...] side by side, as [chain, draw, parameter]."""
    return np.concatenate([np.asarray(v, float).reshape(*v.shape[:2], -1) for v in variables], axis=-1)
