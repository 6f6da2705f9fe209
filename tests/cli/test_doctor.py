import re
from dataclasses import dataclass
from importlib import metadata

import jax
import pytest

from mixfleet.cli.doctor import device_line, diagnose, hints


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


@dataclass(frozen=True)
class Device:
    platform: str
    id: int
    device_kind: str
    bytes_limit: int | None

    def memory_stats(self) -> dict[str, int] | None:
        return None if self.bytes_limit is None else {"bytes_in_use": 0, "bytes_limit": self.bytes_limit}


def test_a_gpu_is_named_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [Device("gpu", n, "NVIDIA H100 80GB HBM3", 3 * 20 * 2**30) for n in range(2)]
    monkeypatch.setattr(jax, "devices", lambda: there)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = diagnose()
    assert found.devices == tuple(f"gpu:{n} NVIDIA H100 80GB HBM3, 60.0 GiB" for n in range(2))
    assert (found.jax_backend, found.kernels) == ("gpu", "xla")


def test_a_device_without_memory_of_its_own_has_its_name_alone() -> None:
    assert device_line(Device("cpu", 0, "cpu", None)) == "cpu:0 cpu"


def test_this_machine_is_described() -> None:
    found = diagnose()
    assert found.cores >= 1
    assert found.jax_backend in found.devices[0] or found.jax_backend == "gpu"
    assert set(found.versions) >= {"mixfleet", "python", "jax", "numpyro"}
    assert found.memory_gib is None or found.memory_gib > 0
