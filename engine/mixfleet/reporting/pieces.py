"""A page as one file: the numbers as JSON in pieces, the script that draws them, and the style."""

import html
import json
import math
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import numpy as np

__all__ = ["EXACT", "page", "piece"]

DIGITS = 4
"""Of the numbers of a unit, which are drawn."""

EXACT = 15
"""Of the numbers of the fleet, which stand in sentences too: rounded twice they would differ in the last digit."""

SCRIPTS = ("charts", "fleet", "unit", "report")
"""Parts of the page's script, in the order in which they are put together."""


def page(title: str, pieces: Iterable[str]) -> str:
    """The file.

    Args:
        title: Of the page.
        pieces: What `piece` made.
    """
    folder = resources.files("mixfleet") / "reporting" / "page"
    style, frame = ((folder / f"report.{kind}").read_text("utf-8") for kind in ("css", "html"))
    script = "\n".join((folder / f"{part}.js").read_text("utf-8") for part in SCRIPTS)
    # Pieces go in last, so that nothing in them is taken for a place to fill.
    before, after = frame.replace("{title}", html.escape(title)).replace("{style}", style).split("{pieces}")
    return before + "\n".join(pieces) + after.replace("{script}", f'"use strict";\n(() => {{\n{script}}})();')


def piece(name: str, value: Any, digits: int = DIGITS) -> str:
    """Numbers and texts under a name, no part of which can be taken for markup."""
    text = json.dumps(_short(value, digits), separators=(",", ":"), ensure_ascii=True)
    # No text of the data may end the element that holds it.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _short(value: Any, digits: int) -> Any:
    """Numbers to a few digits, what is no number as null, dates as text."""
    # Exact types first: a page holds millions of numbers, and each question of what else they are takes time.
    kind = type(value)
    if kind is float or isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    if value is None or kind is str or kind is int or kind is bool:
        return value
    if kind is list or kind is tuple:
        return [_short(item, digits) for item in value]
    if kind is np.ndarray:
        return _rounded(value, digits) if value.dtype.kind == "f" else _short(value.tolist(), digits)
    if isinstance(value, Mapping):
        return {str(key): _short(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short(item, digits) for item in value]
    return value if isinstance(value, str | int) else str(value)


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    """The same of many numbers at once."""
    known = np.isfinite(values)
    size = np.where(known & (values != 0), np.abs(values), 1.0)
    decimals = digits - 1 - np.floor(np.log10(size))
    # Only whole powers of ten are exact.
    up, down = 10.0 ** np.maximum(decimals, 0), 10.0 ** np.maximum(-decimals, 0)
    short = np.rint(np.where(known, values, 0.0) * up / down) / up * down
    found = short.astype(object)
    found[~known] = None
    return found.tolist()
