"""Writes the pages that follow from the source: every setting, and the glossary.

`python docs/generate.py` writes them; a test holds them equal to what this would write.
"""

import ast
import dataclasses
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mixfleet.budgeting.request import BudgetRequest
from mixfleet.config import GROUPS, Cluster
from mixfleet.config.data import Channel, Simulation
from mixfleet.config.experiments import Experiments
from mixfleet.config.schema import Range
from mixfleet.reporting.glossary import glossary_markdown

FOLDER = Path(__file__).parent

NESTED = {
    "data": (("channels.NAME", Channel), ("experiments", Experiments), ("simulated", Simulation)),
    "compute": (("ray", Cluster),),
}
"""Groups within groups."""


def pages() -> dict[str, str]:
    """Text of every generated page by file name."""
    return {"settings.md": _settings(), "glossary.md": glossary_markdown()}


def _settings() -> str:
    parts = [
        "# Every setting\n\nThe settings of a run, by group, with their defaults. On the command line\n"
        "`data.min_weeks=10`, in YAML a mapping, in Python `mf.fit(table, data={'min_weeks': 10})` or the dataclass.\n"
        "Unknown names, wrong types and values out of range are refused with the dotted name. This page is made from\n"
        "the dataclasses.\n"
    ]
    for name, group in GROUPS.items():
        parts.append(_section(name, group))
        parts += [_section(f"{name}.{place}", own) for place, own in NESTED.get(name, ())]
    parts.append(_section("mf.budget(run, ...)", BudgetRequest))
    return "\n".join(parts)


def _section(title: str, group: type) -> str:
    rows = "\n".join(f"| `{name}` | {kind} | {default} | {words} |" for name, kind, default, words in _fields(group))
    head = "| setting | values | default | meaning |\n|---|---|---|---|"
    return f"## {title}\n\n{_line(inspect.getdoc(group) or '')}\n\n{head}\n{rows}\n"


def _fields(group: type) -> Iterator[tuple[str, str, str, str]]:
    tree = ast.parse(inspect.getsource(group)).body[0]
    assert isinstance(tree, ast.ClassDef)
    hints = typing.get_type_hints(group, include_extras=True)
    own: dict[str, Any] = {field.name: field for field in dataclasses.fields(group)}
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        said = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        words = str(following.value.value) if said else ""  # pyright: ignore[reportAttributeAccessIssue]
        default = ast.unparse(node.value) if node.value is not None else "required"
        if own[node.target.id].default_factory is not dataclasses.MISSING:
            default = "none"
        bounds = "; ".join(dict.fromkeys(_bounds(hints[node.target.id])))
        kind = _kind(node.annotation)
        words = f"{_line(words)} ({bounds})" if bounds else _line(words)
        yield node.target.id, f"`{_cell(kind)}`", f"`{_cell(default)}`", _cell(words.strip())


def _kind(hint: ast.expr) -> str:
    """A type as a reader takes it, without what checks or reads it."""
    if isinstance(hint, ast.BinOp):
        return f"{_kind(hint.left)} | {_kind(hint.right)}"
    if not (isinstance(hint, ast.Subscript) and ast.unparse(hint.value) == "Annotated"):
        return ast.unparse(hint)
    assert isinstance(hint.slice, ast.Tuple)
    return _kind(hint.slice.elts[0])


def _bounds(hint: Any) -> Iterator[str]:
    """Ranges of a type, in words."""
    for rule in getattr(hint, "__metadata__", ()):
        if isinstance(rule, Range):
            yield str(rule)
    for part in typing.get_args(hint):
        yield from _bounds(part)


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for file, text in pages().items():
        (FOLDER / file).write_text(text, "utf-8")
