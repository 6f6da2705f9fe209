"""Where a run lies in an object store, and the local folder that stands for it."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mixfleet.errors import ConfigError, RunError
from mixfleet.storage.atomic_files import naming_disk_errors

__all__ = ["SCHEMES", "Address", "within"]

SCHEMES = ("s3", "gs", "az")
"""Stores that can write an object on condition that nobody else did, which a lease rests on."""

# A path that was made of an address has lost one of its slashes.
_KNOWN = re.compile(rf"({'|'.join(SCHEMES)}):/{{1,2}}(?=[^/])(.*)", re.DOTALL)
_PART = re.compile(r"[A-Za-z0-9 ()=,+._-]+")


@dataclass(frozen=True)
class Address:
    """A place in an object store, such as `s3://bucket/prefix`."""

    url: str

    @staticmethod
    def of(text: str | Path) -> "Address | None":
        """The address that the text is; None for a path of this machine.

        Raises:
            ConfigError: It is an address of another kind, or one that holds more than a place, such as a password.
        """
        known = _KNOWN.fullmatch(str(text))
        if known is None:
            if "://" in str(text):
                kinds = ", ".join(f"{scheme}://" for scheme in SCHEMES)
                raise ConfigError(f"addresses of runs begin with {kinds}; name a folder by its path", key="run")
            return None
        parts = known[2].rstrip("/").split("/")
        if not all(_PART.fullmatch(part) and part.strip(".") for part in parts):
            raise ConfigError(
                "an address is bucket/name/name of letters, digits and ' ()=,+._-', without password or question; "
                "what the store asks for is read from its environment variables, such as AWS_ACCESS_KEY_ID",
                key="run",
            )
        return Address(f"{known[1]}://{'/'.join(parts)}")

    def __str__(self) -> str:
        """As it is written."""
        return self.url

    @property
    def name(self) -> str:
        """Its last part."""
        return self.url.rpartition("/")[2]

    def joined(self, *names: str) -> "Address":
        """A place below it.

        Raises:
            ConfigError: A name is none that an address may have.
        """
        below = Address.of("/".join((self.url, *names)))
        assert below is not None
        return below

    @property
    def folder(self) -> Path:
        """The folder of this machine that stands for it, in the user's cache; `make_root` makes what it lies in."""
        parent = self.url.rpartition("/")[0]
        return cache_root() / hashlib.sha256(parent.encode()).hexdigest()[:16] / self.name


def cache_root() -> Path:
    """Where the folders of all addresses lie."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "mixfleet" / "stores"


def make_root() -> None:
    """Make the root of the cache, for the user alone.

    Raises:
        RunError: It cannot be made, or is somebody else's.
    """
    root = cache_root()
    with naming_disk_errors(root, 0):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if root.is_symlink() or root.stat().st_uid != os.getuid():
            raise RunError(f"{root} is not your own folder; set XDG_CACHE_HOME to one that is")


def within(root: str | Path, *names: str) -> str:
    """A place below a folder or an address, as it is written."""
    address = Address.of(root)
    return str(Path(root, *names)) if address is None else str(address.joined(*names))
