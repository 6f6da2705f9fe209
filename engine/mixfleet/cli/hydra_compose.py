"""Command-line overrides and YAML groups into checked settings, by way of Hydra.

Hydra only composes here. It instantiates nothing, changes no folder, writes no file and configures no
logging; what it composes is a plain mapping that `mixfleet.config.schema.build` checks.
"""

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mixfleet.config import GROUPS, Spec, build, to_mapping
from mixfleet.config.presets import calls_resolver, read_settings, shipped_settings
from mixfleet.config.schema import NOT_GIVEN, not_given
from mixfleet.errors import ConfigError

PRIMARY = "fit"
"""Name of the shipped primary configuration."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for, before it is composed."""

    overrides: tuple[str, ...]
    """Hydra overrides: groups (`prior=weak`), values (`inference.seed=1`), sweeps (`prior=weak,tight`)."""

    folder: Path | None = None
    """The user's own folder of groups, searched beside the shipped one."""

    primary: str = PRIMARY
    """Primary configuration; looked for in `folder` first."""

    multirun: bool = False


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """One point of a sweep."""

    changes: tuple[str, ...]
    """The overrides that tell this point from the others."""

    request: Request


def search_path(folder: Path | None) -> tuple[Path, ...]:
    """Folders in which groups are looked for, first one first."""
    return (shipped_settings(), folder) if folder else (shipped_settings(),)


def groups(folder: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Names that each group has, for the help page."""
    names = (*GROUPS, "experiment")
    return {
        group: tuple(sorted({file.stem for root in search_path(folder) for file in (root / group).glob("*.yaml")}))
        for group in names
        if any((root / group).is_dir() for root in search_path(folder))
    }


def quoted(override: str) -> str:
    """`data.path=sales (1).csv` and `data.kpi=Umsätze` with the quotes that Hydra's grammar wants.

    The shell has taken the user's own. A path, and what stands for one name or in a list of names, is quoted where the
    grammar cannot read it as it is; what holds signs of the grammar itself is left to its message.
    """
    key, given, value = override.partition("=")
    if not given or value[:1] in ("'", '"'):
        return override
    if key == "data.path":
        as_it_is = value[:1] == "[" or (not os.path.exists(value) and _is_read(override))
        return override if as_it_is else f"{key}={_in_quotes(value)}"
    inside = value[1:-1] if value[:1] == "[" and value[-1:] == "]" else value
    if _SIGNS.search(inside) or _is_read(override):
        return override
    if inside is value:
        return f"{key}={_in_quotes(value)}"
    names = [name.strip() for name in inside.split(",")]
    return f"{key}=[{','.join(name if _is_read(f'x={name}') else _in_quotes(name) for name in names)}]"


_SIGNS = re.compile(r"[\"'$\[\]{}\\\x00]")
"""What a name is not quoted with unasked: quotes, interpolations, lists and mappings."""


def _in_quotes(text: str) -> str:
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return f"'{escaped}'"


def _is_read(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except (HydraException, RecursionError):
        return False
    return True


def compose_spec(request: Request) -> Spec:
    """The checked settings that a request without sweeps means.

    Raises:
        ConfigError: Hydra cannot compose it, it calls a resolver such as `${oc.env:NAME}`, or a setting is
            unknown, of the wrong type or out of range; names the dotted key.
    """
    with _hydra(request) as extra:
        settings = _plain(compose(request.primary, overrides=[*extra, *request.overrides]))
    return build(Spec, settings)


def sweep_points(request: Request) -> tuple[SweepPoint, ...]:
    """The points of a sweep in order, the product over all that is swept; none where nothing is swept.

    An experiment may bring sweeps of its own; what the command line gives replaces them.

    Raises:
        ConfigError: An override that cannot be read, or a sweep over something else than a list of values.
    """
    with _hydra(request) as extra:
        parser = OverridesParser.create()
        parsed = parser.parse_overrides(list(request.overrides))
        chosen = [item.input_line or "" for item in parsed if item.key_or_group == "experiment"]
        # None of the settings that ship is swept over unless by an experiment: nothing to compose twice.
        if not (request.multirun or request.folder or chosen):
            return ()
        own, multirun = _own_sweep(request, extra, chosen)
        if not multirun:
            return ()
        given = {item.get_key_element() for item in parsed}
        brought = parser.parse_overrides([f"{key}={values}" for key, values in own.items() if key not in given])
        swept = [item for item in (*brought, *parsed) if item.is_sweep_override()]
        fixed = [item.input_line or "" for item in (*brought, *parsed) if not item.is_sweep_override()]
        products = list(itertools.product(*map(_values, swept)))
    return tuple(
        SweepPoint(changes=changes, request=replace(request, overrides=(*fixed, *changes), multirun=False))
        for changes in products
    )


def _own_sweep(request: Request, extra: list[str], chosen: list[str]) -> tuple[dict[str, str], bool]:
    """What the experiment sweeps over by itself, and whether this is a sweep at all."""
    # Only the experiment is composed: the rest may be swept over and have no single value yet.
    config = compose(request.primary, overrides=[*extra, "data=table", *chosen], return_hydra_config=True)
    params = OmegaConf.to_container(config.hydra.sweeper.get("params") or OmegaConf.create({}))
    own = {str(key): str(value) for key, value in params.items()} if isinstance(params, dict) else {}
    return own, request.multirun or config.hydra.mode == RunMode.MULTIRUN


def _values(item: Override) -> list[str]:
    if not item.is_discrete_sweep():
        raise ConfigError("sweep over a list of values: a,b,c", key=item.get_key_element())
    return [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()]


@contextmanager
def _hydra(request: Request) -> Iterator[list[str]]:
    """Hydra ready to compose, and overrides to put first; its errors come out as ConfigError."""
    main, extra = _searched(request)
    _refuse_hydra_settings(request)
    for override in request.overrides:
        name, _, value = override.partition("=")
        key = name.lstrip("+~")
        if value == NOT_GIVEN:
            # Of channels it would be taken for their default, which is the same.
            raise not_given(key)
        # Groups and Hydra's own settings are resolved as soon as they are composed, all others in `_plain`.
        if "." not in key or key.startswith("hydra"):
            _refuse_blanks_and_resolvers(override, key)
    _store_schema()
    GlobalHydra.instance().clear()
    try:
        with _strict_sources(), initialize_config_dir(str(main), job_name="mixfleet", version_base="1.3"):
            yield extra
    except (HydraException, OmegaConfBaseException) as error:
        raise _translated(error) from error
    except RecursionError as error:
        raise ConfigError("lists or mappings within one another, too deep to be read", key="") from error


class _StrictFiles(FileConfigSource):
    """YAML files, of which only plain ones are loaded."""

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        if path.exists():
            # Composed with others such a value would be passed over in silence; only a group may be left to be chosen.
            settings = {
                name: value for name, value in read_settings(path, interpolation=True).items() if name != "defaults"
            }
            _refuse_blanks_and_resolvers(settings, "", where=f"{path}: ")
        found = super().load_config(config_path)
        plain = OmegaConf.to_container(found.config)
        return replace(found, config=OmegaConf.create(_with_on(plain))) if _with_on(plain) != plain else found


def _with_on(value: Any) -> Any:
    """The settings with the key `on` where YAML has made true of it."""
    if not isinstance(value, dict):
        return value
    return {("on" if name is True else name): _with_on(item) for name, item in value.items()}


class _OwnPackages(ImportlibResourcesConfigSource):
    """Packages, which are imported when they are searched, so only Hydra's own."""

    def __init__(self, provider: str, path: str) -> None:
        if provider.startswith("hydra.searchpath"):
            raise ConfigError(f"must be folders, file://..., has {path}", key="hydra.searchpath")
        super().__init__(provider=provider, path=path)


@contextmanager
def _strict_sources() -> Iterator[None]:
    """Hydra reads settings only from folders, and only plain YAML, during the block."""
    Plugins.instance()  # registers Hydra's own sources, once
    types = SourcesRegistry.instance().types
    before = dict(types)
    types |= {"file": _StrictFiles, "pkg": _OwnPackages}
    try:
        yield
    finally:
        types |= before


def _searched(request: Request) -> tuple[Path, list[str]]:
    """Folder that holds the primary configuration, and overrides that add the other one."""
    shipped, folder = shipped_settings().resolve(), request.folder and request.folder.resolve()
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"is no folder: {folder}", key="--config-dir")
    homes = [home for home in (folder, shipped) if home and (home / f"{request.primary}.yaml").is_file()]
    if not homes:
        raise ConfigError(f"no {request.primary}.yaml in {folder or shipped}", key="--config-name")
    other = shipped if homes[0] == folder else folder
    if folder is not None and other == folder:
        _refuse_hidden(folder, shipped)
    return homes[0], [f"hydra.searchpath=['file://{other}']"] if other else []


def _refuse_hidden(folder: Path, shipped: Path) -> None:
    """Refuses own settings that nobody would read, as those that ship with the package have their name."""
    for own in sorted(folder.glob("*/*.yaml")):
        there = shipped / own.relative_to(folder)
        if there.is_file() and there.read_bytes() != own.read_bytes():
            name = own.relative_to(folder).with_suffix("")
            raise ConfigError(
                f"{own} has the name of settings that ship with mixfleet, which would be read in its place: give it "
                f"another one, such as {name.name}_own.yaml, and write {name.parent}={name.name}_own",
                key="--config-dir",
            )


def _store_schema() -> None:
    """Every setting with its default, so that Hydra knows which keys there are."""
    settings = to_mapping(Spec())
    # Written as a list or as a mapping, and priors as a whole or in part: known to `build`, not to OmegaConf.
    settings["data"]["channels"] = NOT_GIVEN
    settings["prior"]["parameters"] = {}
    node = OmegaConf.create(settings)
    OmegaConf.set_struct(node.prior.parameters, False)
    for by_name in (node.data.experiments.columns, node.model.channels, node.model.signs, node.prior.on.channels):
        OmegaConf.set_struct(by_name, False)
    OmegaConf.set_struct(node.pooling["keys"], False)
    OmegaConf.set_struct(node.pooling.types, False)
    ConfigStore.instance().store(name="schema", node=node)


def _plain(config: DictConfig) -> dict[str, Any]:
    raw = OmegaConf.to_container(config)
    assert isinstance(raw, dict)
    if unnamed := raw["data"]["channels"] == NOT_GIVEN:
        del raw["data"]["channels"]
    # Before anything is resolved, so that no message holds what a resolver gave.
    _refuse_blanks_and_resolvers(raw, "")
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    if unnamed:
        del settings["data"]["channels"]
    return {str(name): value for name, value in settings.items()}


def _refuse_blanks_and_resolvers(value: Any, key: str, *, where: str = "") -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            _refuse_blanks_and_resolvers(item, f"{key}.{name}" if key else str(name), where=where)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _refuse_blanks_and_resolvers(item, f"{key}[{i}]", where=where)
    elif value == NOT_GIVEN:
        raise not_given(f"{where}{key}")
    elif isinstance(value, str) and calls_resolver(value):
        # A resolver can read the environment: a secret would end up in the run's config.yaml.
        raise ConfigError(f"resolvers are not allowed, is {value!r}; write the value itself", key=key)


def _translated(error: Exception) -> ConfigError:
    """Hydra's error in this program's words: the key at fault and the remedy."""
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'", text):
        return _unknown(found[1])
    if found := re.search(r"Could not find '([\w/]+)/([^/']+)'\s+Available options in '[^']+':\s+([\w\s]+)\n", text):
        return ConfigError(f"no {found[2]!r}; there are: {', '.join(found[3].split())}", key=found[1])
    if found := re.search(r"must specify '(\w+)'.*?Available options:\s+([\w\s]+)", text, re.DOTALL):
        choices = found[2].split()
        return ConfigError(f"is required: {', '.join(f'{found[1]}={choice}' for choice in choices)}", key=found[1])
    if found := re.search(r"argument '([^=']+)=|Sweep parameters '([^=']+)=", text):
        key = found[1] or found[2]
        words = "several values: add -m to sweep over them, write [a,b] for a list, or \"'a, b'\" for one name"
        return ConfigError(words, key=key)
    if found := re.search(r"override ([\w.]+)=", text):
        return ConfigError("a list cannot take the place of a mapping, nor the reverse", key=found[1])
    if isinstance(error, OverrideParseException):
        _refuse_blanks_and_resolvers(error.override.partition("=")[2], error.override.partition("=")[0])
        words = "cannot be read; write key=value, and a value with signs such as ' [ { $ = in quotes within quotes"
        return ConfigError(f"{words}: \"data.kpi='net sales'\"", key=error.override)
    place = re.search(r"full_key: (\S+)", text)
    return ConfigError(" ".join(text.split()), key=place[1] if place else "")


def _unknown(key: str) -> ConfigError:
    """What `build` says to a key that Hydra refused, which names the nearest known one."""
    *outer, name = key.split(".")
    settings: dict[str, Any] = {name: None}
    for part in reversed(outer):
        settings = {part: settings}
    try:
        build(Spec, settings)
    except ConfigError as error:
        return error
    return ConfigError("unknown setting", key=key)


def _refuse_hydra_settings(request: Request) -> None:
    known = ("hydra.searchpath", "hydra.mode", "hydra.sweeper.params")
    for override in request.overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key.startswith(("hydra.", "hydra/")) and not key.startswith(known):
            raise ConfigError(f"has no effect here: jobs are run by mixfleet; known: {', '.join(known)}", key=key)
