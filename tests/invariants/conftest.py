"""What the invariants that fit share: one folder of compiled programs, for this process and the ones it starts."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def programs(usual_broadcasts: None) -> Path:
    """Lets this module fit; the folder where its programs are kept."""
    return Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
