"""Secrets come from the environment by name, and no message holds them."""

import pytest

from mixfleet.config import Data, build
from mixfleet.data.lake.environment import Secrets
from mixfleet.errors import ConfigError


def test_messages_name_the_variable_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALES_URL", "postgresql://me:p%40ss-w0rd@host/db")
    monkeypatch.setenv("KEY", "abcd1234")
    secrets = Secrets()
    assert secrets.resolve("env:SALES_URL", "k") == "postgresql://me:p%40ss-w0rd@host/db"
    assert secrets.resolved({"secret_access_key": "env:KEY", "region": "eu"}, "k")["secret_access_key"] == "abcd1234"
    said = secrets.without("no postgresql://me:p%40ss-w0rd@host/db, p@ss-w0rd or p%40ss-w0rd with abcd1234")
    assert said == "no env:SALES_URL, env:SALES_URL or env:SALES_URL with env:KEY"


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.x: the environment variable NOT_THERE_1 is not set"):
        Secrets().resolve("env:NOT_THERE_1", "data.x")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"path": "postgresql://me:pw@host/db", "query": "select 1"}, "holds a password"),
        ({"path": "s3://b/a.csv", "options": {"aws_secret_access_key": "abcd"}}, "is a secret"),
        ({"path": "a.csv", "options": {"Password": "abcd"}}, "is a secret"),
    ],
)
def test_a_secret_in_the_settings_is_refused(source: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        build(Data, {"source": "lake", "lake": {"sources": {"a": source}}})
    assert "pw@" not in str(refused.value)
    assert "abcd" not in str(refused.value)
