"""The notebooks of the documentation: they run, show little text and no megabytes, and begin with a picture."""

import ast
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.documented import ROOT, Desk

MOST = 200_000
"""Bytes of an output."""
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.usefixtures("usual_broadcasts")


def cells(path: Path) -> Iterator[dict[str, Any]]:
    return (cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code")


def bundle(shown: Any) -> dict[str, Any]:
    """What a notebook is given of a value."""
    if hasattr(shown, "_repr_mimebundle_"):
        return shown._repr_mimebundle_()
    markup = {"text/html": shown._repr_html_()} if hasattr(shown, "_repr_html_") else {}
    return {"text/plain": repr(shown), **markup}


def run_cell(desk: Desk, code: str, place: str) -> Any:
    """The value of a cell's last expression; None where it ends with another statement."""
    tree = ast.parse(code)
    if isinstance(tree.body[-1], ast.Expr):
        tree.body[-1] = ast.Assign([ast.Name("shown", ast.Store())], tree.body[-1].value)
    desk.names["shown"] = None
    desk.python(ast.unparse(ast.fix_missing_locations(tree)), place)
    return desk.names["shown"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs_and_shows_little(path: Path, tmp_path: Path) -> None:
    desk, pictures = Desk(tmp_path), 0
    with contextlib.chdir(tmp_path):
        for number, cell in enumerate(cells(path)):
            shown = run_cell(desk, "".join(cell["source"]), f"{path.name}, cell {number}")
            assert shown is not None, f"cell {number} shows nothing"
            given = bundle(shown)
            assert len(json.dumps(given)) <= MOST, number
            assert len(given["text/plain"]) <= 4000, number
            pictures += any(kind.startswith("application/vnd.vegalite") for kind in given)
    assert pictures > 5 or path.stem != "analyst"


def test_the_first_picture_takes_four_statements() -> None:
    first = next(cells(ROOT / "docs" / "notebooks" / "analyst.ipynb"))
    body = ast.parse("".join(first["source"])).body
    assert len(body) <= 4
    assert ".plot." in ast.unparse(body[-1])


@pytest.mark.nightly
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_real_notebook_runs_them(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient
    import nbformat

    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'engine'}:{ROOT / 'kernels'}")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert len(outputs) >= len(list(cells(path)))
    assert all(output["output_type"] in ("execute_result", "display_data") for output in outputs), "no warning"
    assert max(len(json.dumps(output)) for output in outputs) <= MOST
