"""A chart beside the frame that it shows, and what all charts share."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from mixfleet.config import LOCALES
from mixfleet.data.frames import table_html
from mixfleet.errors import ConfigError, counted
from mixfleet.storage import atomic_files

if TYPE_CHECKING:
    import altair as alt

__all__ = ["Figure", "faceted", "intervals", "the_altair"]

SHOWN_CHARACTERS = 150_000
"""Of the specification of the largest chart that a notebook is given to draw."""


@dataclass(frozen=True)
class Figure:
    """A chart and the frame behind it; notebooks show the chart."""

    chart: "alt.LayerChart | alt.FacetChart | alt.Chart"
    frame: pd.DataFrame
    locale: str = "en"
    """How it writes numbers and dates: one of `LOCALES`."""

    def __repr__(self) -> str:
        """How much it shows."""
        return f"<mixfleet figure of {counted(len(self.frame), 'row')}; .chart is Altair's, .frame what it shows>"

    def save(self, path: str | Path, *, scale: float = 2.0) -> Path:
        """Write the chart as a picture: PNG or SVG, as the name ends.

        Args:
            path: The file, which is replaced.
            scale: Pixels of a PNG per pixel of the chart.

        Raises:
            ConfigError: Another ending, or vl-convert-python (`mixfleet[plots]`) is missing.
        """
        path = Path(path)
        convert = _vl_convert()
        if convert is None:
            raise ConfigError("needs vl-convert-python: pip install 'mixfleet[plots]'", key="plot.save")
        if path.suffix == ".svg":
            picture = convert.vegalite_to_svg(self._specification()).encode()
        elif path.suffix == ".png":
            picture = convert.vegalite_to_png(self._specification(), scale=scale)
        else:
            raise ConfigError(f"must end in .png or .svg, is {path.name!r}", key="plot.save")
        atomic_files.replace_bytes(path, picture)
        return path

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, Any]:
        """The chart's specification, which notebooks draw themselves, without a network.

        One that is large, as of many units, would stay in the notebook's file: a picture is shown instead, or, where
        that is large too or vl-convert-python is missing, what the chart is made of.
        """
        version = the_altair().SCHEMA_VERSION.removeprefix("v").split(".")[0]
        specification, said = self._specification(), {"text/plain": repr(self)}
        if len(json.dumps(specification)) <= SHOWN_CHARACTERS:
            return {f"application/vnd.vegalite.v{version}+json": specification, **said}
        convert = _vl_convert()
        picture = base64.b64encode(convert.vegalite_to_png(specification)).decode() if convert is not None else ""
        if 0 < len(picture) <= SHOWN_CHARACTERS:
            return {"image/png": picture, **said}
        sentence = f"{repr(self)[1:-1]}; too large to be drawn here: .save('chart.svg') writes it to a file"
        return {"text/html": table_html(sentence, pa.Table.from_pandas(self.frame)), **said}

    def _specification(self) -> dict[str, Any]:
        with the_altair().data_transformers.disable_max_rows():
            found = self.chart.to_dict()
        if self.locale != "en":
            found.setdefault("config", {})["locale"] = _vega_locale(self.locale)
        return found


def intervals(frame: pd.DataFrame, column: str, title: str, names: list[str]) -> Any:
    """A row for each value of a column, with a mean and a 90 % interval; a facet for each subject."""
    alt = the_altair()
    rows = alt.Chart(frame).encode(y=alt.Y(f"{column}:N", sort=None, title=None))
    rule = rows.mark_rule(strokeWidth=2).encode(x=alt.X("q05:Q", title=title), x2="q95:Q")
    dot = rows.mark_circle(size=60, opacity=1).encode(x="mean:Q", tooltip=[column, "mean", "q05", "q95"])
    return faceted(alt.layer(rule, dot), names)


def faceted(chart: Any, names: list[str]) -> Any:
    """The chart once for each subject that these columns tell apart."""
    if not names:
        return chart
    label = " + ' / ' + ".join(f"datum[{name!r}]" for name in names)
    return chart.transform_calculate(subject=label).facet(facet="subject:N", columns=4)


def _vl_convert() -> Any:
    """The library that draws pictures; None where it is missing."""
    try:
        import vl_convert
    except ImportError:
        return None
    return vl_convert


def the_altair() -> Any:
    """The library of charts.

    Raises:
        ConfigError: It is missing.
    """
    try:
        import altair
    except ImportError as error:
        raise ConfigError("charts need altair: pip install 'mixfleet[plots]'", key="plot") from error
    return altair


def _vega_locale(name: str) -> dict[str, Any]:
    """How Vega writes numbers, and dates where vl-convert-python knows the language's names of days and months."""
    own, convert = LOCALES[name], _vl_convert()
    numbers = {"decimal": own.decimal, "thousands": own.group, "grouping": [3], "currency": ["", ""]}
    numbers |= {"percent": own.percent}
    if convert is None:
        return {"number": numbers}
    try:
        return {"number": numbers, "time": convert.get_time_format_locale(name.replace("_", "-"))}
    except ValueError:
        return {"number": numbers}
