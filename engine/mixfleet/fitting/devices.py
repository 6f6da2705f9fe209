"""Devices that a fit runs on, and the threads that move them."""

import jax

from mixfleet import runtime
from mixfleet.config import Spec
from mixfleet.errors import ConfigError
from mixfleet.inference.compiled import Device

__all__ = ["devices_of", "workers_of"]


def devices_of(spec: Spec) -> list[Device]:
    """The devices that the settings ask for.

    Raises:
        ConfigError: There are fewer.
    """
    there = jax.local_devices()
    wanted = len(there) if spec.compute.devices == "all" else spec.compute.devices
    if wanted > len(there):
        raise ConfigError(f"asks for {wanted}, there are {len(there)}", key="compute.devices")
    return there[:wanted]


def workers_of(devices: list[Device], threads: int | None = None) -> list[Device]:
    """The device of each thread that moves a tile: on CPU so many, or one per core, else one per device."""
    if devices[0].platform != "cpu":
        return devices
    return devices * max(1, (threads or runtime.cores()) // len(devices))
