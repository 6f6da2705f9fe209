import json
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
import yaml

from mixfleet.config import (
    GROUPS,
    Channel,
    Data,
    Inference,
    Model,
    Override,
    Prior,
    RunConfig,
    Spec,
    Treatment,
    build,
    preset,
    to_mapping,
)
from mixfleet.config.presets import shipped_settings
from mixfleet.config.priors import FAMILIES, PARAMETERS, distribution
from mixfleet.config.schema import FrozenMapping
from mixfleet.errors import ConfigError

FULL = {
    "data": {
        "keys": ["brand", "market"],
        "channels": {"tv": {"spend": "tv_cost", "impressions": "tv_views"}, "search": {"spend": "sem"}},
        "controls": ["price"],
        "treatments": {"promo": {"baseline": 0}, "discount": {"baseline": "max", "form": "log"}},
        "holdout": 13,
    },
    "model": {"saturation": "hill", "window": 13},
    "pooling": {
        "by": "crossed",
        "keys": {"adstock": ["brand"], "trend": []},
        "types": {"paid": ["tv", "search"]},
        "control": None,
    },
    "prior": {
        "parameters": {"effect": {"sd": 1.5}, "decay": {"family": "uniform", "low": 0, "high": 0.9}},
        "overrides": [
            {"parameter": "effect", "unit": {"market": 501}, "hyperparameters": {"sd": 0.1}},
            {"parameter": "effect", "channel": "tv", "hyperparameters": {"sd": 0.2}},
        ],
        "on": "effect",
    },
    "compute": {"devices": 2},
    "run": {"id": 20261121},
}


def nested(key: str, value: Any) -> dict[str, Any]:
    *outer, name = key.split(".")
    settings = {name: value}
    for part in reversed(outer):
        settings = {part: settings}
    return settings


def test_a_mapping_is_read_and_written_back() -> None:
    spec = build(Spec, FULL)
    assert spec.data.channels[0] == Channel(name="tv", spend="tv_cost", impressions="tv_views")
    assert spec.run.id == "20261121"
    assert spec.compute.devices == 2
    plain = to_mapping(spec)
    assert build(Spec, plain) == spec
    assert build(Spec, json.loads(json.dumps(plain))) == spec
    assert build(Spec, yaml.safe_load(yaml.safe_dump(plain))) == spec


def test_defaults_build_from_nothing() -> None:
    assert build(Spec, {}) == Spec()
    assert set(GROUPS) == {field.name for field in fields(Spec)}


def test_equal_settings_have_equal_hashes_and_are_frozen() -> None:
    assert hash(build(Spec, FULL)) == hash(build(Spec, FULL))
    assert {build(Spec, FULL): 1}[build(Spec, FULL)] == 1
    with pytest.raises(FrozenInstanceError):
        Spec().model.window = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_lists_and_mappings_are_taken_from_python_too() -> None:
    data = Data(keys=["market"], channels=["tv", "search"])  # pyright: ignore[reportArgumentType]
    assert data.keys == ("market",)
    assert data.channels == (Channel(name="tv", spend="tv"), Channel(name="search", spend="search"))
    prior = Prior(parameters={"rate": distribution("gamma", shape=2, rate=4)})  # pyright: ignore[reportArgumentType]
    assert prior.parameters["rate"].values == (2.0, 4.0)
    assert prior.parameters["decay"] == PARAMETERS["decay"].default


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("infrence", {}, "did you mean inference"),
        ("inference.chain", 4, "did you mean chains"),
        ("inference.chains", 1, "between 2 and 1024"),
        ("inference.chains", True, "whole number"),
        ("inference.chains", "8", "whole number"),
        ("inference.chains", 8.5, "whole number"),
        ("inference.chains", None, "whole number"),
        ("inference.target_accept", 1.0, "between 0 and 1"),
        ("inference.rhat_max", float("nan"), "nan"),
        ("inference.ladder", 1, "true or false"),
        ("inference.ess_target", 300, "at least ess_floor"),
        ("compute.devices", "some", "'all' or a whole number"),
        ("compute.devices", 0, "'all' or a whole number"),
        ("compute.memory_limit_gib", 0, "above 0"),
        ("model.adstock", "geometrc", "one of geometric"),
        ("model.window", 0, "between 1 and 104"),
        ("data", 3, "group of settings"),
        ("data.kpi", "???", "a column or label of that name must be renamed"),
        ("data.keys", "market", "must be a list"),
        ("data.keys", ["market", "market"], "'market' twice"),
        ("data.keys[1]", None, "text"),
        ("data.channels", "tv", "a list of columns or a mapping"),
        ("data.channels.tv", {}, "needs a spend or an impressions column"),
        ("data.channels.tv.spnd", "x", "did you mean spend"),
        ("data.channels.tv.spend", 3.5, "is the number 3.5"),
        ("data.channels[0]", 3.5, "is the number 3.5"),
        ("data.treatments", 3, "a list of columns or a mapping"),
        ("data.treatments.promo", "max", "baseline: min, max or a number"),
        ("data.treatments.promo.baseline", "mean", "min"),
        ("data.treatments.promo.form", "square", "log"),
        ("data.holdout", -1, "at least 0"),
        ("data.simulated.weeks", 0, "at least 8"),
        ("data._target_", "os.system", "unknown setting"),
        ("prior.parameters.decai", {"a": 1}, "unknown parameter"),
        ("prior.parameters.effect", 3, "must be a prior"),
        ("prior.parameters.effect.family", "cauchy", "one of normal"),
        ("prior.parameters.effect.scale", 1, "half_normal has sd and no scale"),
        ("prior.parameters.effect.sd", 0, "above 0"),
        ("prior.parameters.effect.sd", float("inf"), "finite"),
        ("pooling.control", 0, "above 0"),
        ("pooling.keys", 3, "must be a mapping"),
        ("pooling.keys.effect", "brand", "must be a list"),
        ("pooling.type", 0, "above 0"),
        ("pooling.types", ["tv"], "must be a mapping of type to channels"),
        ("pooling.types.paid", "tv", "must be a list of channels"),
        ("run.id", "../up", "letters, digits"),
        ("run.id", "", "letters, digits"),
        ("run.root", "s3://key:secret@bucket/runs", "no password"),
        ("run.base", "s3://bucket/runs?token=secret", "no password"),
        ("run.root", None, "text"),
    ],
)
def test_what_is_wrong_is_named(key: str, value: Any, problem: str) -> None:
    path = key.removesuffix("[0]").removesuffix("[1]")
    settings = nested(path, ["brand", value] if key.endswith("[1]") else [value] if key.endswith("[0]") else value)
    with pytest.raises(ConfigError, match=problem) as caught:
        build(Spec, settings)
    assert caught.value.key == key
    assert str(caught.value).startswith(f"{key}: ")


def test_what_a_log_link_does_not_know_is_refused() -> None:
    for more, key in (({"prior": {"on": "roi"}}, "prior.on"), ({"data": {"experiments": "t.csv"}}, "data.experiments")):
        with pytest.raises(ConfigError, match=r"model\.link=log") as caught:
            build(Spec, {"model": {"link": "log"}, **more})
        assert caught.value.key == key


def test_a_setting_that_is_wrong_in_python_is_named_too() -> None:
    with pytest.raises(ConfigError, match=r"inference\.chains: must be between"):
        Inference(chains=0)
    with pytest.raises(ConfigError, match=r"run\.id: must be letters"):
        RunConfig(id="a/b")
    with pytest.raises(ConfigError, match=r"data\.treatments\.price\.baseline: must be above 0 in the log form"):
        Treatment(name="price", baseline=0, form="log")
    with pytest.raises(ConfigError, match=r"data\.spend_column: is required in a long table"):
        Data(layout="long", spend_column=None)


@pytest.mark.parametrize(
    ("parameter", "prior", "problem"),
    [
        ("decay", {"family": "normal", "mean": 0, "sd": 1}, "between 0 and 1"),
        ("decay", {"family": "half_normal", "sd": 1}, "between 0 and 1"),
        ("decay", {"family": "uniform", "low": 0, "high": 1.5}, "between 0 and 1"),
        ("exponent", {"family": "gamma", "shape": 1, "rate": 1}, "between 0 and 1"),
        ("rate", {"family": "normal", "mean": 0, "sd": 1}, "positive"),
        ("effect", {"family": "truncated_normal", "mean": 0, "sd": 1, "low": -1, "high": 1}, "positive"),
        ("trend", {"family": "half_normal", "sd": 1}, "must be one of normal"),
        ("seasonality", {"family": "uniform", "low": -1, "high": 1}, "must be one of normal"),
        ("delay", {"family": "uniform", "low": 2, "high": 2}, r"must be below high \(2\)"),
    ],
)
def test_a_prior_outside_its_support_is_refused(parameter: str, prior: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        build(Spec, {"prior": {"parameters": {parameter: prior}}})
    assert caught.value.key.startswith(f"prior.parameters.{parameter}")


MEDIA_AND_BASELINE = ("effect", "adstock", "saturation", "trend", "seasonality", "control", "intercept")


@pytest.mark.parametrize(
    ("pooling", "key", "problem"),
    [
        (dict.fromkeys(MEDIA_AND_BASELINE), "pooling", "nothing"),
        ({"by": "brand", "keys": {"effect": ["brand"]}}, "pooling.keys", "crossed or a list"),
        ({"keys": {"decay": ["brand"]}}, "pooling.keys.decay", "no family"),
        ({"keys": {"effect": ["region"]}}, "pooling.keys.effect", "no key column"),
        ({"by": ["brand"], "keys": {"effect": ["market"]}}, "pooling.keys.effect", "not among"),
        ({"by": "none", "types": {"paid": ["tv", "search"]}}, "pooling.types", r"set pooling\.by"),
        ({"types": {"paid": ["tv"]}}, "pooling.types.paid", "two channels"),
        ({"types": {"paid": []}}, "pooling.types.paid", "two channels"),
        ({"types": {"paid": ["tv", "tv"]}}, "pooling.types.paid", "'tv' is listed twice"),
        ({"types": {"a": ["tv", "search"], "b": ["tv", "radio"]}}, "pooling.types.a", "'tv' is listed twice"),
    ],
)
def test_pooling_that_makes_no_sense_is_refused(pooling: dict[str, Any], key: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        build(Spec, {"pooling": {"by": "crossed", **pooling}})
    assert caught.value.key == key


def test_a_distribution_may_end_at_infinity_only_where_it_is_cut() -> None:
    cut = distribution("truncated_normal", mean=1, sd=1, low=0, high=float("inf"))
    assert build(Spec, {"prior": {"parameters": {"rate": cut}}}).prior.parameters["rate"].support[1] == float("inf")
    with pytest.raises(ConfigError, match=r"prior\.high: must be finite"):
        distribution("uniform", low=0, high=float("inf"))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_wants_all_its_hyperparameters(family: str) -> None:
    values = {name: 0.1 * (i + 1) for i, name in enumerate(FAMILIES[family].hyperparameters)}
    made = distribution(family, **values)
    assert made.values == tuple(values.values())
    assert made.to_mapping() == {"family": family, **values}
    for name in values:
        with pytest.raises(ConfigError, match=f"prior.{name}: is required by {family}"):
            distribution(family, **{other: value for other, value in values.items() if other != name})


def test_overrides_hold_for_their_unit_and_channel() -> None:
    prior = build(Spec, FULL).prior
    here, there = {"brand": "a", "market": "501"}, {"brand": "a", "market": "502"}
    assert prior.distribution("effect", unit=there, channel="search").values == (1.5,)
    assert prior.distribution("effect", unit=here, channel="search").values == (0.1,)
    assert prior.distribution("effect", unit=there, channel="tv").values == (0.2,)
    assert prior.distribution("effect", unit=here, channel="tv").values == (0.2,)
    assert prior.distribution("decay", unit=here, channel="tv").family == "uniform"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ({"parameter": "efect"}, "prior.overrides[0].parameter"),
        ({"parameter": "noise", "channel": "tv"}, "prior.overrides[0].channel"),
        ({"parameter": "effect", "hyperparameters": {"mean": 1}}, "prior.overrides[0].hyperparameters.mean"),
        ({"parameter": "effect", "hyperparameters": {"sd": 0}}, "prior.overrides[0].hyperparameters.sd"),
        ({"parameter": "effect", "unit": {"country": "DE"}}, "prior.overrides[0].unit.country"),
        ({"hyperparameters": {"sd": 1}}, "prior.overrides[0].parameter"),
    ],
)
def test_a_wrong_override_is_named(override: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=r"prior\.overrides\[0\]") as caught:
        build(Spec, {"prior": {"overrides": [override], "on": "effect"}})
    assert caught.value.key == key


def test_overrides_are_values() -> None:
    override = Override(parameter="effect", hyperparameters=FrozenMapping({"sd": 1}))
    assert hash(override) == hash(Override(parameter="effect", hyperparameters=FrozenMapping({"sd": 1.0})))


def test_families_name_their_parameters() -> None:
    assert Model(adstock="delayed", saturation="hill").channel_parameters == (
        "decay",
        "delay",
        "slope",
        "half_saturation",
        "effect",
    )


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (path.parent.name, path.stem)
        for path in sorted(shipped_settings().glob("*/*.yaml"))
        if path.parent.name in GROUPS
    ],
)
def test_every_shipped_group_is_a_preset(group: str, name: str) -> None:
    assert isinstance(preset(group, name), GROUPS[group])


def test_presets_scale_the_usual_spread() -> None:
    usual, tight, weak = Prior(), preset("prior", "tight"), preset("prior", "weak")
    assert preset("prior", "default") == usual
    for name, prior in usual.parameters.items():
        assert tight.parameters[name].family == weak.parameters[name].family == prior.family
        if "sd" in prior.hyperparameters:
            assert tight.parameters[name].hyperparameters["sd"] == 0.5 * prior.hyperparameters["sd"]
            ratio = weak.parameters[name].hyperparameters["sd"] / prior.hyperparameters["sd"]
            assert 2 <= ratio <= 4


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="there are: default, meridian, pymc_marketing, tight, weak"):
        preset("prior", "wide")
    with pytest.raises(ConfigError, match="known: data, model"):
        preset("priors", "tight")
