"""The documentation: made from the source where it can be, its links lead somewhere, its commands exist and run."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from docs.generate import pages
from mixfleet.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL = [
    *("inference.max_draws=256", "inference.ladder=false", "inference.chains=4"),
    *("inference.ess_target=100", "inference.ess_floor=50", "inference.rhat_max=1.3"),
]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text("utf-8"), re.DOTALL)


def commands(path: Path) -> Iterator[list[str]]:
    """The `mixfleet` commands of a page, word by word."""
    for block in blocks(path, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "mixfleet":
                yield words[1:]


@pytest.mark.parametrize("name", ["settings.md", "glossary.md"])
def test_pages_made_from_the_source_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == pages()[name], "run python docs/generate.py"


def test_every_setting_is_explained_or_explains_itself() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", pages()["settings.md"], re.MULTILINE)
    assert {"min_weeks", "chains", "thin", "holdout", "change", "by"} <= set(rows)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (path.parent / target).is_file(), target


def test_the_site_has_every_page() -> None:
    named = set(re.findall(r"[\w]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert named == {path.name for path in PAGES} - {"README.md"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_and_their_options_exist(path: Path) -> None:
    known = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    for name, *words in commands(path):
        assert name in known, name
        options = {option for parameter in known[name].params for option in parameter.opts}
        for word in words:
            if word.startswith("-") and not word.lstrip("-").replace(".", "").isdigit():
                assert word in options, f"{name} {word}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 80


@pytest.mark.nightly
def test_the_quick_start_runs(tmp_path: Path) -> None:
    """Every block in its order, with few draws; only installing is left out."""
    text = (ROOT / "docs" / "quickstart.md").read_text("utf-8")
    for language, block in re.findall(r"```(bash|python)\n(.*?)```", text, re.DOTALL):
        if language == "python":
            calls = [[sys.executable, "-c", block]]
        else:
            lines = [shlex.split(line) for line in block.splitlines() if line.startswith("mixfleet")]
            calls = [[sys.executable, "-m", "mixfleet.cli.main", *line[1:]] for line in lines]
            for line, call in zip(lines, calls, strict=True):
                call += SMALL if line[1] == "fit" else []
        for call in calls:
            run = [*call[:1], "-c", "from mixfleet.cli.entry import main; main()", *call[3:]] if "-m" in call else call
            done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=550)
            assert done.returncode == 0, (call, done.stdout, done.stderr)
    assert (tmp_path / "runs" / "first" / "report.html").is_file()
    assert list((tmp_path / "runs" / "first").glob("**/*.xlsx"))
