"""Settings of the table of lift tests: a path alone, or a group with the columns' names."""

import pytest

from mixfleet.config import Data, Experiments, build, to_mapping
from mixfleet.errors import ConfigError


def test_a_path_alone_stands_for_the_group():
    assert build(Data, {"experiments": "tests.csv"}).experiments == Experiments(path="tests.csv")
    given = {"path": "tests.csv", "columns": {"lift": "uplift"}, "level": 0.8}
    read = build(Data, {"experiments": given}).experiments
    assert to_mapping(read) == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"columns": {"uplift": "lift"}}, "data.experiments.columns: must be one of name, channel"),
        ({"level": 95}, "data.experiments.level: must be between 0 and 1"),
        ({"file": "a"}, "data.experiments.file: unknown setting"),
    ],
)
def test_wrong_settings_are_named(given: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        build(Data, {"experiments": given}, key="data")
