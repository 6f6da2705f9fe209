"""The sample report of the site: a simulated fleet, fitted when the site is built.

`python docs/sample_report.py FILE` writes it alone; mkdocs calls `on_files`.
"""

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import mixfleet as mf
from mixfleet import runtime

PLACE = "sample_report/report.html"
"""Where the site has it, beside the page that leads there."""


def report() -> str:
    """The page, of two brands in four markets with a plan, its forecast and a margin."""
    runtime.prepare(mf.Compute())
    fleet = mf.simulate.fleet(brands=2, markets=4, weeks=156, channels=5, seed=4)
    names = {"kpi": "revenue", "control_1": "price", "control_2": "temperature"}
    data = {"kpi": "revenue", "kpi_type": "revenue", "currency": "EUR", "controls": ("price", "temperature")}
    settings = mf.Data(keys=fleet.data.keys, channels=fleet.data.channels, **data)
    with tempfile.TemporaryDirectory() as folder:
        asked: dict[str, Any] = {"data": settings, "business": {"margin": 0.4}}
        run = mf.fit(fleet.table.rename_columns(names), run={"root": folder, "id": "sample"}, **asked)
        plan = run.budget(weeks=13, change=0.3, frontier=True)
        plan.save(run.path / "budget")
        return run.report().read_text("utf-8")


def on_files(files: Any, config: Any) -> Any:
    """Adds the report to the site."""
    from mkdocs.structure.files import File  # only where the site is built

    with contextlib.redirect_stdout(sys.stderr):
        files.append(File.generated(config, PLACE, content=report()))
    return files


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(report(), "utf-8")
