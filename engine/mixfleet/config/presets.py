"""Settings files: a strict YAML reader of plain values, and the folder of the shipped ones."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from mixfleet.errors import ConfigError

MAX_BYTES = 1 << 20
"""Largest settings file that is read."""

MAX_DEPTH = 20
"""Deepest nesting that is read."""


def shipped_settings() -> Path:
    """Folder of the shipped settings: beside this file in a wheel, `configs/` in a checkout."""
    beside = Path(__file__).parents[1] / "configs"
    return beside if beside.is_dir() else Path(__file__).parents[3] / "configs"


def read_settings(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping.

    Plain scalars, lists and mappings only: tags, aliases, repeated keys and interpolation are refused, so
    that reading a file neither runs nor looks up anything.

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
        value = yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"is not plain YAML: {error}", key=str(path)) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError("must hold a mapping of settings", key=str(path))
    return value


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader without aliases, repeated keys, interpolation and deep nesting."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not allowed{event.start_mark}")
        if isinstance(event, yaml.ScalarEvent) and "${" in event.value:
            raise yaml.YAMLError(f"interpolation is not allowed{event.start_mark}")
        if self._depth == MAX_DEPTH:
            raise yaml.YAMLError(f"nested more than {MAX_DEPTH} deep{event.start_mark}")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [name.value for name, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"{name!r} stands twice{node.start_mark}")
        return super().construct_mapping(node, deep=deep)
