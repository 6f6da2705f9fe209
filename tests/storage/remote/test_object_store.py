import re
import time

import pytest

from mixfleet.errors import RunError
from mixfleet.storage.remote.address import Address
from mixfleet.storage.remote.object_store import ObjectStore, TooLargeError


def test_objects_are_written_read_listed_and_removed(root: str) -> None:
    store = ObjectStore(Address(root))
    assert store.read("a/b", 10) is None
    assert store.names("") == []
    store.put("a/b", b"one")
    store.put("c", b"two")
    assert (store.read("a/b", 10), store.read("c", 3)) == (b"one", b"two")
    assert (store.names(""), store.names("a"), store.folders()) == (["a/b", "c"], ["a/b"], ["a"])
    store.remove(["a/b", "none"])
    assert store.names("") == ["c"]


def test_no_more_is_read_than_may_be_there(root: str) -> None:
    store = ObjectStore(Address(root))
    store.put("large", bytes(1001))
    with pytest.raises(TooLargeError, match=f"{root}/large has more than the 1,000 bytes"):
        store.read("large", 1000)


def test_of_two_writes_on_condition_one_is_refused(root: str) -> None:
    store = ObjectStore(Address(root))
    first = store.swap("x", b"1", None)
    assert first
    assert store.swap("x", b"2", None) is None
    second = store.swap("x", b"3", first)
    assert second
    assert store.swap("x", b"4", first) is None
    assert store.read("x", 10) == b"3"
    assert store.swap("absent", b"5", second) is None


def test_a_write_whose_answer_was_lost_counts(root: str) -> None:
    store = ObjectStore(Address(root))
    tag = store.swap("x", b"mine", None)
    assert store.swap("x", b"mine", None) == tag


def test_what_a_store_says_is_told_without_keys(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match=r"nobucket/x cannot be written: .*Mend this and repeat the command"):
        ObjectStore(Address("s3://nobucket")).put("x", b"")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://someone:password@127.0.0.1:9")
    monkeypatch.setattr("mixfleet.storage.remote.object_store.RETRY_SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(RunError, match=re.escape(f"{root}/x cannot be read")) as told:
        ObjectStore(Address(root)).read("x", 10)
    assert "password" not in str(told.value)
    assert time.monotonic() - start < 30
