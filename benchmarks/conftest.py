import os
import platform
from typing import Any

import jax


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    devices = jax.devices()
    machine_info["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine_info["devices"] = [f"{device.platform} {device.device_kind}" for device in devices]
    machine_info["jax"] = jax.__version__
    machine_info["platform"] = platform.platform()
