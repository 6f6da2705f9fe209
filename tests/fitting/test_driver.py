"""Driver: what units share a tile with changes nothing of them, and no unit of a tile waits for many."""

from dataclasses import replace

import pytest

from mixfleet.config import Compute, Spec
from mixfleet.fitting import driver
from mixfleet.fitting.retries import RETRY_PLACES
from mixfleet.inference import scheduler
from tests.support.quick import digests, ragged_fleet, settings, with_units

FLEET = ragged_fleet()


def places_of(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> int:
    """Places of the tile that a fit moves a unit in."""
    seen = set()

    class Watched(scheduler.Slots):
        def __init__(self, program, *rest) -> None:
            seen.add(program.structure.units)
            super().__init__(program, *rest)

    monkeypatch.setattr(driver, "Slots", Watched)
    digests(with_units(FLEET, FLEET.units[:1]), spec)
    (found,) = seen
    return found


@pytest.mark.parametrize(("lanes", "places"), [(128, RETRY_PLACES), (16, 2)])
def test_few_units_share_a_tile_of_native_code(lanes: int, places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(settings(FLEET.data), compute=Compute(lanes=lanes, devices=1))
    assert places_of(spec, monkeypatch) == places


def test_so_many_lanes_change_nothing_in_native_code() -> None:
    spec = settings(FLEET.data)
    narrow = replace(spec, compute=replace(spec.compute, lanes=spec.inference.chains))
    assert digests(FLEET, narrow) == digests(FLEET, spec)
