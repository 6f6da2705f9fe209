"""A native library that was built for something else is told and left alone: jax would fail to start with it."""

import subprocess
import sys
from pathlib import Path

import pytest

from build_native import compiler
from mixfleet.cli import doctor
from mixfleet_kernels import native_library
from mixfleet_kernels.native_library import INTERFACE

LIBRARY = """
#include <cstdint>
extern "C" {
int64_t mixfleet_interface() { return %(interface)d; }
int64_t mixfleet_xla_ffi() { return %(ffi)d; }
const char* mixfleet_isa() { return "baseline"; }
int64_t mixfleet_scratch_bytes(int64_t, int64_t, int64_t, int64_t, int64_t) { return 0; }
int64_t mixfleet_evidence_scratch_bytes(int64_t, int64_t, int64_t, int64_t) { return 0; }
}
"""

FFI = native_library._xla_ffi() or (0, 0)
HERE = 1000 * FFI[0] + FFI[1]
OLDER, NEWER = (f"(XLA FFI {FFI[0]}.{FFI[1] + step}; that of jaxlib" for step in (-1, 1))

BROKEN = {
    "sources": (LIBRARY % {"interface": INTERFACE - 1, "ffi": HERE}, "were built from other sources"),
    "older": (LIBRARY % {"interface": INTERFACE, "ffi": HERE - 1}, f"were built for another jax {OLDER}"),
    "newer": (LIBRARY % {"interface": INTERFACE, "ffi": HERE + 1}, f"were built for another jax {NEWER}"),
    "silent": ('extern "C" long mixfleet_interface() { return 1; }', "do not load"),
    "empty": (LIBRARY % {"interface": INTERFACE, "ffi": HERE}, "do not load"),
}

PROGRAM = """
import pathlib, sys
import jax
from mixfleet_kernels import convergence, native_library
from mixfleet.cli import doctor

for path in sys.argv[1:]:
    native_library.LIBRARY = pathlib.Path(path)
    native_library._library.cache_clear()
    assert not native_library.available()
    print(doctor.kernels("cpu"))
with jax.enable_x64(True):
    found = convergence.convergence(jax.random.normal(jax.random.key(1), (1, 50, 4)), 50)
assert 0.9 < float(found.rhat[0]) < 1.1
"""


def left_alone(libraries: dict[Path, str]) -> None:
    """Each library is told in these words, and XLA's kernels run."""
    # In a process of its own, for jax keeps what it was once given.
    command = [sys.executable, "-c", PROGRAM, *map(str, libraries)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for line, words in zip(done.stdout.splitlines(), libraries.values(), strict=True):
        assert line.startswith(f"xla: the native kernels {words}")
        assert "install" in line


def test_half_a_library_is_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "half.so").write_bytes(b"\x7fELF but no more than that")
    left_alone({tmp_path / "half.so": "do not load"})


@pytest.mark.skipif(compiler() is None, reason="the package installs without a C++ compiler, and here is none")
def test_libraries_of_other_kinds_are_told_and_left_alone(tmp_path: Path) -> None:
    for name, (source, _) in BROKEN.items():
        (tmp_path / f"{name}.cpp").write_text(source)
        made = ["-shared", "-fPIC", str(tmp_path / f"{name}.cpp"), "-o", str(tmp_path / f"{name}.so")]
        subprocess.run([compiler() or "", *made], check=True)
    left_alone({tmp_path / f"{name}.so": words for name, (_, words) in BROKEN.items()})


def test_the_doctor_says_which_kernels_run() -> None:
    own = f"native ({native_library.isa()})"
    assert doctor.kernels("cpu") == (own if native_library.available() else f"xla: {native_library.why_not()}")
