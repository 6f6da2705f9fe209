import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("jax", "numpy", "numpyro", "pandas", "pyarrow", "hydra", "xarray", "zarr")


def python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "engine"), str(ROOT / "kernels")])}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def loaded(code: str, *names: str) -> str:
    """Which of these modules are loaded after `code`."""
    return python(f"import sys; {code}; print([name for name in {names} if name in sys.modules])")


def test_importing_takes_less_than_a_third_of_a_second() -> None:
    code = "import time; start = time.perf_counter(); import mixfleet; print(time.perf_counter() - start)"
    assert min(float(python(code)) for _ in range(3)) < 0.3


@pytest.mark.parametrize("module", ["mixfleet", "mixfleet.config", "mixfleet.errors"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    assert loaded(f"import {module}", *HEAVY) == "[]"


def test_settings_need_nothing_heavy() -> None:
    assert loaded("import mixfleet as mf; mf.Spec(prior=mf.preset('prior', 'tight'))", *HEAVY) == "[]"


def test_the_command_line_starts_without_jax() -> None:
    assert loaded("import mixfleet.cli.main", "jax", "numpyro", "pandas") == "[]"


def test_opening_a_run_needs_no_sampler() -> None:
    assert loaded("import mixfleet as mf; mf.open", "jax", "numpyro") == "[]"


def test_a_saved_run_is_decided_upon_without_the_sampling_stack() -> None:
    rooms = "analysis.insight", "budgeting.planner", "reporting.html", "reporting.charts", "run"
    code = "import " + ", ".join(f"mixfleet.{room}" for room in rooms)
    sampling = ("fitting", "hierarchy", "inference", "models.batch", "models.log_density", "models.reference")
    assert loaded(code, "numpyro", "optax", *(f"mixfleet.{name}" for name in sampling)) == "[]"


def test_the_public_names_are_there_and_stay() -> None:
    code = """
import mixfleet.api
import mixfleet as mf
missing = [name for name in mf.__all__ if not hasattr(mf, name)]
functions = mf.fit, mf.open, mf.check, mf.preset
print(missing, [function for function in functions if not callable(function)])
"""
    assert python(code) == "[] []"


def test_an_unknown_name_is_an_error() -> None:
    assert python("import mixfleet\ntry: mixfleet.fti\nexcept AttributeError as error: print(error)") == (
        "module 'mixfleet' has no attribute 'fti'"
    )


POOLS_AND_PLANS = ("hierarchy", "budgeting", "reporting", "fitting.group_driver")


def test_a_fit_loads_what_it_needs(tmp_path: Path) -> None:
    """Nothing is pooled, planned or reported; and a report of the run samples nothing."""
    code = f"""
import sys
import mixfleet as mf
fleet = mf.simulate.fleet(brands=1, markets=1, weeks=60, channels=1)
short = {{"max_draws": 256, "ladder": False, "ess_target": 100, "ess_floor": 50, "rhat_max": 1.2}}
run = mf.fit(fleet.table, data=fleet.data, inference=short, run={{"root": {str(tmp_path)!r}, "id": "r"}})
print([name for name in sys.modules if name.startswith({tuple(f"mixfleet.{one}" for one in POOLS_AND_PLANS)!r})])
"""
    assert python(code) == "[]"
    # What other priors would say needs the units' own, and so what prepares them, but no density that is sampled.
    sampling = ("fitting", "hierarchy", "inference", "models.log_density", "models.composed_density")
    report = f"import mixfleet as mf; mf.open({str(tmp_path / 'r')!r}).report()"
    assert loaded(report, "numpyro", "optax", *(f"mixfleet.{name}" for name in sampling)) == "[]"
