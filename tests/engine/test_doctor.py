import re
from importlib import metadata

import pytest

from mixfleet.doctor import diagnose, hints


def test_a_healthy_machine_needs_no_hint() -> None:
    assert hints({}, "cpu", gpu=False, cache_note="") == []
    jaxlib = metadata.version("jaxlib")
    assert hints({"jax-cuda12-plugin": jaxlib}, "gpu", gpu=True, cache_note="") == []


@pytest.mark.parametrize(
    ("plugins", "gpu", "note", "expected"),
    [
        ({}, True, "", r"install mixfleet\[cuda12\]"),
        ({"jax-cuda12-plugin": "0.0.1"}, True, "", "0.0.1 does not fit jaxlib"),
        (
            {"jax-cuda12-plugin": "1", "jax-cuda13-plugin": "1"},
            False,
            "",
            "CUDA 12 and 13 are both installed",
        ),
        ({}, False, "cannot be written", "the compile cache cannot be written"),
    ],
)
def test_what_is_wrong_comes_with_a_remedy(plugins: dict[str, str], gpu: bool, note: str, expected: str) -> None:
    assert any(re.search(expected, hint) for hint in hints(plugins, "cpu", gpu=gpu, cache_note=note))


def test_this_machine_is_described() -> None:
    found = diagnose()
    assert found.cores >= 1
    assert found.jax_backend in found.devices[0] or found.jax_backend == "gpu"
    assert set(found.versions) >= {"mixfleet", "python", "jax", "numpyro"}
    assert found.memory_gib is None or found.memory_gib > 0
