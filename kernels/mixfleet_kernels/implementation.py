"""Which implementation of an operation runs."""

from collections.abc import Mapping
from typing import TypeVar

Entry = TypeVar("Entry")


def choose(entries: Mapping[str, Entry], name: str | None, *, default: str, what: str) -> Entry:
    """The entry called `name`, or the `default` one when no name is given.

    Raises:
        ValueError: there is no entry of that name; the message lists those there are.
    """
    wanted = default if name is None else name
    if wanted not in entries:
        raise ValueError(f"unknown {what} {wanted!r}: choose one of {', '.join(sorted(entries))}")
    return entries[wanted]
