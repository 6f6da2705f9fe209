import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import lakes


@pytest.fixture(scope="session")
def server() -> Iterator[lakes.ObjectStore]:
    with lakes.object_store() as started:
        yield started


@pytest.fixture
def environment(server: lakes.ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> lakes.ObjectStore:
    """The environment that a user of the server has, with a cache of its own."""
    settings = {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": server.key,
        "AWS_SECRET_ACCESS_KEY": server.secret,
        "AWS_ALLOW_HTTP": "true",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def root(environment: lakes.ObjectStore) -> str:
    """An address that nothing lies below."""
    return f"s3://{environment.bucket}/{uuid.uuid4().hex}"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Path]:
    """Goes to another machine: one that has seen nothing of the store yet."""

    def go() -> Path:
        cache = tmp_path / uuid.uuid4().hex
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        return cache

    return go
