"""Whether a fleet's models can be relied on: pass, review or fail, for each unit and for all, with the reasons."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mixfleet.errors import counted
from mixfleet.reporting.highlights import KINDS, SEVERITIES, Highlight

__all__ = ["FAIL", "PASS", "REVIEW", "Health", "RemarkGroup", "judge"]

PASS, REVIEW, FAIL = "pass", "review", "fail"

VERDICT_OF = {"problem": FAIL, "doubt": REVIEW}
"""The worst severity of a unit's remarks to its verdict; a surprise is no doubt about the model."""

MANY_FAIL = 0.5
"""Share of the units that fail from which on the fleet as a whole does."""


@dataclass(frozen=True, kw_only=True)
class RemarkGroup:
    """Remarks of one kind."""

    kind: str
    """One of `mixfleet.reporting.highlights.KINDS`."""
    remarks: tuple[Highlight, ...]

    @property
    def units(self) -> int:
        """How many units they are about."""
        return len({remark.unit for remark in self.remarks})

    def units_of(self, verdicts: Mapping[tuple[str, ...], str], verdict: str) -> list[tuple[str, ...]]:
        """Those of its units that have a verdict, the one with the worst remark first."""
        return [unit for unit in dict.fromkeys(remark.unit for remark in self.remarks) if verdicts[unit] == verdict]


@dataclass(frozen=True, kw_only=True)
class Health:
    """The verdicts of a run."""

    units: Mapping[tuple[str, ...], str]
    """Pass, review or fail, by unit, in the order of the status table."""
    groups: tuple[RemarkGroup, ...]
    """Remarks by kind: problems first, and the kind that concerns most units first within a severity."""
    loosened: tuple[str, ...] = ()
    """Gates of certification that were wider than the usual ones, in words."""

    @property
    def counts(self) -> dict[str, int]:
        """Units by verdict."""
        verdicts = list(self.units.values())
        return {verdict: verdicts.count(verdict) for verdict in (PASS, REVIEW, FAIL)}

    @property
    def verdict(self) -> str:
        """Of the fleet: fail where half of the units or more do, review where any unit fails or needs one."""
        counts = self.counts
        if counts[FAIL] >= MANY_FAIL * len(self.units):
            return FAIL
        return REVIEW if counts[REVIEW] or counts[FAIL] or self.loosened else PASS

    @property
    def reasons(self) -> list[str]:
        """One line for each loosened gate, and each kind of problem and doubt with how many units it concerns."""
        gates = [f"units are certified by a loosened gate: {gate}" for gate in self.loosened]
        return gates + [
            f"{counted(group.units, 'unit')}: {KINDS[group.kind].title}"
            for group in self.groups
            if KINDS[group.kind].severity in VERDICT_OF
        ]


def judge(units: Sequence[tuple[str, ...]], remarks: Iterable[Highlight], *, loosened: Sequence[str] = ()) -> Health:
    """The verdicts that remarks lead to.

    Args:
        units: Labels of every unit of the table.
        remarks: What `highlights` found.
        loosened: Gates that were wider than the usual ones, as the manifest names them.
    """
    by_kind: dict[str, list[Highlight]] = {}
    worst = dict.fromkeys(units, len(SEVERITIES))
    for remark in remarks:
        by_kind.setdefault(remark.kind, []).append(remark)
        worst[remark.unit] = min(worst[remark.unit], SEVERITIES.index(remark.severity))
    groups = [RemarkGroup(kind=kind, remarks=tuple(found)) for kind, found in by_kind.items()]
    order = list(KINDS)
    groups.sort(key=lambda group: (SEVERITIES.index(KINDS[group.kind].severity), -group.units, order.index(group.kind)))
    verdicts = {
        unit: VERDICT_OF.get(SEVERITIES[place], PASS) if place < len(SEVERITIES) else PASS
        for unit, place in worst.items()
    }
    return Health(units=verdicts, groups=tuple(groups), loosened=tuple(loosened))
