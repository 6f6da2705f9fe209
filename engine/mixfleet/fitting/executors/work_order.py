"""What a worker elsewhere needs to fit units of a panel: table, settings, and what the fit was asked on, as bytes.

Two Arrow streams: the panel's table, whose schema carries all else as JSON, and the lift tests. Nothing of it is code.
"""

import json
from dataclasses import asdict, replace
from functools import lru_cache
from typing import NamedTuple

import pyarrow as pa

from mixfleet.config import Spec, build, to_mapping
from mixfleet.data.experiments.experiment import experiments_table, read_experiments
from mixfleet.data.panel import Panel
from mixfleet.data.panel_parquet import panel_table, read_units
from mixfleet.data.validation.finding import Finding
from mixfleet.errors import RunError
from mixfleet.storage.manifest import Fingerprint

__all__ = ["WorkOrder", "read_order", "write_order"]

_HEADER = b"mixfleet"


class WorkOrder(NamedTuple):
    """A panel without rejected units, and all settings."""

    panel: Panel
    spec: Spec


def write_order(panel: Panel, spec: Spec) -> bytes:
    """The order to fit units of this panel."""
    header = {
        "fingerprint": asdict(Fingerprint.of(replace(panel, rejected=()), spec)),
        "settings": to_mapping(spec),
        "keys": panel.keys,
        "channels": panel.channels,
        "linear": panel.linear,
        "warnings": [[asdict(finding) for finding in unit.warnings] for unit in panel.units],
    }
    table = panel_table(panel).replace_schema_metadata({_HEADER: json.dumps(header, default=dict).encode()})
    sink = pa.BufferOutputStream()
    tests = experiments_table(panel.keys, [(unit.labels, unit.experiments) for unit in panel.units])
    for one in (table, tests):
        with pa.ipc.new_stream(sink, one.schema) as stream:
            stream.write_table(one)
    return sink.getvalue().to_pybytes()


@lru_cache(maxsize=1)
def read_order(order: bytes) -> WorkOrder:
    """The order, read once by a process that is given many parts of it.

    Raises:
        RunError: This process would not fit what was meant to the same bytes; says what is different here.
        ConfigError: A setting names what is not known here.
    """
    source = pa.BufferReader(order)
    table, tests = (pa.ipc.open_stream(source).read_all() for _ in range(2))
    header = json.loads(table.schema.metadata[_HEADER])
    keys, spec = tuple(header["keys"]), build(Spec, header["settings"])
    own = read_experiments(tests, keys)
    units = tuple(
        replace(unit, warnings=tuple(map(_finding, warnings)), experiments=own.get(unit.labels, ()))
        for unit, warnings in zip(read_units(table, keys), header["warnings"], strict=True)
    )
    channels, linear = tuple(header["channels"]), tuple(header["linear"])
    panel = Panel(data=spec.data, keys=keys, channels=channels, linear=linear, units=units, rejected=(), findings=())
    if differences := Fingerprint.of(panel, spec).differences(header["fingerprint"]):
        raise RunError(
            f"a worker would give other results than the process that asks: {'; '.join(differences)}. Run both on "
            "machines of one kind with the same packages"
        )
    return WorkOrder(panel, spec)


def _finding(stored: dict) -> Finding:
    labels = stored["unit"]
    return Finding(**{**stored, "unit": None if labels is None else tuple(labels)})
