"""What a notebook shows of a run, from its manifest alone."""

import html
from collections.abc import Mapping
from typing import Any

from mixfleet.errors import counted
from mixfleet.reporting.glossary import STATUS_WORDS

__all__ = ["run_html"]

ASK = ("run.summary()", "run.plot.roi()", "run.insight.roi(by=())", "run.budget()", "run.report()")
"""What a reader of a new run asks first."""


def run_html(path: str, manifest: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """Markup of a run: where it is, how many units can be used, and what to ask next."""
    rows = "".join(
        f"<tr><td>{html.escape(STATUS_WORDS.get(status, status))}</td><td>{number}</td></tr>"
        for status, number in counts.items()
    )
    asked = ", ".join(f"<code>{html.escape(one)}</code>" for one in ASK)
    title = f"{counted(manifest['units'], 'unit')} in <code>{html.escape(path)}</code>"
    return f"<p><b>mixfleet run</b>: {title}</p><table>{rows}</table><p>Ask {asked}.</p>"
