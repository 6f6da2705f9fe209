"""Settings files: a strict YAML reader of plain values, and the folder of the shipped ones."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from mixfleet.errors import ConfigError

MAX_BYTES = 1 << 20
"""Largest settings file that is read."""

_PLAIN_KEY = re.compile(r"\$\{[\w.]+\}")

MAX_DEPTH = 20
"""Deepest nesting that is read."""


def shipped_settings() -> Path:
    """Folder of the shipped settings: beside this file in a wheel, `configs/` in a checkout."""
    beside = Path(__file__).parents[1] / "configs"
    return beside if beside.is_dir() else Path(__file__).parents[3] / "configs"


def calls_resolver(text: str) -> bool:
    """Whether the text interpolates anything but the value of a plain key such as `${data.path}`."""
    return "${" in _PLAIN_KEY.sub("", text)


def read_settings(path: str | Path, *, interpolation: bool = False) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping.

    Plain scalars, lists and mappings only: tags, aliases, repeated keys and interpolation are refused, so
    that reading a file neither runs nor looks up anything.

    Args:
        path: The file.
        interpolation: Whether values of other keys, `${data.path}`, are let through as they stand.

    Raises:
        ConfigError: The file cannot be read or holds something else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", key=str(path)) from error
    if len(text) > MAX_BYTES:
        raise ConfigError(f"is larger than {MAX_BYTES} bytes", key=str(path))
    try:
        _check_events(text, interpolation=interpolation)
        value = yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"is not plain YAML: {error}", key=str(path)) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError("must hold a mapping of settings", key=str(path))
    return value


# Both parsers give the same nodes; the one of libyaml, which PyYAML's wheels hold, takes a tenth of the time.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_events(text: bytes, *, interpolation: bool) -> None:
    """Refuses aliases, interpolation and deep nesting before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not allowed{event.start_mark}")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and "${" in event.value:
            if not interpolation:
                raise yaml.YAMLError(f"interpolation is not allowed{event.start_mark}")
            if calls_resolver(event.value):
                raise yaml.YAMLError(f"resolvers are not allowed; write the value itself{event.start_mark}")
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested more than {MAX_DEPTH} deep{event.start_mark}")


class _PlainLoader(_SafeLoader):
    """Safe loader that refuses repeated keys, and takes the key `on` for the name that it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        known = set()
        for name, _ in node.value:
            if name.value == "on":
                name.tag = "tag:yaml.org,2002:str"
            if not isinstance(name, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key must be plain text{name.start_mark}")
            if name.value in known:
                raise yaml.YAMLError(f"{name.value!r} stands twice{node.start_mark}")
            known.add(name.value)
        return super().construct_mapping(node, deep=deep)
