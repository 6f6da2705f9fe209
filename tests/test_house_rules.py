import ast
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("engine/**/*.py"), *ROOT.glob("kernels/**/*.py")])
EVERYTHING = sorted({*SOURCES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")})

FILE_LINES = 500
FUNCTION_LINES = 50
FOLDER_MODULES = 12
"""Without `__init__.py`."""

LONGER: dict[str, str] = {}
"""Files or functions (`path::name`) that are longer, each with its reason."""

OF_THE_WHOLE = {"calibration", "invariants", "packaging", "support"}
"""Folders of tests that mirror no package: what they test is a property of many."""
OF_NO_MODULE = {
    "tests/test_house_rules.py": "reads all sources",
    "tests/kernels/test_peers.py": "compares all families with other packages'",
}
"""Other tests that mirror no module, each with its reason."""

SAYS_NOTHING = {"util", "utils", "helper", "helpers", "common", "misc", "base", "types", "constants", "core"}
RUNS_CODE = {"eval", "exec", "__import__"}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def code_lines(path: Path) -> set[int]:
    """Numbers of the lines that hold code: no blanks, comments or docstrings."""
    text = path.read_text()
    held: set[int] = set()
    quiet = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in quiet:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            held.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return held


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_and_functions_are_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= FILE_LINES or name(path) in LONGER, f"{lines} lines: find the second noun in it"
    for function in functions(ast.parse(path.read_text())):
        length = len(code_lines(path).intersection(range(function.lineno, (function.end_lineno or 0) + 1)))
        place = f"{name(path)}::{function.name}"
        assert length <= FUNCTION_LINES or place in LONGER, f"{place} has {length} lines of code"


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=name)
def test_folders_are_small(folder: Path) -> None:
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= FOLDER_MODULES, f"{len(modules)} modules: find the second package in it"


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/**/test_*.py")), ids=name)
def test_tests_mirror_the_sources(path: Path) -> None:
    top, *folders = path.relative_to(ROOT / "tests").parts[:-1] or ("",)
    if top in OF_THE_WHOLE or name(path) in OF_NO_MODULE:
        return
    sources = ROOT / ("kernels/mixfleet_kernels" if top == "kernels" else f"engine/mixfleet/{top}")
    tested = sources.joinpath(*folders, path.stem.removeprefix("test_"))
    found = tested.with_suffix(".py").is_file() or (tested / "__init__.py").is_file()
    assert found, f"there is no module {name(tested)}.py: name the test for the module that it tests"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_modules_are_named_for_one_thing(path: Path) -> None:
    assert path.stem not in SAYS_NOTHING


@pytest.mark.parametrize("path", EVERYTHING, ids=name)
def test_nothing_runs_what_it_reads(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not PICKLES & {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in PICKLES
            assert node.level == 0, "absolute imports only"
        elif isinstance(node, ast.Call):
            assert not (isinstance(node.func, ast.Name) and node.func.id in RUNS_CODE)
            for keyword in node.keywords:
                assert not (keyword.arg == "allow_pickle" and not is_false(keyword.value))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_sources_name_no_target_and_catch_not_everything(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert "_target_" not in node.value
        if isinstance(node, ast.ExceptHandler):
            caught = {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)} if node.type else set()
            assert node.type is not None, f"bare except in line {node.lineno}"
            assert not caught & {"Exception", "BaseException"}, f"catches everything in line {node.lineno}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/**/*")), ids=name)
def test_settings_name_no_target(path: Path) -> None:
    assert path.is_dir() or (path.suffix in (".yaml", ".sql") and "_target_" not in path.read_text())


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False
