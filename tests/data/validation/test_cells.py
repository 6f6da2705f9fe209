"""Numbers that single precision cannot hold are refused by name, and others of any size are read."""

import pandas as pd
import pytest

from mixfleet import config
from mixfleet.data.panel import Panel, read_panel
from tests.data.test_reshape import TODAY, wide

DATA = config.build(config.Data, {"channels": ["tv", "search"]})


def read(frame: pd.DataFrame) -> Panel:
    return read_panel(frame, DATA, today=TODAY)


@pytest.mark.parametrize("column", ["kpi", "tv"])
@pytest.mark.parametrize(("factor", "word"), [(1e36, "larger unit"), (1e-36, "smaller unit")])
def test_what_single_precision_cannot_hold_is_refused(column: str, factor: float, word: str) -> None:
    frame = wide()
    frame.loc[frame.market == "DE", column] *= factor
    panel = read(frame)
    assert [unit.labels for unit in panel.units] == [("Alba", "FR")]
    [found] = [finding for finding in panel.findings if finding.rule == "out_of_range"]
    assert (found.unit, found.column, found.severity) == (("Alba", "DE"), column, "error")
    assert "single precision" in found.message
    assert word in found.message


@pytest.mark.parametrize("factor", [1e12, 1e-12])
def test_other_sizes_are_read(factor: float) -> None:
    frame = wide()
    frame[["kpi", "tv"]] *= factor
    assert len(read(frame).units) == 2


def test_one_tiny_cell_among_others_is_nothing() -> None:
    frame = wide()
    frame.loc[3, "tv"] = 5e-324
    assert len(read(frame).units) == 2


@pytest.mark.parametrize("other", ["de", "DE ", "D\u200bE", "\ufeffDE", "\uff24\uff25"])
def test_spellings_that_look_alike_are_named_first(other: str) -> None:
    frame = wide("DE")
    frame.loc[20, "market"] = other
    assert read(frame).findings[0].rule == "key_similar"
