"""The native library: every operation that is also written in C++, called from compiled programs or from the host.

It is built with the package where there is a C++ compiler. It is loaded on first use and runs the copy of each
operation made for the processor's vector instructions; bits may differ from one instruction set to another.
"""

import ctypes
import functools
import re
from importlib import metadata
from pathlib import Path

import jax

LIBRARY = Path(__file__).with_name("libmixfleet_kernels.so")
HANDLERS = (
    "mixfleet_likelihood_f32",
    "mixfleet_likelihood_f64",
    "mixfleet_evidence_f32",
    "mixfleet_evidence_f64",
    "mixfleet_convergence_f32",
    "mixfleet_convergence_f64",
    "mixfleet_move_units_f32",
    "mixfleet_move_units_f64",
    "mixfleet_move_group_f32",
    "mixfleet_move_group_f64",
)
"""Operations that compiled programs call; the host calls the others by their names."""
INTERFACE = 26
"""What the library must say it speaks; part of every target's name, so that no cached program calls another."""


def available() -> bool:
    """Whether the library is there, loads, and is accepted by the jax that is installed."""
    return isinstance(_library(), ctypes.CDLL)


def why_not() -> str:
    """Why the library does not run, with a remedy; empty when it does."""
    found = _library()
    return found if isinstance(found, str) else ""


def isa() -> str:
    """Instruction set that the library runs: "x86-64-v4", "x86-64-v3" or "baseline"; empty without library."""
    found = _library()
    return found.mixfleet_isa().decode() if isinstance(found, ctypes.CDLL) else ""


def loaded() -> ctypes.CDLL:
    """The library, its targets registered.

    Raises:
        RuntimeError: it does not run; says why.
    """
    found = _library()
    if isinstance(found, str):
        raise RuntimeError(found)
    return found


def target(handler: str) -> str:
    """Name under which one of the `HANDLERS` is registered."""
    return f"{handler}_{INTERFACE}"


@functools.cache
def _library() -> ctypes.CDLL | str:
    """The loaded library, its targets registered, or what is wrong with it."""
    if not LIBRARY.exists():
        return "the native kernels were not built: install a C++ compiler, then mixfleet anew"
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.mixfleet_interface.restype = ctypes.c_int64
        library.mixfleet_xla_ffi.restype = ctypes.c_int64
        library.mixfleet_isa.restype = ctypes.c_char_p
        library.mixfleet_scratch_bytes.restype = ctypes.c_int64
        library.mixfleet_scratch_bytes.argtypes = [ctypes.c_int64] * 6
        library.mixfleet_evidence_scratch_bytes.restype = ctypes.c_int64
        library.mixfleet_evidence_scratch_bytes.argtypes = [ctypes.c_int64] * 4
        if library.mixfleet_interface() != INTERFACE:
            return "the native kernels were built from other sources: install mixfleet anew"
        # jax would take them, and then fail to start.
        if trouble := _of_another_jax(library):
            return trouble
        for handler in HANDLERS:
            jax.ffi.register_ffi_target(target(handler), jax.ffi.pycapsule(getattr(library, handler)), platform="cpu")
    except (OSError, AttributeError, jax.errors.JaxRuntimeError) as error:
        return f"the native kernels do not load ({error}): install mixfleet anew"
    return library


def _of_another_jax(library: ctypes.CDLL) -> str:
    """What is wrong with calling the library from the jax that is installed; empty when nothing is."""
    built, here = divmod(library.mixfleet_xla_ffi(), 1000), _xla_ffi()
    if built == here:
        return ""
    other = "of an unknown version" if here is None else f"{here[0]}.{here[1]}"
    return (
        f"the native kernels were built for another jax (XLA FFI {built[0]}.{built[1]}; that of jaxlib "
        f"{metadata.version('jaxlib')} is {other}): install that jax, or mixfleet anew with --no-build-isolation"
    )


def _xla_ffi() -> tuple[int, int] | None:
    """Version of the XLA FFI that the installed jaxlib has, as its headers tell; None where they do not."""
    try:
        text = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text()
    except OSError:
        return None
    found = [re.search(rf"#define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    major, minor = (None if match is None else int(match[1]) for match in found)
    return None if major is None or minor is None else (major, minor)
