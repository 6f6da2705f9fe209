"""Environments: where each peer lives, and how to build it.

    python -m benchmarks.peers.environments             # all
    python -m benchmarks.peers.environments meridian

The peers pin other versions of what mixfleet uses, and PyMC-Marketing wants Python 3.12. That is looked for as
`python3.12` on the PATH, or where MIXFLEET_PYTHON312 says. The environments go to the folder that MIXFLEET_PEERS
names, by default `.venv` beside this file.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to fit one unit at a time."""

    title: str
    module: str
    requirements: tuple[str, ...] = ()
    """What its environment holds; a peer without any runs in mixfleet's own."""
    packages: tuple[str, ...]
    """Whose versions to report."""
    saturation: str = "logistic"
    """The curve on which it can have mixfleet's model."""


PEERS = {
    "pymc_marketing": Peer(
        title="PyMC-Marketing, nutpie",
        module="benchmarks.peers.pymc_marketing_peer",
        requirements=("pymc-marketing==1.3.0", "nutpie==0.16.11"),
        packages=("pymc-marketing", "nutpie"),
    ),
    "numpyro": Peer(title="numpyro NUTS", module="benchmarks.peers.numpyro_peer", packages=("numpyro", "jax")),
    "meridian": Peer(
        title="Meridian, JAX backend",
        module="benchmarks.peers.meridian_peer",
        requirements=("google-meridian==2.1.0",),
        packages=("google-meridian", "jax"),
        saturation="michaelis_menten",
    ),
}


def python_of(name: str) -> Path | None:
    """The peer's Python, or None if its environment has not been built."""
    if not PEERS[name].requirements:
        return Path(sys.executable)
    python = _folder(name) / "bin" / "python"
    return python if (_folder(name) / "complete").exists() else None


def build(name: str) -> float:
    """Seconds that it took to make the peer's environment and install its packages."""
    began = time.perf_counter()
    folder = _folder(name)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([_python312(), "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *PEERS[name].requirements], check=True)
    (folder / "complete").touch()
    return time.perf_counter() - began


def _folder(name: str) -> Path:
    return Path(os.environ.get("MIXFLEET_PEERS") or Path(__file__).parent / ".venv").resolve() / name


def _python312() -> str:
    found = os.environ.get("MIXFLEET_PYTHON312") or shutil.which("python3.12")
    if found is None:
        raise SystemExit("no python3.12 on the PATH; set MIXFLEET_PYTHON312 to one")
    return found


if __name__ == "__main__":
    for name in sys.argv[1:] or [name for name, peer in PEERS.items() if peer.requirements]:
        print(f"{name}: installed in {build(name):.0f} s")
