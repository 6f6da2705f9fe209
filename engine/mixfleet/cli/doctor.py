"""Doctor: what this machine offers a fit and what stands in its way."""

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import jax

import mixfleet
from mixfleet import runtime
from mixfleet.cli.hydra_compose import search_path
from mixfleet.config import Compute
from mixfleet_kernels import native_library

PACKAGES = ("jax", "jaxlib", "numpyro", "numpy", "pandas", "pyarrow", "zarr", "hydra-core")

PLUGINS = ("jax-cuda12-plugin", "jax-cuda12-pjrt", "jax-cuda13-plugin", "jax-cuda13-pjrt")


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What `mixfleet doctor` shows."""

    versions: dict[str, str]
    """mixfleet, Python and the packages that results depend on."""

    platform: str
    jax_backend: str
    devices: tuple[str, ...]
    """Platform, number and name of each, and of a GPU the memory that jax may use."""
    cores: int

    memory_gib: float | None
    """Memory of the machine; None where it cannot be told."""

    kernels: str
    """Implementation of the kernels that runs here, with its instruction set, or why not the native one."""

    cache: dict[str, Any]
    """Folder of compiled programs and its state."""

    config_path: tuple[str, ...]
    """Folders in which configuration groups are looked for."""

    hints: tuple[str, ...]
    """What to do about what is wrong; empty when nothing is."""


def diagnose() -> Diagnosis:
    """A diagnosis of this process and machine; starts jax."""
    state = runtime.cache_state(Compute())
    plugins = {name: version for name in PLUGINS if (version := _version(name))}
    return Diagnosis(
        versions={
            "mixfleet": mixfleet.__version__,
            "python": platform.python_version(),
            **{name: _version(name) or "not installed" for name in PACKAGES},
            **plugins,
        },
        platform=platform.platform(),
        jax_backend=jax.default_backend(),
        devices=tuple(map(device_line, jax.devices())),
        cores=runtime.cores(),
        memory_gib=_memory_gib(),
        kernels=kernels(jax.default_backend()),
        cache={**asdict(state), "folder": str(state.folder)},
        config_path=tuple(str(folder) for folder in search_path(None)),
        hints=tuple(hints(plugins, jax.default_backend(), gpu=_has_nvidia_gpu(), cache_note=state.note)),
    )


def device_line(device: Any) -> str:
    """A `jax.Device` in words, with the memory that jax may use of it where it has memory of its own.

    By default that is three quarters of a GPU's; XLA_PYTHON_CLIENT_MEM_FRACTION is the share.
    """
    name = f"{device.platform}:{device.id} {device.device_kind}"
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return f"{name}, {limit / 2**30:.1f} GiB" if limit else name


def kernels(jax_backend: str) -> str:
    """Which implementation of likelihood and convergence runs on this backend."""
    if jax_backend != "cpu":
        return "xla"
    return f"native ({native_library.isa()})" if native_library.available() else f"xla: {native_library.why_not()}"


def hints(plugins: dict[str, str], jax_backend: str, *, gpu: bool, cache_note: str) -> list[str]:
    """What to do about an unused GPU, plugins that do not fit jaxlib, and a cache that cannot be used.

    Args:
        plugins: Versions of the CUDA plugins that are installed.
        jax_backend: What jax runs on.
        gpu: Whether the machine has an NVIDIA GPU.
        cache_note: Why the compile cache is not usable; empty when it is.
    """
    found = []
    jaxlib = _version("jaxlib") or ""
    for name, version in plugins.items():
        if version != jaxlib:
            found.append(f"{name} {version} does not fit jaxlib {jaxlib}: install jax and its plugins together")
    if len({name.split("-")[1] for name in plugins}) > 1:
        found.append("plugins for CUDA 12 and 13 are both installed: keep one, `pip uninstall` the other")
    if gpu and jax_backend == "cpu":
        remedy = "reinstall mixfleet[cuda12] or [cuda13]" if plugins else "install mixfleet[cuda12] or [cuda13]"
        found.append(f"this machine has an NVIDIA GPU and jax does not use it: {remedy}, or unset JAX_PLATFORMS")
    if cache_note:
        found.append(f"the compile cache {cache_note}: each process compiles anew; set compute.cache_dir")
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _has_nvidia_gpu() -> bool:
    return os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi") is not None
