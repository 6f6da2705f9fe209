from pathlib import Path

import pytest

from mixfleet.errors import ConfigError, RunError
from mixfleet.storage.remote.address import Address, cache_root, make_root, within


def test_addresses_and_paths_are_told_apart() -> None:
    for text in ("s3://bucket/a/b", "s3://bucket/a/b/", Path("s3://bucket/a/b")):
        assert str(Address.of(text)) == "s3://bucket/a/b"
    for text in ("runs", "/srv/runs", "C:/runs", "./s3:x", Path("runs/june"), "runs:old/june"):
        assert Address.of(text) is None


@pytest.mark.parametrize("text", ["https://host/runs", "file:///srv/runs", "ftp://x/y", "memory:///x"])
def test_other_kinds_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="begin with s3://, gs://, az://"):
        Address.of(text)


@pytest.mark.parametrize(
    "rest",
    ["key:secret@bucket/a", "bucket/a?sig=secret", "bucket/../a", "bucket//a", "bucket/a#b", "bucket/%2e%2e", "b/\n"],
)
def test_what_is_more_than_a_place_is_refused_and_not_repeated(rest: str) -> None:
    with pytest.raises(ConfigError, match="environment variables") as told:
        Address.of(f"s3://{rest}")
    assert "secret" not in str(told.value)


def test_places_below(tmp_path: Path) -> None:
    assert within("s3://bucket/runs", "june.shards", "0-of-4") == "s3://bucket/runs/june.shards/0-of-4"
    assert within(tmp_path, "june") == str(tmp_path / "june")
    with pytest.raises(ConfigError):
        Address("s3://bucket/runs").joined("..")


def test_each_root_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    june = Address("s3://bucket/runs/june").folder
    assert june.name == "june"
    assert june.parent == Address("s3://bucket/runs/july").folder.parent
    assert june.parent != Address("s3://bucket/other/june").folder.parent
    make_root()
    assert cache_root().stat().st_mode & 0o077 == 0
    assert cache_root() in june.parents


def test_a_linked_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "mixfleet").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mixfleet" / "stores").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="not your own folder"):
        make_root()
