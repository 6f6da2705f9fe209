"""The documentation: made from the source where it can be, its links lead somewhere, its commands exist and run."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer

from docs.generate import pages
from mixfleet.cli.main import app
from tests.support.documented import LANGUAGES, PAGES, ROOT, Desk, blocks, commands, unlike

README, QUICK_START = ROOT / "README.md", ROOT / "docs" / "quickstart.md"
TUTORIALS = [page for page in PAGES if page.parent.name == "tutorials"]
OTHERS = [page for page in PAGES if page not in (README, QUICK_START) and any(blocks(page))]

pytestmark = pytest.mark.usefixtures("usual_broadcasts")


def by_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("name", ["settings.md", "glossary.md"])
def test_pages_made_from_the_source_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == pages()[name], "run python docs/generate.py"


def test_every_setting_is_explained_or_explains_itself() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", pages()["settings.md"], re.MULTILINE)
    assert {"min_weeks", "chains", "thin", "holdout", "change", "by"} <= set(rows)


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (path.parent / target).is_file(), target


def test_the_site_has_every_page() -> None:
    named = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert named == {path.relative_to(ROOT / "docs").as_posix() for path in PAGES if path != README}


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_commands_and_their_options_exist(path: Path) -> None:
    known = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    lines = [line for block in blocks(path) if block.language == "bash" for line in commands(block)]
    called = [shlex.split(line, comments=True) for line in lines if line.startswith("mixfleet ")]
    for _, name, *words in called:
        assert name in known, name
        options = {option for parameter in known[name].params for option in parameter.opts}
        for word in words:
            if word.startswith("-") and not word.lstrip("-").replace(".", "").isdigit():
                assert word in options, f"{name} {word}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 80


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_blocks_say_what_they_are(path: Path) -> None:
    for block in blocks(path):
        assert block.language in LANGUAGES, block
        assert block.text.strip(), block
        if block.language == "python":
            compile(block.text, str(block), "exec")
        runs = block.language in ("bash", "python", "text") or block.text.startswith("# ")
        assert runs or block.mark == "not run", f"{block} needs a comment <!-- not run: reason --> above it"


def test_what_is_shown_is_compared() -> None:
    printed = "origin │ 3.30%\nspend 264,178 EUR on 2026-01-05\n-1 gone"
    assert not unlike("spend 264,999 EUR\non 2026-01-05", printed)
    assert not unlike("origin 3.2%\n...\ngone", printed)
    for wrong in ("origin 5.3%", "spend 264,178 USD", "spend\n...\norigin", "2026-01-06", "+1 gone"):
        assert unlike(wrong, printed), wrong


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory: pytest.TempPathFactory, usual_broadcasts: None) -> Path:
    """The folder that the quick start leaves."""
    folder = tmp_path_factory.mktemp("quick_start")
    Desk(folder).follow(QUICK_START)
    return folder


def follow(path: Path, quick_start: Path, tmp_path: Path, *, nightly: bool = False) -> None:
    """The README begins with a table, other pages with all that the quick start leaves."""
    if path == README:
        shutil.copy(quick_start / "sales.csv", tmp_path)
    else:
        shutil.copytree(quick_start, tmp_path, dirs_exist_ok=True)
    Desk(tmp_path).follow(path, nightly=nightly)


def test_the_quick_start_leads_to_a_report(quick_start: Path) -> None:
    assert (quick_start / "runs" / "first" / "report.html").is_file()
    assert list((quick_start / "runs" / "first").glob("**/*.xlsx"))


@pytest.mark.parametrize("path", [README, *TUTORIALS], ids=by_name)
def test_code_and_output_of_a_tutorial_are_true(path: Path, quick_start: Path, tmp_path: Path) -> None:
    follow(path, quick_start, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("path", OTHERS, ids=by_name)
def test_code_and_output_of_a_page_are_true(path: Path, quick_start: Path, tmp_path: Path) -> None:
    follow(path, quick_start, tmp_path, nightly=True)
