"""What the laws that fit share: one folder of compiled programs, for this process and the ones it starts."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.2,
    # Sums over weeks are broadcast against series; the kernels' own tests hold them to the strict rule.
    "jax_numpy_rank_promotion": "allow",
}


@pytest.fixture(scope="session")
def program_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def programs(program_folder: Path) -> Iterator[Path]:
    """Lets this module fit; the folder where its programs are kept."""
    wanted = {"jax_compilation_cache_dir": str(program_folder), **SETTINGS}
    before = {name: getattr(jax.config, name) for name in wanted}
    for name, value in wanted.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield program_folder
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
