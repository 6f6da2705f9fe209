import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mixfleet.cli.hydra_compose import Request, compose_spec, groups, quoted, sweep_points
from mixfleet.config import Channel, Spec, preset
from mixfleet.config.presets import shipped_settings
from mixfleet.config.priors import TotalShare
from mixfleet.config.schema import NOT_GIVEN
from mixfleet.errors import ConfigError
from tests.support.clock import cpu_seconds

SHIPPED = sorted(path.relative_to(shipped_settings()) for path in shipped_settings().rglob("*.yaml"))


def asked_for(*overrides: str, **options: Any) -> Request:
    return Request(overrides=overrides, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's own groups and primary configuration."""
    for name, text in {
        "prior/mine.yaml": "parameters:\n  media_share: {scale: 7}\n",
        "data/acme.yaml": "path: sales.csv\nchannels:\n  tv: {spend: tv_cost, impressions: tv_views}\n",
        "team.yaml": "defaults:\n  - fit\n  - override data: acme\n  - override prior: mine\n  - _self_\n"
        "inference:\n  seed: 3\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_every_shipped_file_composes_and_builds(path: Path) -> None:
    overrides = {"data": "example"}
    if path.parent.name:
        overrides[path.parent.name] = path.stem
    if path.stem == "daily":
        overrides["data.frequency"] = "daily"
    wanted = asked_for(*(f"{group}={name}" for group, name in overrides.items()))
    points = sweep_points(wanted)
    specs = [compose_spec(point.request) for point in points] if points else [compose_spec(wanted)]
    assert all(isinstance(spec, Spec) for spec in specs)
    assert "_target_" not in (shipped_settings() / path).read_text()


def test_the_default_composition_is_the_python_default() -> None:
    assert compose_spec(asked_for("data=table")) == Spec()


def test_the_example_names_its_columns() -> None:
    data = compose_spec(asked_for("data=example")).data
    assert data.keys == ("market",)
    assert data.channels[12] == Channel(name="ch13", impressions="media_ch13_impressions")
    assert data == preset("data", "example")


def test_values_are_overridden() -> None:
    spec = compose_spec(
        asked_for(
            "data=table",
            "data.channels=[tv,search]",
            "prior=weak",
            "prior.parameters.effect.sd=2",
            "prior.parameters.decay={a: 2, b: 2}",
            "model.channels={search: {saturation: log}}",
            "model.signs={price: negative}",
            "prior.total_share={mean: 0.3, sd: 0.1}",
            "prior.on.channels={tv: roi}",
            "run.id=20261121",
            "compute.devices=1",
        )
    )
    assert [channel.spend for channel in spec.data.channels] == ["tv", "search"]
    assert spec.prior.parameters["effect"].values == (2.0,)
    assert spec.prior.parameters["decay"].values == (2.0, 2.0)
    assert spec.model.form("search").saturation == "log"
    assert spec.prior.on.measure("tv", spend=True) == "roi"
    assert (spec.model.signs, spec.prior.total_share) == ({"price": "negative"}, TotalShare(mean=0.3, sd=0.1))
    assert spec.prior.parameters["control"] == preset("prior", "weak").parameters["control"]
    assert (spec.run.id, spec.compute.devices) == ("20261121", 1)


@pytest.mark.parametrize(
    ("overrides", "key", "problem"),
    [
        ([], "data", "is required: data=example"),
        (["data=exmple"], "data", "there are: example"),
        (["data=example", "inference.drws=3"], "inference.drws", "did you mean max_draws"),
        (["data=example", "+inference.drws=3"], "inference.drws", "did you mean max_draws"),
        (["data=example", "infrence.draws=3"], "infrence", "did you mean inference"),
        (["data=example", "inference.chains=abc"], "inference.chains", "whole number"),
        (["data=example", "inference.chains=0"], "inference.chains", "between 2 and 1024"),
        (["data=example", "data.channels=[tv]"], "data.channels", "a list cannot take the place"),
        (["data=example", "prior=weak,tight"], "prior", "add -m"),
        (["data=example", "seed"], "seed", "write key=value"),
        (["data=example", "--frobnicate"], "--frobnicate", "write key=value"),
        (["data=example", "hydra.run.dir=x"], "hydra.run.dir", "has no effect"),
        (["data=example", "+_target_=os.system"], "_target_", "unknown setting"),
        (["data=example", "+model._target_=os.system"], "model._target_", "unknown setting"),
        (["data=example", "data.path=${oc.env:HOME}"], "data.path", "resolvers are not allowed"),
        (
            ["data=example", "data.controls=['${oc.env:HOME}']"],
            "data.controls[0]",
            "resolvers are not allowed",
        ),
        (["data=table", "data.path=???"], "data.path", "not given: write the value"),
        (["data=table", "data.kpi='???'"], "data.kpi", "not given: write the value"),
        (["data=table", "data.controls=[price,???]"], "data.controls[1]", "column or label of that name must be"),
        (["data=table", "data.channels=???"], "data.channels", "not given: write the value"),
    ],
)
def test_what_cannot_be_composed_is_named(overrides: list[str], key: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        compose_spec(asked_for(*overrides))
    assert caught.value.key == key


def test_settings_may_refer_to_each_other() -> None:
    assert compose_spec(asked_for("data=table", "data.path=${run.root}/in.csv")).data.path == "runs/in.csv"


def test_a_folder_of_ones_own_is_searched(folder: Path) -> None:
    spec = compose_spec(asked_for("data=acme", "prior=mine", folder=folder))
    assert spec.data.channels == (Channel(name="tv", spend="tv_cost", impressions="tv_views"),)
    assert spec.prior.parameters["media_share"].values == (4.0, 7.0)
    assert "mine" in groups(folder)["prior"]
    with pytest.raises(ConfigError, match="--config-dir: is no folder"):
        compose_spec(asked_for(folder=folder / "absent"))


def test_own_settings_that_nobody_would_read_are_refused(folder: Path) -> None:
    (folder / "data").mkdir(exist_ok=True)
    own = folder / "data" / "lake.yaml"
    own.write_bytes((shipped_settings() / "data" / "lake.yaml").read_bytes())
    compose_spec(asked_for("data=acme", folder=folder))
    own.write_text("source: lake\n")
    with pytest.raises(ConfigError, match=r"data/lake\.yaml has the name of settings that ship.*data=lake_own"):
        compose_spec(asked_for("data=acme", folder=folder))


def test_a_primary_configuration_of_ones_own(folder: Path) -> None:
    spec = compose_spec(asked_for(folder=folder, primary="team"))
    assert (spec.data.path, spec.inference.seed) == ("sales.csv", 3)
    with pytest.raises(ConfigError, match=r"--config-name: no crew\.yaml"):
        compose_spec(asked_for(folder=folder, primary="crew"))


def test_a_sweep_is_a_product_in_order() -> None:
    points = sweep_points(asked_for("data=example", "prior=default,weak", "inference.seed=range(1,3)", multirun=True))
    assert [point.changes for point in points] == [
        ("prior=default", "inference.seed=1"),
        ("prior=default", "inference.seed=2"),
        ("prior=weak", "inference.seed=1"),
        ("prior=weak", "inference.seed=2"),
    ]
    assert compose_spec(points[3].request).inference.seed == 2


def test_nothing_is_swept_unasked() -> None:
    assert sweep_points(asked_for("data=example")) == ()
    assert len(sweep_points(asked_for("data=example", multirun=True))) == 1
    with pytest.raises(ConfigError, match=r"inference\.target_accept: sweep over a list"):
        sweep_points(asked_for("data=example", "inference.target_accept=interval(0,1)", multirun=True))


def test_an_experiment_brings_its_sweep() -> None:
    points = sweep_points(asked_for("data=example", "experiment=prior_benchmark"))
    assert [point.changes for point in points] == [("prior=default",), ("prior=weak",), ("prior=tight",)]
    assert {compose_spec(point.request).data.holdout for point in points} == {13}
    chosen = sweep_points(asked_for("data=example", "experiment=prior_benchmark", "prior=tight,weak"))
    assert [point.changes for point in chosen] == [("prior=tight",), ("prior=weak",)]


def test_composing_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    compose_spec(asked_for("data=example"))
    sweep_points(asked_for("data=example", "prior=weak,tight", multirun=True))
    assert list(tmp_path.iterdir()) == []
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("override", ["pooling.keys={adstock: [market]}", "pooling.keys.adstock=[market]"])
def test_families_get_their_key_columns(override: str) -> None:
    spec = compose_spec(asked_for("data=table", "pooling=crossed", override))
    assert spec.pooling.keys == {"adstock": ("market",)}


@pytest.mark.parametrize("override", ["pooling.types={social: [tiktok, meta]}", "pooling.types.social=[tiktok,meta]"])
def test_types_get_their_channels(override: str) -> None:
    spec = compose_spec(asked_for("data=table", "pooling=crossed", override, "pooling.type=0.3"))
    assert spec.pooling.types == {"social": ("tiktok", "meta")}
    assert spec.pooling.type == 0.3


LEAKS = [
    "${oc.env:PLANTED}",
    "${oc.${.channel_column}:PLANTED}",
    "${${.channel_column}.env:PLANTED}",
    "a ${oc.decode:'${oc.env:PLANTED}'} b",
    "${ oc.env : PLANTED }",
    "${.channel_column}${oc.env:PLANTED}",
    "${oc.env:PLANTED,${data.path}}",
    "\\${oc.env:PLANTED}",
]


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("place", ["value", "list", "mapping", "override", "group", "defaults", "experiment"])
def test_no_resolver_is_called_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], leak: str, place: str
) -> None:
    monkeypatch.setenv("PLANTED", "canary-7f3a")
    quoted = json.dumps(leak)
    texts = {
        "value": f"path: x.csv\nchannels: [tv]\nchannel_column: env\ncurrency: {quoted}\n",
        "list": f"path: x.csv\nchannels: [tv, {quoted}]\n",
        "mapping": f"path: x.csv\nchannels:\n  tv: {{spend: {quoted}}}\n",
    }
    (tmp_path / "data").mkdir()
    (tmp_path / "experiment").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text(texts.get(place, texts["mapping"].replace(quoted, "tv")))
    (tmp_path / "team.yaml").write_text(f"defaults:\n  - fit\n  - override data: {quoted}\n  - _self_\n")
    swept = f"# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      run.id: {quoted}\n"
    (tmp_path / "experiment" / "own.yaml").write_text(swept)
    overrides = {
        "override": ("data=mine", f'run.id="{leak}"'),
        "group": (f"data={leak}",),
        "experiment": ("data=mine", "experiment=own"),
        "defaults": (),
    }
    request = asked_for(
        *overrides.get(place, ("data=mine",)), folder=tmp_path, primary="team" if place == "defaults" else "fit"
    )
    with pytest.raises(ConfigError, match="resolvers are not allowed") as caught:
        [compose_spec(point.request) for point in sweep_points(request)] or compose_spec(request)  # pyright: ignore[reportUnusedExpression]
    assert "canary" not in "".join((str(caught.value), repr(caught.value.__cause__), *capfd.readouterr()))


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases are not allowed"),
        ("x: " + "[" * 3000 + "]" * 3000, "nested more than 20 deep|maximum nesting depth"),
        ('path: !!python/object/apply:os.system ["touch pwned"]\n', "could not determine a constructor"),
        ("".join(f"k{n}: 1\n" for n in range(80_000)) + "k0: 1\n", "stands twice"),
        ("x: " + "y" * (1 << 20), "is larger than"),
        ("? [a, b]\n: 1\n", "a key must be plain text"),
        ("when: 2021-99-99\n", "is not plain YAML"),
        ("number: " + "9" * 5000, "is not plain YAML"),
        ("a: \x07\n", "is not plain YAML"),
    ],
)
def test_yaml_that_is_not_plain_is_refused_at_once(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text(text)

    def refuse() -> None:
        with pytest.raises(ConfigError, match=said):
            compose_spec(asked_for("data=mine", folder=tmp_path))

    assert cpu_seconds(refuse, asked=5.0) < 5.0
    assert not Path("pwned").exists()


@pytest.mark.parametrize("place", ["file", "override"])
def test_searching_a_package_would_import_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "planted_package").mkdir()
    (tmp_path / "planted_package" / "__init__.py").write_text("raise SystemExit('code was run')")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "team.yaml").write_text(
        "defaults:\n  - fit\n  - override data: table\n  - _self_\nhydra:\n  searchpath: ['pkg://planted_package']\n"
    )
    if place == "file":
        # The command's own folders take the place of those that the file names.
        assert compose_spec(asked_for(folder=tmp_path, primary="team")) == Spec()
    else:
        with pytest.raises(ConfigError, match=r"hydra\.searchpath: must be folders, file://"):
            compose_spec(asked_for("data=table", "hydra.searchpath=['pkg://planted_package']"))
    assert "planted_package" not in sys.modules
    assert compose_spec(asked_for("data=table")) == Spec()


SIGNS = "ABCxyzÄöüß€ 0123456789().,&%#@!*+-/:;<=>?^_|~"
NAMES = st.text(SIGNS, min_size=1, max_size=12).map(str.strip).filter(re.compile(r"[^0-9_.+\-eE]").search)
"""Names that are no numbers."""


def typed(name: str, *others: str) -> Any:
    """What Hydra's grammar makes of a name, or of a list of names, that is typed without quotes."""
    value = f"[{','.join((name, *others))}]" if others else name
    parsed = OverridesParser.create().parse_override(quoted(f"data.kpi={value}")).value()
    return [getattr(item, "text", item) for item in parsed] if isinstance(parsed, list) else parsed


@settings(max_examples=200, deadline=None)
@given(name=NAMES, other=NAMES)
def test_every_name_reaches_the_settings_as_it_was_typed(name: str, other: str) -> None:
    if "," not in name + other:
        assert str(typed(name)) == name
        assert list(map(str, typed(name, other))) == [name, other]
    assert str(typed(f"'{name}'")) == name
    assert list(map(str, typed(f"'{name}'", f"'{other}'"))) == [name, other]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=2, max_size=4, unique=True))
@example(names=[NOT_GIVEN, "tv"])
@example(names=["sales", "tv", NOT_GIVEN])
def test_every_name_comes_through_yaml(tmp_path: Path, names: list[str]) -> None:
    kpi, *channels = names
    (tmp_path / "data").mkdir(exist_ok=True)
    text = yaml.safe_dump(
        {"path": "a.csv", "kpi": kpi, "channels": [{"name": name, "spend": name} for name in channels]}
    )
    (tmp_path / "data" / "mine.yaml").write_text(text)
    asked = Request(overrides=("data=mine",), folder=tmp_path)
    if NOT_GIVEN in names:
        with pytest.raises(ConfigError, match="a column or label of that name must be renamed"):
            compose_spec(asked)
        return
    data = compose_spec(asked).data
    assert (data.kpi, [channel.name for channel in data.channels]) == (kpi, channels)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("kpi: '???'", "kpi"),
        ("keys: [brand, '???']", "keys[1]"),
        ("channels: {tv: {spend: '???'}}", "channels.tv.spend"),
        ("controls: ???", "controls"),
    ],
)
def test_what_stands_for_no_value_is_no_value_in_a_file(tmp_path: Path, text: str, key: str) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "mine.yaml"
    file.write_text(f"path: a.csv\n{text}\n")
    with pytest.raises(ConfigError, match="not given: write the value, or leave the setting out") as caught:
        compose_spec(Request(overrides=("data=mine", "data.kpi=sales"), folder=tmp_path))
    assert caught.value.key == f"{file}: {key}"


@pytest.mark.parametrize("name", ["NO", "on", "true", "null", "1e3", "1.50"])
def test_a_name_that_becomes_something_else_is_read_or_refused_with_its_remedy(name: str) -> None:
    table = ("data=table", "data.channels=[tv]")
    if name in ("NO", "on"):
        assert compose_spec(Request(overrides=(*table, quoted(f"data.kpi={name}")))).data.kpi == name
    else:
        with pytest.raises(ConfigError, match=r"data\.kpi: .*put it in quotes"):
            compose_spec(Request(overrides=(*table, quoted(f"data.kpi={name}"))))
    typed = f"data.kpi='{name}'"
    assert compose_spec(Request(overrides=(*table, typed))).data.kpi == name


@pytest.mark.parametrize("column", ["date", "market", "kpi"])
def test_what_names_rows_cannot_explain_the_kpi(column: str) -> None:
    for override in (f"data.channels=[{column}]", f"data.controls=[{column}]", f"data.organic=[{column}]"):
        with pytest.raises(ConfigError, match=f"'{column}' is the"):
            compose_spec(Request(overrides=("data=table", "data.channels=[tv]", override)))
