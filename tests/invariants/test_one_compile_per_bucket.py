"""Law 7: units of one padded shape share one compilation, and hyperparameters are data."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax
import pytest
from jax import monitoring

from mixfleet.config import Output, Override, Prior, preset
from mixfleet.config.priors import distribution
from mixfleet.fitting import driver, retries
from mixfleet.inference import certification, native_block, scheduler
from mixfleet.inference import compiled as programs
from mixfleet.inference.certification import Verdict, judge
from mixfleet.models.batch import padded_weeks
from mixfleet_kernels import native_library
from tests.support.quick import ENOUGH, fit, ragged_fleet, settings, with_units

pytestmark = pytest.mark.usefixtures("programs")
FLEET = ragged_fleet()
PARTS = ("evaluate", "advance", "_window", "_adapt", "_insert")


@contextmanager
def compilations() -> Iterator[Counter[str]]:
    """Compilations within the block, by function; those answered from the folder of programs count too."""
    seen: Counter[str] = Counter()

    def listen(event: str, duration_secs: float, **details: Any) -> None:
        if event.endswith("backend_compile_duration"):
            seen[str(details["fun_name"]).removeprefix("jit(").removesuffix(")")] += 1

    monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        monitoring.unregister_event_duration_listener(listen)


def test_ragged_units_share_one_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({len(unit.dates) for unit in FLEET.units}) > 2
    assert len({padded_weeks(len(unit.dates)) for unit in FLEET.units}) == 1
    monkeypatch.setattr(native_block, "form_of", lambda *_: None)
    monkeypatch.setattr(driver, "workers_of", lambda devices, _: devices * 3)
    asked: Counter[str] = Counter()
    compiled = programs.compiled

    def counted(function: Any, *arguments: Any) -> Any:
        asked[function.__name__] += 1
        return compiled(function, *arguments)

    monkeypatch.setattr(programs, "compiled", counted)
    programs.program.cache_clear()
    with compilations() as seen:
        fit(FLEET)
    assert asked == dict.fromkeys(PARTS, 1)
    # None where an earlier test of this process has compiled them.
    assert all(seen[name] <= 1 for name in PARTS)
    assert programs.program.cache_info().misses == 1
    programs.program.cache_clear()


@pytest.mark.skipif(not native_library.available(), reason="needs the native library")
def test_a_fit_in_native_code_compiles_nothing() -> None:
    programs.program.cache_clear()
    jax.clear_caches()
    with compilations() as seen:
        results = fit(FLEET)
    assert all(result.tables["roi"] for result in results.values())
    assert not seen


def test_what_is_data_compiles_nothing() -> None:
    spec = settings(FLEET.data)
    fit(FLEET, spec)
    other_units = ragged_fleet(seed=8)
    distributions = {
        "decay": distribution("beta", a=2.0, b=2.0),
        "media_share": distribution("half_student_t", df=3.0, scale=0.3),
        "intercept": distribution("normal", mean=0.2, sd=1.0),
        "noise": distribution("half_normal", sd=0.05),
    }
    one_channel = Override(parameter="rate", unit={"brand": "brand_001"}, channel="tv", hyperparameters={"shape": 2.0})  # pyright: ignore[reportArgumentType]
    with compilations() as seen:
        fit(FLEET, replace(spec, prior=Prior(parameters=distributions, overrides=(one_channel,))))  # pyright: ignore[reportArgumentType]
        fit(FLEET, replace(spec, prior=preset("prior", "weak")))
        fit(other_units, replace(spec, data=other_units.data))
        fit(with_units(FLEET, FLEET.units[:1]), spec)
        fit(FLEET, settings(FLEET.data, seed=3, target_accept=0.9, ess_target=300, ess_floor=200, rhat_max=1.02))
        fit(FLEET, replace(spec, output=Output(draws="full")))
    assert not seen


def test_a_sweep_over_priors_compiles_nothing() -> None:
    spec = settings(FLEET.data)
    fit(FLEET, spec)
    misses = programs.program.cache_info().misses
    with compilations() as seen:
        for scale in (0.1, 0.5, 2.0):
            prior = Prior(parameters={"media_share": distribution("half_student_t", df=4, scale=scale)})  # pyright: ignore[reportArgumentType]
            fit(with_units(FLEET, FLEET.units[:2]), replace(spec, prior=prior))
    assert not seen
    assert programs.program.cache_info().misses == misses


def test_more_draws_are_another_program_and_only_then() -> None:
    """What is no data: the number of draws that a draw buffer must hold."""
    kept = settings(FLEET.data).inference
    assert kept.max_draws == ENOUGH["max_draws"]
    assert scheduler.capacity_of(replace(kept, max_draws=600)) == scheduler.capacity_of(kept)
    assert scheduler.capacity_of(replace(kept, max_draws=2000)) > scheduler.capacity_of(kept)


def test_units_that_climb_share_a_program_on_each_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of its own for each would fill a process's memory map where thousands are fitted."""

    def refuse(*arguments: Any, **keywords: Any) -> Verdict:
        return replace(judge(*arguments, **keywords), passed=False, enough=False, hopeless=False, mixing=False)

    monkeypatch.setattr(certification, "judge", refuse)
    programs.program.cache_clear()
    jax.clear_caches()
    with compilations() as seen:
        results = fit(with_units(FLEET, FLEET.units[:3]), settings(FLEET.data, ladder=True, max_draws=256))
    assert {result.rung for result in results.values()} == {retries.FALLBACK_RUNG}
    # The rungs before double precision have the same one.
    assert programs.program.cache_info().misses == 2
    assert all(seen[name] <= 2 for name in PARTS)
    assert not seen or not native_library.available()
