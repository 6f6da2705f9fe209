"""Draws are read from what this package can have written, and from nothing else."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from mixfleet import run as saved
from mixfleet.config import Model
from mixfleet.errors import RunError
from mixfleet.run import Run
from mixfleet.storage.draws_zarr import DIGESTS
from mixfleet.storage.manifest import write_manifest
from tests.support.saved_run import saved_run


def forged(run: Run, name: str, change: dict[str, Any]) -> Run:
    """The run with another array's metadata and with every digest made to agree, as a hostile sender would."""
    path = run.path / "posterior.zarr" / name / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    lines = []
    for line in (run.path / DIGESTS).read_text().splitlines():
        file = line.partition("  ")[2]
        lines.append(f"{hashlib.sha256((run.path / 'posterior.zarr' / file).read_bytes()).hexdigest()}  {file}\n")
    return committed(run, "".join(lines).encode())


def committed(run: Run, digests: bytes) -> Run:
    (run.path / DIGESTS).write_bytes(digests)
    manifest = dict(run.manifest)
    manifest["files"][DIGESTS]["sha256"] = hashlib.sha256(digests).hexdigest()
    sha256 = write_manifest(run.path, manifest)
    (run.path / "_SUCCESS").write_text(json.dumps({"manifest": sha256}))
    return saved.open(run.path)


PICKLE = [{"name": "numcodecs.pickle", "configuration": {}}]
SHARDS = {"chunk_shape": [1, 2, 6, 3], "codecs": PICKLE, "index_codecs": PICKLE, "index_location": "end"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codecs": PICKLE}, "codec 'numcodecs.pickle' is not among those that are read: bytes, crc32c"),
        ({"codecs": [{"name": "sharding_indexed", "configuration": SHARDS}]}, "codec 'numcodecs.pickle'"),
        ({"zarr_format": 2}, "Zarr format 2"),
        ({"data_type": "object"}, "an array of type 'object'"),
        ({"shape": [10**12, 2, 6, 3]}, "an array of 1000000000000 units, not 6"),
        ({"shape": [6, 10**6, 10**6, 3]}, "an array of shape"),
        ({"codecs": 3}, "is damaged"),
    ],
)
def test_arrays_that_may_run_code_or_fill_memory_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    run = forged(saved_run(tmp_path, Model()), "effect", change)
    with pytest.raises(RunError, match=said):
        run.unit("acme", "DE").draws()


@pytest.mark.parametrize("name", ["effect/c.0.0.0.0", "n_draws/c.0", "channel/c.0"])
@pytest.mark.parametrize(
    "frame", [b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little"), b"\x28\xb5\x2f\xfd\x00\x58" + bytes(8)]
)
def test_chunks_that_unpack_to_more_than_they_hold_are_refused(tmp_path: Path, name: str, frame: bytes) -> None:
    run = saved_run(tmp_path, Model())
    path = run.path / "posterior.zarr" / name
    data = path.read_bytes()
    start = data.index(b"\x28\xb5\x2f\xfd")
    path.write_bytes(data[:start] + frame + data[start + len(frame) :])
    run = forged(run, name.partition("/")[0], {})
    with pytest.raises(RunError, match=f"{name} wants .* bytes of memory"):
        run.unit("acme", "DE").draws()


def test_a_run_with_one_digest_for_all_draws_is_still_read_and_checked(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model())
    before = run.unit("acme", "DE").draws().draws["effect"]
    (run.path / DIGESTS).unlink()
    del run.manifest["files"][DIGESTS]
    (run.path / "_SUCCESS").write_text(json.dumps({"manifest": write_manifest(run.path, run.manifest)}))
    old = saved.open(run.path)
    assert (old.unit("acme", "DE").draws().draws["effect"] == before).all()
    (run.path / "posterior.zarr" / "noise" / "c.0.0.0").write_bytes(b"x")
    with pytest.raises(RunError, match=r"posterior.zarr is damaged: files were changed"):
        saved.open(run.path).unit("acme", "DE").draws()
