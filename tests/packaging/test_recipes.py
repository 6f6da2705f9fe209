"""Recipes for many machines: files as their systems' schemas have them, and commands whose settings exist."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mixfleet.cli.hydra_compose import PRIMARY, Request, compose_spec
from mixfleet.config import Spec

PAGE = (Path(__file__).parents[2] / "docs" / "many_machines.md").read_text("utf-8")


def block(first: str) -> str:
    """The block of the page that begins so."""
    (found,) = (text for text in re.findall(r"```\w*\n(.*?)```", PAGE, re.DOTALL) if text.startswith(first))
    return found


def settings(command: str, folder: Path) -> Spec:
    """What the words of a `mixfleet fit` ask for."""
    (folder / "data").mkdir()
    (folder / "data" / "acme.yaml").write_text("source: table\npath: sales.csv\nchannels: [tv]\n")
    words = tuple(word for word in shlex.split(command) if "=" in word and not word.startswith("-"))
    return compose_spec(Request(overrides=words, folder=folder, primary=PRIMARY, multirun=False))


def test_the_ray_cluster_is_as_ray_has_it(tmp_path: Path) -> None:
    # The module is found and not loaded, which would start what it needs.
    found = importlib.util.find_spec("ray")
    assert found is not None
    assert found.origin is not None
    schema = json.loads((Path(found.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load(block("cluster_name"))
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "max_worker": 3}, schema)
    (command,) = re.findall(r"ray exec cluster.yaml '(.*)'", block("ray up"))
    asked = settings(command, tmp_path).compute
    assert (asked.executor, asked.ray.address) == ("ray", "auto")
    assert cluster["available_node_types"]["worker"]["resources"]["CPU"] % asked.ray.cpus == 0


def test_each_index_of_a_kubernetes_job_fits_its_part(tmp_path: Path) -> None:
    job: dict[str, Any] = yaml.safe_load(block("apiVersion"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    *_, command = container["command"]
    parts = job["spec"]["completions"]
    asked = settings(command.replace("$JOB_COMPLETION_INDEX", "3"), tmp_path)
    assert (asked.compute.shard, asked.run.id) == (f"3/{parts}", "june")
    # A limit of CPU time is not to be seen by the process.
    assert str(asked.compute.threads) == container["resources"]["limits"]["cpu"]
    (mount,), (volume,) = container["volumeMounts"], job["spec"]["template"]["spec"]["volumes"]
    assert (mount["name"], mount["mountPath"]) == (volume["name"], asked.run.root)


def test_each_index_of_a_slurm_array_fits_its_part(tmp_path: Path) -> None:
    script = block("#!/bin/bash")
    first, last = map(int, re.findall(r"--array=(\d+)-(\d+)", script)[0])
    program = tmp_path / "mixfleet"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\nexit 5\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(last)}
    done = subprocess.run(["bash", "-c", script], env=environment, timeout=60)
    assert done.returncode == 5
    asked = settings((tmp_path / "asked").read_text(), tmp_path)
    assert (asked.compute.shard, first, asked.run.root) == (f"{last}/{last + 1}", 0, "/shared/runs")
    assert f"mixfleet collect {asked.run.root}/{asked.run.id}" in block("sbatch")
