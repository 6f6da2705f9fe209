from pathlib import Path

import pytest

from mixfleet.config.presets import MAX_BYTES, read_settings, shipped_settings
from mixfleet.errors import ConfigError


def test_plain_values_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: 1\nb: {c: [x, 0.5, true, null]}\n")
    assert read_settings(path) == {"a": 1, "b": {"c": ["x", 0.5, True, None]}}
    path.write_text("# nothing but a comment\n")
    assert read_settings(path) == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &x 1\nb: *x\n", "aliases are not allowed"),
        ("a: 1\na: 2\n", "'a' stands twice"),
        ("a: ${oc.env:HOME}\n", "interpolation is not allowed"),
        ("a: !!python/object/apply:os.system ['true']\n", "not plain YAML"),
        ("a: !custom 1\n", "not plain YAML"),
        ("a: [1\n", "not plain YAML"),
        ("- a\n", "must hold a mapping"),
        ("a: " + "x" * MAX_BYTES, "is larger than"),
        ("a: " + "[" * 5000, "nested more than 20 deep|maximum nesting depth"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_settings(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        read_settings(tmp_path / "absent.yaml")


def test_the_shipped_folder_holds_the_primary_configuration() -> None:
    assert (shipped_settings() / "fit.yaml").is_file()
