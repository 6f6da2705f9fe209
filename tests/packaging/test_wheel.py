import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from mixfleet_kernels import native_library

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names in the wheel built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_it_holds_the_two_packages_and_nothing_else(wheel: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    (metadata,) = [top for top in tops if top.endswith(".dist-info")]
    assert tops - {metadata} == {"mixfleet", "mixfleet_kernels"}
    assert f"{metadata}/licenses/LICENSE" in wheel


def test_it_holds_every_module_and_setting(wheel: list[str]) -> None:
    sources = [
        *((path, path.relative_to(ROOT / "engine")) for path in ROOT.glob("engine/**/*.py")),
        *((path, path.relative_to(ROOT / "kernels")) for path in ROOT.glob("kernels/*/**/*.py")),
        *((path, "mixfleet" / path.relative_to(ROOT)) for path in ROOT.glob("configs/**/*.yaml")),
    ]
    missing = [target.as_posix() for _, target in sources if target.as_posix() not in wheel]
    assert missing == []


def test_it_holds_the_example_and_its_notice(wheel: list[str]) -> None:
    assert {"mixfleet/data/example/us_visits.parquet", "mixfleet/data/example/NOTICE.md", "mixfleet/py.typed"} <= set(
        wheel
    )


def test_the_source_roots_are_no_packages() -> None:
    assert not (ROOT / "engine" / "__init__.py").exists()
    assert not (ROOT / "kernels" / "__init__.py").exists()


@pytest.mark.skipif(not native_library.available(), reason="the native library is not built")
def test_published_wheels_are_asked_for_the_library():
    recipe = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    python, *asked = shlex.split(recipe["test-command"])
    assert python == "python"
    subprocess.run([sys.executable, *asked], check=True, timeout=60)
