"""The one place where tests and benchmarks find data that lies outside the repository."""

import os
from pathlib import Path

import pytest

_BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def shared(path: str) -> Path:
    """The file or folder `path` of the shared data; skips the test where it is absent.

    The data lies in the folder that MIXFLEET_SHARED_DATA names, else in `shared/data` beside the repository.
    """
    return _there(_root() / path)


def shared_case(name: str) -> Path:
    """The folder of a case, an input that was once read or fitted wrongly, in `cases` beside the shared data."""
    return _there(_root().parent / "cases" / name)


def _root() -> Path:
    return Path(os.environ.get("MIXFLEET_SHARED_DATA") or _BESIDE_THE_REPOSITORY)


def _there(found: Path) -> Path:
    if not found.exists():
        pytest.skip(f"no shared data at {found}; set MIXFLEET_SHARED_DATA to its folder")
    return found
