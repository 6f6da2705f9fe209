"""Build hook: compiles the native kernels where a C++ compiler is found, and goes on without it elsewhere."""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

PACKAGE = Path(__file__).parent / "mixfleet_kernels"
LIBRARY = PACKAGE / "libmixfleet_kernels.so"
MADE_OF = PACKAGE / "libmixfleet_kernels.sha256"
"""The digest of all that the library beside it was made of: it is not made twice."""
ENTRIES = (
    "native_library.cpp",
    "likelihood/native.cpp",
    "convergence/native.cpp",
    "hmc/native.cpp",
    "hmc/native_xla.cpp",
    "evidence/native.cpp",
    "response/native.cpp",
    "quantiles/native.cpp",
    "coordinates/native.cpp",
)
"""Compiled once, with XLA's headers."""
PASSES = {
    "likelihood/native_lanes.cpp": (),
    # As numpy rounds.
    "likelihood/native_coefficients.cpp": ("-ffp-contract=off",),
    "convergence/native_chains.cpp": (),
    "hmc/native_block.cpp": (),
    "hmc/native_trajectory.cpp": (),
    "evidence/native_lanes.cpp": (),
    "response/native_draws.cpp": (),
    "quantiles/native_rows.cpp": (),
    "coordinates/native_maps.cpp": (),
}
"""Compiled once per instruction set, with these flags."""
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
FLAGS += ("-fPIC", "-fvisibility=hidden")
INSTRUCTION_SETS = {"v4": ("-march=x86-64-v4",), "v3": ("-march=x86-64-v3",), "plain": ()}


class NativeKernels(BuildHookInterface):
    """Puts the library beside its sources, and into the wheel."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """XLA's headers come with jaxlib; nothing is needed where nothing can be compiled."""
        return ["jaxlib>=0.7"] if compiler() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compiles, and marks the wheel as one for this platform if that worked."""
        trouble = build()
        if trouble:
            LIBRARY.unlink(missing_ok=True)  # of other sources, perhaps
            self.app.display_warning(f"mixfleet goes without its native kernels: {trouble}")
            return
        build_data["artifacts"].append(LIBRARY.relative_to(self.root).as_posix())
        build_data["pure_python"] = False
        # Any Python of this platform: the library is plain C to it. Built here, it promises no manylinux.
        here = next(t.platform for t in sys_tags() if not t.platform.startswith(("manylinux", "musllinux")))
        build_data["tag"] = f"py3-none-{here}"


def compiler() -> str | None:
    """The C++ compiler: `CXX`, else the first of c++, g++ and clang++ on the path."""
    names = (os.environ["CXX"],) if os.environ.get("CXX") else ("c++", "g++", "clang++")
    return next((found for name in names if (found := shutil.which(name))), None)


def build() -> str:
    """Compiles the library in place; what went wrong in one line, empty when nothing did."""
    program = compiler()
    if program is None:
        return "no C++ compiler (c++, g++, clang++ or the one that CXX names)"
    try:
        import jaxlib
    except ImportError:
        return "jaxlib, whose headers it needs, is not installed"
    include = Path(jaxlib.__file__).parent / "include"
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    sets = INSTRUCTION_SETS if x86 else {"plain": ()}
    made_of = _digest(program, version("jaxlib"), sets)
    if LIBRARY.is_file() and MADE_OF.is_file() and MADE_OF.read_text() == made_of:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        commands = [(*FLAGS, "-I", str(include), str(PACKAGE / source)) for source in ENTRIES]
        commands += [
            (*FLAGS, *flags, *own, f"-DMIXFLEET_ISA={name}", str(PACKAGE / source))
            for source, own in PASSES.items()
            for name, flags in sets.items()
        ]
        objects = [os.path.join(folder, f"{number}.o") for number in range(len(commands))]
        trouble = _run([(program, "-c", *rest, "-o", made) for rest, made in zip(commands, objects, strict=True)])
        # Linked aside and moved: a process that runs the old library keeps it whole.
        linked = LIBRARY.with_name(f"{LIBRARY.stem}.{os.getpid()}.so")
        trouble = trouble or _run([(program, "-shared", *objects, "-o", str(linked))])
        if not trouble:
            MADE_OF.unlink(missing_ok=True)
            linked.replace(LIBRARY)
            MADE_OF.write_text(made_of)
    return trouble


def _digest(program: str, headers: str, sets: dict[str, tuple[str, ...]]) -> str:
    """SHA-256 of sources, flags and the versions of compiler and headers, in hexadecimal digits."""
    compiler_version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    digest = hashlib.sha256(repr((compiler_version, headers, FLAGS, ENTRIES, PASSES, sets)).encode())
    for path in sorted({*PACKAGE.rglob("*.cpp"), *PACKAGE.rglob("*.h")}):
        digest.update(repr((path.relative_to(PACKAGE).as_posix(), path.read_bytes())).encode())
    return digest.hexdigest()


def _run(commands: list[tuple[str, ...]]) -> str:
    """Runs the commands side by side; the first line of the first error."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = [subprocess.Popen(command, **pipes) for command in commands]
    outputs = [process.communicate()[0] for process in running]
    for command, process, output in zip(commands, running, outputs, strict=True):
        if process.returncode:
            lines = [line for line in output.splitlines() if "error" in line] or output.splitlines() or ["no output"]
            return f"{command[0]} failed: {lines[0]}"
    return ""
