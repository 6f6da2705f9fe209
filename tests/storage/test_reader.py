"""What another version wrote is said to be that, with its version and the way out."""

import hashlib
import json
from pathlib import Path

import pytest

import mixfleet
from mixfleet.config import Model
from mixfleet.errors import RunError
from mixfleet.storage.manifest import MANIFEST, SUCCESS
from tests.support.saved_run import saved_run

OTHER = r"was written by another mixfleet \(version 0\.0\.9, [-0-9]*; this is .*\): {}.*fit again with another run\.id"


def changed(root: Path, *, setting: tuple[str, object] | None = None, table: str | None = None) -> Path:
    """A run as an earlier version may have left it, sealed."""
    path = saved_run(root, Model(), draws=4).path
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["versions"]["mixfleet"] = "0.0.9"
    if setting is not None:
        manifest["config"]["prior"][setting[0]] = setting[1]
    if table is not None:
        del manifest["files"][f"summary/{table}.parquet"]
    data = json.dumps(manifest).encode()
    (path / MANIFEST).write_bytes(data)
    (path / SUCCESS).write_text(json.dumps({"manifest": hashlib.sha256(data).hexdigest()}))
    return path


def test_settings_of_another_version_are_said_to_be_that(tmp_path: Path) -> None:
    run = mixfleet.open(changed(tmp_path, setting=("unknown", 1)))
    assert len(run.status)
    with pytest.raises(RunError, match=OTHER.format(r"its settings are not read here \(prior\.unknown")):
        run.insight.roi()


def test_a_table_that_another_version_did_not_keep_is_said_to_be_that(tmp_path: Path) -> None:
    run = mixfleet.open(changed(tmp_path, table="checks"))
    with pytest.raises(RunError, match=OTHER.format("it has no table 'checks'")):
        run.report()
