"""A panel and its settings read back from bytes are fitted to the same bytes, or refused."""

from dataclasses import replace

import pyarrow as pa
import pytest

from mixfleet.config import Model
from mixfleet.data.panel import Panel
from mixfleet.data.validation.finding import about_unit
from mixfleet.errors import RunError
from mixfleet.fitting.executors import work_order
from mixfleet.fitting.executors.work_order import read_order, write_order
from mixfleet.storage.manifest import unit_fingerprints
from tests.support.lift_tests import day, with_tests
from tests.support.quick import ragged_fleet, settings


def panel() -> Panel:
    """With a doubt about one unit and a test of another."""
    whole = ragged_fleet()
    row = dict(zip(whole.keys, whole.units[0].labels, strict=True)) | {"channel": whole.channels[0]}
    row |= {"start": day(whole, 40), "end": day(whole, 43, 6), "roi": 2.0, "se": 0.5}
    tested = with_tests(whole, [row], window=Model().window)
    first, second, *rest = tested.units
    doubt = about_unit("outlier", second.labels, "a high week", severity="warning")
    return replace(tested, units=(first, replace(second, warnings=(doubt,)), *rest))


def test_every_unit_is_the_same_after_the_way() -> None:
    there = panel()
    spec = settings(there.data)
    back = read_order(write_order(there, spec))
    assert back.spec == spec
    assert unit_fingerprints(back.panel, back.spec) == unit_fingerprints(there, spec)
    assert [unit.warnings for unit in back.panel.units] == [unit.warnings for unit in there.units]
    assert len(back.panel.units[0].experiments) == len(there.units[0].experiments) == 1


def test_a_worker_of_another_kind_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    order = write_order(ragged_fleet(), settings(ragged_fleet().data))
    read_order.cache_clear()
    monkeypatch.setattr(work_order.Fingerprint, "of", staticmethod(lambda panel, spec: _other(of(panel, spec))))
    with pytest.raises(RunError, match=r"other results.*processor: was .*, now it is a slide rule"):
        read_order(order)


of = work_order.Fingerprint.of


def _other(found: work_order.Fingerprint) -> work_order.Fingerprint:
    return replace(found, arithmetic={**found.arithmetic, "processor": "a slide rule"})


def test_an_order_holds_no_code() -> None:
    table = pa.ipc.open_stream(write_order(ragged_fleet(), settings(ragged_fleet().data))).read_all()
    assert table.num_rows == sum(len(unit.dates) for unit in ragged_fleet().units)
    assert list(table.schema.metadata) == [b"mixfleet"]
