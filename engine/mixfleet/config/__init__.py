"""Config: every setting of a run, frozen, hashable dataclasses with defaults and checks."""

from mixfleet.config.business import LOCALES, Business, Locale
from mixfleet.config.data import Channel, Data, Simulation, Treatment
from mixfleet.config.experiments import Experiments
from mixfleet.config.model import Model
from mixfleet.config.pooling import Pooling
from mixfleet.config.priors import Override, Prior
from mixfleet.config.schema import build, to_mapping
from mixfleet.config.spec import (
    GROUPS,
    Cluster,
    Compute,
    Inference,
    Output,
    RunConfig,
    Setting,
    SettingGroups,
    Spec,
    preset,
)

__all__ = [
    "GROUPS",
    "LOCALES",
    "Business",
    "Channel",
    "Cluster",
    "Compute",
    "Data",
    "Experiments",
    "Inference",
    "Locale",
    "Model",
    "Output",
    "Override",
    "Pooling",
    "Prior",
    "RunConfig",
    "Setting",
    "SettingGroups",
    "Simulation",
    "Spec",
    "Treatment",
    "build",
    "preset",
    "to_mapping",
]
