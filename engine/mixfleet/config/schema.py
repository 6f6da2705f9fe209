"""Schema of settings: strict reading of plain mappings into frozen dataclasses, and back."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, cast

from mixfleet.errors import ConfigError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

NOT_GIVEN = "???"
"""What stands for a value that is not given in settings that Hydra composes, and so can be no value."""


class FrozenMapping(Mapping[K, V]):
    """An immutable, hashable mapping in insertion order; equal to any mapping with the same items."""

    def __init__(self, items: Mapping[K, V] | None = None) -> None:
        self._items = dict(items or {})

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        # Between two of them without a walk in Python, which tables over fleets would take thousands of times.
        return self._items == other._items if isinstance(other, FrozenMapping) else super().__eq__(other)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number, both included unless `open` is set."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def check(self, value: Any, key: str) -> None:
        """Raises ConfigError when `value` (a number, or None) lies outside."""
        if value is None or isinstance(value, str):
            return
        inside = self.low < value < self.high if self.open else self.low <= value <= self.high
        if not inside:
            raise ConfigError(f"must be {self}, is {value!r}", key=key)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'above' if self.open else 'at least'} {self.low:g}"
        return f"between {self.low:g} and {self.high:g}{' (not included)' if self.open else ''}"


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Names that a text may be: the keys of a table, which may have grown since the setting was declared."""

    table: Mapping[str, Any]

    def __hash__(self) -> int:
        return id(self.table)

    def check(self, value: Any, key: str) -> None:
        """Raises ConfigError when `value` is none of them."""
        if not isinstance(value, str) or value not in self.table:
            raise ConfigError(f"must be one of {', '.join(self.table)}, is {value!r}", key=key)


@dataclasses.dataclass(frozen=True)
class Reads:
    """A reader for a setting that may be written in several ways; it runs before the type is checked."""

    reader: Callable[[Any, str], Any]


def read_label(value: Any, key: str) -> Any:
    """Text of a name such as 501, which YAML and the shell take for a number.

    Raises:
        ConfigError: A name such as NO, of which YAML has made false: what was written cannot be known any more.
    """
    if isinstance(value, bool):
        words = "YAML and the command line read no, yes, on, off, true and false as true or false"
        raise ConfigError(f"must be a name, is {value!r}: {words}; put it in quotes: 'NO'", key=key)
    if isinstance(value, float):
        words = "YAML and the command line read 1e3 and 1.50 as numbers"
        raise ConfigError(f"must be a name, is the number {value!r}: {words}; put it in quotes: '1e3'", key=key)
    return str(value) if isinstance(value, int) else value


Label = Annotated[str, Reads(read_label)]


def build(cls: type[T], mapping: Mapping[str, Any], *, key: str = "") -> T:
    """The dataclass `cls` from a plain mapping, nested ones included; missing keys take their defaults.

    Args:
        cls: A frozen dataclass of `mixfleet.config`.
        mapping: Plain values, as read from YAML, JSON or composed by Hydra.
        key: Dotted name of `cls` itself; errors name the setting below it.

    Raises:
        ConfigError: Unknown key, wrong type or value out of range; `key` names the setting.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"must be a group of settings, is {mapping!r}", key=key)
    hints = _hints(cls)
    values = {}
    for name, value in mapping.items():
        if name not in hints:
            near = difflib.get_close_matches(str(name), hints, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known here: {', '.join(hints)}"
            raise ConfigError(f"unknown setting; {remedy}", key=_join(key, str(name)))
        values[name] = convert(value, hints[name], _join(key, name))
    missing = [
        field.name
        for field in dataclasses.fields(cast(Any, cls))
        if field.name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError("is required", key=_join(key, missing[0]))
    return cls(**values)


def settle(instance: Any, *, key: str) -> None:
    """Checks every field of a frozen dataclass in place, and turns lists and mappings into hashable ones.

    Raises:
        ConfigError: Wrong type or value out of range.
    """
    for name, hint in _hints(type(instance)).items():
        object.__setattr__(instance, name, convert(getattr(instance, name), hint, _join(key, name)))


def to_mapping(value: Any) -> Any:
    """Plain dicts, lists and scalars that `build` turns back into an equal object."""
    if dataclasses.is_dataclass(value):
        own = getattr(value, "to_mapping", None)
        if own is not None:
            return own()
        return {field.name: to_mapping(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: to_mapping(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [to_mapping(item) for item in value]
    return value


def convert(value: Any, hint: Any, key: str) -> Any:
    """`value` as the type `hint` says, or ConfigError naming `key`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _convert_annotated(value, arguments, key)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, key)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            raise ConfigError(f"must be one of {', '.join(map(str, arguments))}, is {value!r}", key=key)
        return value
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise ConfigError(f"must be a list, is {value!r}", key=key)
        return tuple(convert(item, arguments[0], f"{key}[{i}]") for i, item in enumerate(value))
    if origin is FrozenMapping:
        if not isinstance(value, Mapping):
            raise ConfigError(f"must be a mapping, is {value!r}", key=key)
        items = {convert(name, arguments[0], key): item for name, item in value.items()}
        return FrozenMapping({n: convert(item, arguments[1], _join(key, n)) for n, item in items.items()})
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, cast(type, hint)) else build(cast(Any, hint), value, key=key)
    return _convert_scalar(value, hint, key)


def _convert_annotated(value: Any, arguments: tuple[Any, ...], key: str) -> Any:
    hint, *rules = arguments
    for rule in rules:
        if isinstance(rule, Reads):
            value = rule.reader(value, key)
    for rule in rules:
        if isinstance(rule, OneOf):
            rule.check(value, key)
    value = convert(value, hint, key)
    for rule in rules:
        if isinstance(rule, Range):
            rule.check(value, key)
    return value


def _convert_union(value: Any, arguments: tuple[Any, ...], key: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    candidates = [hint for hint in arguments if hint is not type(None)]
    problems = []
    for hint in candidates:
        try:
            return convert(value, hint, key)
        except ConfigError as error:
            problems.append(error)
    if len(candidates) == 1:
        raise problems[0]
    raise ConfigError(f"must be {' or '.join(map(_name, candidates))}, is {value!r}", key=key)


def not_given(key: str) -> ConfigError:
    """What is wrong with a setting, or an item of one, that is `NOT_GIVEN`."""
    words = f"is {NOT_GIVEN}, which stands for a value that is not given: write the value, or leave the setting out"
    return ConfigError(f"{words}; a column or label of that name must be renamed", key=key)


def _convert_scalar(value: Any, hint: type, key: str) -> Any:
    if value == NOT_GIVEN:
        raise not_given(key)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isnan(value):
            raise ConfigError("must be a number, is nan", key=key)
        return float(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    if value is None:
        name = ", or for a name put it in quotes: 'null'" if hint is str else ""
        raise ConfigError(f"must be {_name(hint)}, is null: leave the setting out{name}", key=key)
    raise ConfigError(f"must be {_name(hint)}, is {value!r}", key=key)


def _name(hint: Any) -> str:
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) is Annotated:
        return _name(typing.get_args(hint)[0])
    return words.get(hint, str(hint))


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cast(Any, cls))}
