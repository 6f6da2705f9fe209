"""What watches over fits is told when one ends: Prometheus metrics, and lineage as an OpenLineage event.

References:
    Prometheus text-based exposition format, for the textfile collector of its node exporter.
    OpenLineage specification 2-0-2, https://openlineage.io/docs/spec/run-cycle.
"""

import json
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from mixfleet.posterior.unit_result import certified
from mixfleet.storage.atomic_files import replace_bytes
from mixfleet.storage.reader import RunReader

__all__ = ["gauges", "lineage", "metrics", "run_uuid", "write"]

PRODUCER = "https://pypi.org/project/mixfleet"
EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACET = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"


def write(run: RunReader, *, metrics_to: str | None, lineage_to: str | None) -> None:
    """Replaces these files by what is to be said of a finished run.

    Raises:
        RunError: One of them cannot be written.
    """
    for path, said in ((metrics_to, metrics), (lineage_to, lineage)):
        if path is not None:
            replace_bytes(Path(path).expanduser(), said(run).encode())


def gauges(run: RunReader) -> list[tuple[str, str, dict[str, str], float | None]]:
    """What is measured of a finished run: name, meaning, labels, and value where there is one."""
    status, counts = run.table("status").to_pylist(), run.manifest["counts"]
    by_status = [("units", "Units by status.", {"status": name}, count) for name, count in counts.items()]
    share = sum(count for name, count in counts.items() if certified(name)) / max(1, len(status))
    finished = datetime.fromisoformat(run.manifest["timings"]["finished"]).timestamp()
    return [
        *by_status,
        ("certified_share", "Share of units that passed every gate.", {}, share),
        ("rhat_max", "Largest R-hat of a certified unit.", {}, _extreme(status, "rhat_max", max)),
        ("ess_min", "Fewest effective draws of a certified unit.", {}, _extreme(status, "ess_bulk_min", min)),
        ("fit_seconds", "Seconds of the last session of the fit.", {}, run.manifest["timings"]["session_seconds"]),
        ("finished_timestamp_seconds", "When the fit ended.", {}, finished),
        ("info", "Which run and version.", {"run": run.path.name, "version": run.manifest["versions"]["mixfleet"]}, 1),
    ]


def metrics(run: RunReader) -> str:
    """The gauges of a finished run: units by status, share certified, worst diagnostics, seconds, and when."""
    lines, told = [], set()
    for name, meaning, labels, value in gauges(run):
        if value is None:
            continue
        if name not in told:
            lines += [f"# HELP mixfleet_{name} {meaning}", f"# TYPE mixfleet_{name} gauge"]
            told.add(name)
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"mixfleet_{name}{{{inner}}} {value!r}" if inner else f"mixfleet_{name} {value!r}")
    return "\n".join(lines) + "\n"


def run_uuid(run: RunReader) -> str:
    """Which run this is, to whoever watches several: the same each time that it is told."""
    place = run.path.absolute() if run.stored is None else run.place
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{place}#{run.manifest['created']}"))


def _place(run: RunReader) -> tuple[str, str]:
    """Namespace and name of the run as OpenLineage has them of datasets: of a store the bucket, and the place in it."""
    if run.stored is None:
        return "file", str(run.path.absolute())
    *bucket, name = run.place.split("/", 3)
    return "/".join(bucket), name


def lineage(run: RunReader) -> str:
    """The event that a run is complete: which data it read, and the folder that it wrote."""
    manifest = run.manifest
    namespace, name = _place(run)
    data = manifest["config"]["data"]
    source = {"namespace": "file", "name": str(Path(data["path"]).absolute())} if data["path"] else None
    named = source or {"namespace": "mixfleet", "name": data["source"]}
    result = {"counts": manifest["counts"], "result_sha256": manifest["result_sha256"]}
    facet = {"_producer": PRODUCER, "_schemaURL": FACET, **result}
    version = {"_producer": PRODUCER, "_schemaURL": FACET, "datasetVersion": manifest["fingerprint"]["data"]}
    event: dict[str, Any] = {
        "eventType": "COMPLETE",
        "eventTime": manifest["timings"]["finished"],
        "producer": PRODUCER,
        "schemaURL": EVENT,
        "run": {
            "runId": run_uuid(run),
            "facets": {"mixfleet_result": facet},
        },
        "job": {"namespace": "mixfleet", "name": "fit"},
        "inputs": [{**named, "facets": {"version": version}}],
        "outputs": [{"namespace": namespace, "name": name, "facets": {}}],
    }
    return json.dumps(event, indent=1) + "\n"


def _extreme(rows: list[dict[str, Any]], column: str, extreme: Callable[[list[float]], float]) -> float | None:
    """Of certified units."""
    values = [row[column] for row in rows if certified(row["status"]) and row[column] is not None]
    return extreme(values) if values else None


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
