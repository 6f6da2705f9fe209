"""Every exception a user can meet: one tree, each with the exit code of the command line; how messages count."""

from collections.abc import Sequence
from typing import Any, ClassVar


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: `1 week`, `1,200 weeks`, `0 series`.

    Args:
        number: How many.
        one: The noun for one of them.
        many: For none or several; by default with an s behind it.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def amount(value: float) -> str:
    """A number to three digits or to whole units, whichever says more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class MixfleetError(Exception):
    """A failure whose message says what is wrong, where, and what to do."""

    exit_code: ClassVar[int] = 2
    """What the command line exits with when this ends a command."""


class ConfigError(MixfleetError):
    """A setting that is unknown, of the wrong type, out of range or at odds with another one."""

    key: str
    """Dotted name of the setting, such as `inference.chains`."""

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key


class TableError(MixfleetError):
    """A table from which no unit can be read; the faults are listed in `findings`."""

    exit_code: ClassVar[int] = 3

    findings: tuple[Any, ...]
    """`mixfleet.data.panel.Finding` records, worst first; empty when the table could not be opened."""

    def __init__(self, message: str, *, findings: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class RunError(MixfleetError):
    """A run folder that cannot be read, belongs to another configuration or is in use."""
