"""The result of a model check, and the false-alarm rate that its threshold is made for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

__all__ = ["FALSE_ALARMS", "VERDICTS", "ModelCheck", "check_columns", "concluded", "untested"]

Verdict = Literal["passed", "note", "doubt", "misfit"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
"""`note`: something is wrong, and what media are said to bring hardly depends on it; `doubt`: the answer is to be used
with care; `misfit`: it certainly misleads."""

FALSE_ALARMS = 0.005
"""Share of units whose data come from the model that a test of chance alone may flag, for each kind of check."""

HARMLESS = "what media bring hardly depends on it"


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    """What one check found in one unit."""

    kind: str
    """What is checked, such as `autocorrelation`."""
    about: str = ""
    """The channel, the week or the test that it is about; empty for the unit."""
    statistic: float
    """In the unit that the statement names; NaN where the unit cannot be checked."""
    threshold: float
    """At which the statistic is a doubt."""
    verdict: Verdict = "passed"
    statement: str = ""
    """What is wrong, how much, and the remedy; empty where the check was passed."""


def concluded(
    kind: str,
    statistic: float,
    threshold: float,
    statement: str,
    *,
    misfit: float = np.inf,
    about: str = "",
    harmless: bool = False,
) -> ModelCheck:
    """The check of a statistic of which more is worse.

    Args:
        kind: What is checked.
        statistic: NaN, where nothing could be checked, passes.
        threshold: At which it is a doubt.
        statement: What is to be said from there on.
        misfit: At which it certainly misleads.
        about: The channel, the week or the test that it is about.
        harmless: Whether what media bring hardly depends on it: it is then a note in place of a doubt.
    """
    found = "note" if harmless else "doubt"
    verdict = "misfit" if statistic >= max(threshold, misfit) else found if statistic >= threshold else "passed"
    said = "" if verdict == "passed" else f"{statement}; {HARMLESS}" if verdict == "note" else statement
    return ModelCheck(
        kind=kind,
        about=about,
        statistic=float(statistic),
        threshold=float(threshold),
        verdict=verdict,
        statement=said,
    )


def untested(kind: str) -> ModelCheck:
    """The check of a unit that has too little to be checked."""
    return ModelCheck(kind=kind, statistic=np.nan, threshold=np.nan)


def check_columns(checks: Sequence[ModelCheck]) -> dict[str, np.ndarray]:
    """The checks as columns of the table `checks`."""
    texts = ("kind", "about", "verdict", "statement")
    return {
        **{name: np.array([getattr(check, name) for check in checks], object) for name in texts},
        **{name: np.array([getattr(check, name) for check in checks], float) for name in ("statistic", "threshold")},
    }
