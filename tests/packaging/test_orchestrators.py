"""The examples for schedulers: they load, ask for a night that exists, and retry where a retry helps and nowhere else.

Schedulers are not among the packages of the tests: where one is not installed its example is only read.
"""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PYTHON = ("airflow_dag.py", "dagster_assets.py", "prefect_flow.py")
IN_VAIN, WORTH_IT = (1, 2, 3), (4, 130, 137)
ANSWER = {"run": "runs/d", "units": 6, "ok": 6, "carried": 5, "seconds": 1.5}

Ended = Callable[..., None]


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ended:
    """Puts a stand-in for `mixfleet` first in the path, which ends with these exit codes, one after the other."""
    program = tmp_path / "bin" / "mixfleet"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    def says(*codes: int) -> None:
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        (tmp_path / "asked").write_text("")
        program.write_text(
            f"#!/bin/sh\necho \"$@\" >>{tmp_path}/asked\necho '{json.dumps(ANSWER)}'\n"
            f'[ "$1" = prune ] && exit 0\ncode=$(head -n 1 {tmp_path}/codes)\n'
            f"tail -n +2 {tmp_path}/codes >{tmp_path}/rest; mv {tmp_path}/rest {tmp_path}/codes\nexit $code\n"
        )
        program.chmod(0o755)

    return says


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def asked(tmp_path: Path) -> list[str]:
    return (tmp_path / "asked").read_text().splitlines()


@pytest.mark.parametrize("name", PYTHON)
def test_no_retry_is_asked_for_where_none_helps(name: str) -> None:
    body = ast.parse((EXAMPLES / name).read_text()).body
    tables = {ast.unparse(node.targets[0]): node.value for node in body if isinstance(node, ast.Assign)}
    assert tuple(ast.literal_eval(tables["RETRY_IN_VAIN"])) == IN_VAIN


def test_the_nights_that_are_asked_for_are_settings_that_exist(tmp_path: Path) -> None:
    from mixfleet.cli import hydra_compose as compose

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "acme.yaml").write_text("source: table\npath: sales.csv\nchannels: [tv]\n")
    for path in (*(EXAMPLES / name for name in PYTHON), EXAMPLES / "night.sh"):
        text = path.read_text().replace("{runs}", "runs").replace("{day}", "d").replace("{context.partition_key}", "d")
        words = re.findall(r'f?"((?:data|run\.\w+)=[^"]*)"|\b((?:data|run\.\w+)=\S+)', text)
        overrides = tuple((one or two).replace('"$day"', "d") for one, two in words)
        spec = compose.compose_spec(
            compose.Request(overrides=overrides, folder=tmp_path, primary=compose.PRIMARY, multirun=False)
        )
        assert (spec.run.id, spec.run.base is not None) == ("d", True), path.name


def test_cron_tries_again_where_it_helps_and_then_prunes(tmp_path: Path, ended: Ended) -> None:
    (tmp_path / "runs").mkdir()
    environment = {**os.environ, "MMM": str(tmp_path), "PAUSE": "0"}
    for codes, code, tries in (((130, 4, 0), 0, 3), ((1, 0), 1, 1), ((2,), 2, 1), ((3,), 3, 1), ((137,) * 5, 137, 5)):
        ended(*codes)
        done = subprocess.run(
            ["sh", EXAMPLES / "night.sh"], env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code
        said = asked(tmp_path)
        assert [line.split()[0] for line in said] == ["fit"] * tries + ["prune"] * (code == 0)
        assert len({line for line in said if line.startswith("fit")}) == 1
        assert ("run.base" in said[0]) == (tmp_path / "runs" / "latest.json").exists()
        assert (f"ended with {code}" in done.stderr) == bool(code)
        (tmp_path / "runs" / "latest.json").write_text("{}")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_shell_script_is_sound() -> None:
    subprocess.run(["shellcheck", EXAMPLES / "night.sh"], check=True)


def test_airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: Ended) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    pytest.importorskip("airflow.sdk")
    from airflow.sdk.exceptions import AirflowFailException  # pyright: ignore[reportMissingImports]

    dag = loaded("airflow_dag.py").mixfleet_night()
    (fit,) = dag.tasks
    assert (dag.dag_id, fit.retries, dag.max_active_runs, dag.catchup) == ("mixfleet_night", 4, 1, False)
    ended(0)
    assert fit.python_callable("2026-11-22") == ANSWER
    assert "run.id=2026-11-22" in asked(tmp_path)[0]
    for code in (*IN_VAIN, *WORTH_IT):
        ended(code)
        # Airflow tries again after any error but this one.
        with pytest.raises((AirflowFailException, subprocess.CalledProcessError)) as caught:
            fit.python_callable("2026-11-22")
        assert isinstance(caught.value, AirflowFailException) == (code in IN_VAIN)


def test_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: Ended) -> None:
    dg = pytest.importorskip("dagster")
    module = loaded("dagster_assets.py")
    dg.Definitions.validate_loadable(module.definitions)
    assert module.definitions.resolve_job_def("night").name == "night"

    def night(code: int) -> Any:
        ended(code)
        return dg.materialize([module.fleet], partition_key="2026-11-22", raise_on_error=False)

    done = night(0)
    assert done.success
    (event,) = done.asset_materializations_for_node("fleet")
    assert event.metadata["carried"].value == 5
    assert "run.id=2026-11-22" in asked(tmp_path)[0]
    for code in IN_VAIN:
        tried = night(code)
        assert not tried.success
        assert len(asked(tmp_path)) == 1
    policy = module.fleet.op.retry_policy
    assert (policy.max_retries, policy.delay) == (4, 600)
    for code in WORTH_IT:
        ended(code)
        with pytest.raises(subprocess.CalledProcessError):
            module.fleet.op.compute_fn.decorated_fn(dg.build_asset_context(partition_key="2026-11-22"))


def test_prefect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: Ended) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    pytest.importorskip("prefect")
    from prefect.testing.utilities import prefect_test_harness  # pyright: ignore[reportMissingImports]

    module = loaded("prefect_flow.py")
    assert module.fit.retries == 4
    monkeypatch.setattr(module, "fit", module.fit.with_options(retry_delay_seconds=0))
    with prefect_test_harness():
        for codes, tries in (((0,), 1), ((4, 130, 0), 3), *(((code, 0), 1) for code in IN_VAIN), ((137,) * 5, 5)):
            ended(*codes)
            state = module.night(return_state=True)
            assert state.is_completed() == (codes[tries - 1] == 0)
            assert len(asked(tmp_path)) == tries
        ended(0)
        assert module.night() == ANSWER
    day = datetime.now(UTC)
    assert any(f"run.id={(day - timedelta(days=ago)):%Y-%m-%d}" in asked(tmp_path)[0] for ago in (0, 1))
