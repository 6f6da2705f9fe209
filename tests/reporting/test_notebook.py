"""What notebooks show: little, and with markup of nobody else."""

from dataclasses import replace
from pathlib import Path

import pytest

from mixfleet.config import Model
from mixfleet.errors import ConfigError, RunError
from mixfleet.run import Run
from tests.support.saved_run import panel, saved_run

MOST = 200_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    plain = panel()
    named = tuple(
        replace(unit, labels=("<b>acme", unit.labels[1])) if unit.labels[0] == "acme" else unit for unit in plain.units
    )
    made = replace(plain, units=tuple(sorted(named, key=lambda unit: unit.labels)))
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5), of=made)


def test_objects_show_themselves_briefly(run: Run) -> None:
    pytest.importorskip("altair")
    plan, said, figure = run.budget(), run.summary(), run.plot.roi(by=())
    for shown in (run, plan, said):
        markup = shown._repr_html_()
        assert len(markup) <= MOST
        assert "<b>acme" not in markup
    for one in (run, plan, said, run.insight, figure):
        assert len(repr(one)) < 1000, one
    bundle = figure._repr_mimebundle_()
    [kind] = [kind for kind in bundle if kind.startswith("application/vnd.vegalite")]
    assert bundle[kind]["data"]


def test_what_is_misspelt_is_guessed(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"budget\.chnage: unknown option; did you mean change\?"):
        run.budget(chnage=0.2)  # pyright: ignore[reportCallIssue]
    with pytest.raises(RunError, match=r"did you mean bolt/DE\?"):
        run.unit("Bolt", "DE")


def test_a_fit_in_a_notebook_keeps_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys
    import types

    from mixfleet.fitting.progress import Progress, notebook_listener

    assert notebook_listener() is None
    lines: list[str] = []

    class Handle:
        def update(self, line: dict[str, str], raw: bool) -> None:
            lines.append(line["text/plain"])

    def display(line: dict[str, str], raw: bool, display_id: bool) -> Handle:
        lines.append(line["text/plain"])
        return Handle()

    fake = types.ModuleType("IPython.display")
    monkeypatch.setattr(fake, "display", display, raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    listen = notebook_listener()
    assert listen is not None
    for done, left in ((1, 3.0), (2, None)):
        listen(Progress(done=done, ok=done, total=2, active=1, phase="sampling", elapsed=3.0, left=left))
    assert lines == [
        "sampling: 1/2 units, 1 ok, 0 not ok, 1 active, 3 s, about 3 s left",
        "sampling: 2/2 units, 2 ok, 0 not ok, 1 active, 3 s",
    ]
