"""Law 1: a unit's result is the same to the bit, whoever is fitted with it, wherever and whenever."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mixfleet.config import Model
from mixfleet.data.panel import unit_id
from mixfleet.fitting import driver
from tests.support.lift_tests import day, with_tests
from tests.support.quick import Labels, digests, only, ragged_fleet, settings, with_units
from tests.support.terms import LEARNED_SCALES, MOVING

pytestmark = pytest.mark.usefixtures("programs")
FLEET = ragged_fleet()


@pytest.fixture(scope="module")
def together() -> dict[Labels, str]:
    return digests(FLEET)


def test_again(together: dict[Labels, str]) -> None:
    assert len(set(together.values())) == len(FLEET.units) == 6
    assert digests(FLEET) == together


@pytest.mark.parametrize("unit", FLEET.units, ids=lambda unit: "/".join(unit.labels))
def test_alone(unit, together: dict[Labels, str]) -> None:
    assert digests(with_units(FLEET, [unit])) == only(together, [unit])


@pytest.mark.parametrize("model", [MOVING, pytest.param(LEARNED_SCALES, marks=pytest.mark.nightly)])
def test_alone_with_a_level_that_moves(model: Model) -> None:
    """Columns of knots and steps before a shorter unit's first week are zero, whoever is longer."""
    spec = replace(settings(FLEET.data), model=model)
    found = digests(FLEET, spec)
    for unit in FLEET.units[:3]:
        assert digests(with_units(FLEET, [unit]), spec) == only(found, [unit])


def test_in_another_order(together: dict[Labels, str]) -> None:
    assert digests(with_units(FLEET, FLEET.units[::-1])) == together


def test_among_strangers(together: dict[Labels, str]) -> None:
    strangers = [unit for unit in ragged_fleet(seed=8).units if unit.labels[0] != "brand_002"]
    mine = [unit for unit in FLEET.units if unit.labels[0] == "brand_002"]
    assert only(digests(with_units(FLEET, strangers + mine)), mine) == only(together, mine)


def test_lift_tests_change_their_own_unit_alone(together: dict[Labels, str]) -> None:
    own = dict(zip(FLEET.keys, FLEET.units[0].labels, strict=True))
    test = {
        **own,
        "channel": FLEET.channels[1],
        "start": day(FLEET, 30),
        "end": day(FLEET, 33, 6),
        "spend_control": 0.0,
    }
    tested = with_tests(FLEET, [{**test, "roi": 2.0, "se": 0.5}], window=Model().window)
    found = digests(tested)
    assert only(found, FLEET.units[1:]) == only(together, FLEET.units[1:])
    assert found[FLEET.units[0].labels] != together[FLEET.units[0].labels]
    assert digests(with_units(tested, tested.units[:1])) == only(found, tested.units[:1])


def test_with_some_already_done(together: dict[Labels, str]) -> None:
    done = frozenset(unit_id(unit.labels) for unit in FLEET.units[::2])
    assert digests(FLEET, skip=done) == only(together, FLEET.units[1::2])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_with_so_many_threads(threads: int, together: dict[Labels, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "workers_of", lambda devices, _: devices * threads)
    assert digests(FLEET) == together


def test_another_seed_is_another_result(together: dict[Labels, str]) -> None:
    other = digests(FLEET, settings(FLEET.data, seed=1))
    assert not set(other.values()) & set(together.values())


@pytest.mark.parametrize("gates", [{"ess_floor": 10**5, "ess_target": 10**5}, {"ebfmi_min": 1.0}])
def test_a_unit_that_is_tried_again_is_so_alone_and_together(gates: dict[str, float]) -> None:
    # No unit passes, so each climbs, while others start, work and end: to other coordinates, and to smaller steps too.
    spec = settings(FLEET.data, ladder=True, **gates)
    together = digests(FLEET, spec)
    for unit in FLEET.units[:2]:
        assert digests(with_units(FLEET, [unit]), spec) == only(together, [unit])


ELSEWHERE = """
import json, os, sys, time
real = time.time
time.time = lambda: real() + 10 * 365 * 86400
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from dataclasses import replace
from tests.support.quick import digests, ragged_fleet, settings
spec = settings(ragged_fleet().data)
spec = replace(spec, compute=replace(spec.compute, devices="all"))
print(json.dumps([jax.local_device_count(), [[*k, v] for k, v in digests(ragged_fleet(), spec).items()]]))
"""


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_in_another_process(devices: int, together: dict[Labels, str], programs: Path, tmp_path: Path) -> None:
    """Other hash seed, locale, time zone, folder and year; with two devices also other programs."""
    root = Path(__file__).parents[2]
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "PYTHONPATH": os.pathsep.join(str(root / part) for part in ("engine", "kernels", "")),
        "PYTHONHASHSEED": "12345",
        "LC_ALL": "tr_TR.UTF-8",
        "TZ": "Pacific/Kiritimati",
    }
    command = [sys.executable, "-c", ELSEWHERE, str(devices)]
    child = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    seen, found = json.loads(child.stdout.splitlines()[-1])
    assert seen == devices
    assert {tuple(labels): value for *labels, value in found} == together
