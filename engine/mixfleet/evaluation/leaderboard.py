"""The points of a sweep, the best first, beside the noise of their scores: a page, a notebook's output, a chart."""

import html
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from mixfleet.config import LOCALES
from mixfleet.data.formats.parquet_file import ParquetTooLarge, read_parquet
from mixfleet.data.frames import Shown
from mixfleet.errors import RunError, counted
from mixfleet.reporting.numbers import NOTHING, Wording, percent
from mixfleet.storage import atomic_files

if TYPE_CHECKING:
    from mixfleet.reporting.charts import Figure

__all__ = ["PAGE", "TABLE", "Leaderboard", "leaderboard"]

TABLE, PAGE = "sweep.parquet", "leaderboard.html"

WIDTH = 200
"""Pixels from the best score to the worst."""

READ = (
    "Scores are of the held-out weeks, which no point saw: how much larger the error of a point's forecasts is than "
    "the best point's, unit by unit, with a standard error either way. Among the points within noise of the best the "
    "data cannot choose: take the one that you have reasons for."
)
"""How to read it."""

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1c2430}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #e3e7ed}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr.far{color:#5c6675}code{overflow-wrap:anywhere}
.wide{overflow-x:auto}"""


@dataclass(frozen=True, kw_only=True, repr=False)
class Leaderboard(Shown):
    """What a sweep found so far."""

    folder: Path
    """Of the sweep; point n is the run `points/n`."""
    table: pa.Table
    """One row per point that has ended, the best first and failed ones last: see `mixfleet.cli.sweep.comparison`."""
    points: int
    """How many the sweep asks for."""
    locale: str = "en"
    """How it writes numbers: one of `mixfleet.config.LOCALES`."""

    def write(self) -> Path:
        """Write `sweep.parquet` and the page `leaderboard.html` into the sweep's folder; the path of the table."""
        about = {"points": str(self.points), "locale": self.locale}
        sink = io.BytesIO()
        pq.write_table(self.table.replace_schema_metadata(about), sink)
        atomic_files.make_own_folder(self.folder)
        atomic_files.replace_bytes(self.folder / TABLE, sink.getvalue())
        atomic_files.replace_bytes(self.folder / PAGE, self.page().encode())
        return self.folder / TABLE

    def page(self) -> str:
        """One HTML file that needs no network."""
        title = html.escape(f"Leaderboard of {self.folder.name}")
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        return (
            f'<!doctype html><html lang="en"><head>{head}<title>{title}</title><style>{STYLE}</style></head>'
            f"<body><h1>{title}</h1>{self._repr_html_()}</body></html>"
        )

    def plot(self) -> "Figure":
        """Scores with their standard errors.

        Raises:
            ConfigError: No point has a score, or altair (`mixfleet[plots]`) is missing.
        """
        from mixfleet.reporting.charts import leaderboard as chart  # needs altair, which a leaderboard does without

        return chart(self.table, self.locale)

    def _repr_html_(self) -> str:
        """What a notebook shows, and the body of the page."""
        rows = self.table.to_pylist()
        known = any(row["truth_coverage90"] is not None for row in rows)
        heads = ["point", "what differs", "worse than the best by", "", "certified", "holdout R2", "ROI moved, sd"]
        heads += ["truth held", "seconds"] if known else ["seconds"]
        scored = [row for row in rows if row["run"] is not None]
        most = max((row["score"] + (row["score_se"] or 0.0) for row in scored if row["score"] is not None), default=0.0)
        body = "".join(self._row(row, most, known) for row in scored)
        left = ' class="n"'
        head = "".join(f"<th{left if i > 3 else ''}>{html.escape(name)}</th>" for i, name in enumerate(heads))
        failed = "".join(
            f"<li>Point {row['point']} (<code>{html.escape(row['changes'])}</code>): {html.escape(row['error'])}</li>"
            for row in rows
            if row["error"]
        )
        said = html.escape(self._sentence())
        return (
            f"<p>{said[0].upper()}{said[1:]}. {READ}</p>"
            f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
            + (f"<p>What could not be fitted:</p><ul>{failed}</ul>" if failed else "")
        )

    def _row(self, row: dict[str, Any], most: float, known: bool) -> str:
        say = Wording(locale=LOCALES[self.locale])
        numbers = [percent(row["certified"]), _fixed(row["holdout_r2"], 3), _fixed(row["roi_shift"], 2)]
        numbers += [percent(row["truth_coverage90"])] if known else []
        cells = "".join(f'<td class="n">{say(text)}</td>' for text in [*numbers, _fixed(row["seconds"], 1)])
        score = "the best score" if row["score"] == 0 else say(percent(row["score"]))
        error = "" if not row["score_se"] else f" &plusmn; {say(percent(row['score_se']))}"
        standing = {True: "within noise", False: "worse", None: "no score"}[row["near_best"]]
        changes = html.escape(row["changes"]) or "as it is"
        return (
            f'<tr class="{"" if row["near_best"] else "far"}"><td>{row["point"]}</td><td><code>{changes}</code></td>'
            f"<td>{_bar(row, most)}</td><td>{score}{error}, {standing}</td>{cells}</tr>"
        )

    def _sentence(self) -> str:
        ended, near = self.table.num_rows, sum(map(bool, self.table["near_best"].to_pylist()))
        left = f", {self.points - ended} not fitted yet" if self.points > ended else ""
        return f"leaderboard of {counted(self.points, 'point')}{left}: {near} within noise of the best"

    def _shown(self) -> pa.Table:
        return self.table


def leaderboard(folder: str | Path) -> Leaderboard:
    """The leaderboard of a sweep, finished or not: of the points that had ended when it was written last.

    Args:
        folder: Of the sweep, `run.root/run.id`.

    Raises:
        RunError: There is none, or its file is damaged.
    """
    place = Path(folder)
    try:
        table = read_parquet((place / TABLE).read_bytes())
        about = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        points, locale = int(about["points"]), about["locale"]
    except (KeyError, OSError, ValueError, ParquetTooLarge, pa.ArrowException) as error:
        raise RunError(f"{place} holds no leaderboard that can be read: {error}; repeat mixfleet fit -m") from error
    return Leaderboard(folder=place, table=table, points=points, locale=locale if locale in LOCALES else "en")


def _bar(row: dict[str, Any], most: float) -> str:
    """A dot at the score and a line of a standard error either way."""
    if row["score"] is None:
        return ""
    scale = (WIDTH - 20) / most if most > 0 else 0.0
    at, error = 10 + scale * row["score"], scale * (row["score_se"] or 0.0)
    colour = "#1f5fa8" if row["near_best"] else "#8c96a3"
    return (
        f'<svg width="{WIDTH}" height="18" role="img" aria-label="score">'
        f'<line x1="{max(at - error, 2):.1f}" x2="{at + error:.1f}" y1="9" y2="9" stroke="{colour}" stroke-width="3"/>'
        f'<circle cx="{at:.1f}" cy="9" r="5" fill="{colour}"/></svg>'
    )


def _fixed(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"
