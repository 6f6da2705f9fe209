"""An object store as runs use it: whole objects of bounded size, and writes on condition. Needs obstore.

What the store asks for - keys, region, endpoint - is read by obstore from the environment (`AWS_*`, `GOOGLE_*`,
`AZURE_*`) or the machine's own credentials; it is in no setting, and no message holds it.
"""

import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from mixfleet.errors import ConfigError, RunError
from mixfleet.storage.remote.address import Address

if TYPE_CHECKING:
    import obstore

__all__ = ["MANY", "Entry", "ObjectStore", "Tagged", "TooLargeError"]

MANY = 8
"""Requests at a time."""

RETRY_SECONDS = 60.0
"""How long a request is repeated that the store does not answer."""

_CHUNK = 8 << 20
_SAID = 300
"""Most characters of what a store says of an error."""


class TooLargeError(RunError):
    """An object has more bytes than it may have."""


class Tagged(NamedTuple):
    """An object, and the tag of its version."""

    data: bytes
    tag: str


class Entry(NamedTuple):
    """What a listing says of an object."""

    key: str
    size: int
    modified: datetime
    """By the store's clock."""


class ObjectStore:
    """The objects below an address.

    Raises (all methods):
        RunError: The store cannot be reached, or refuses.
    """

    def __init__(self, address: Address, *, seconds: float = 600.0) -> None:
        """Nothing is asked of the store yet.

        Args:
            address: Keys are below it.
            seconds: Longest time of one request.

        Raises:
            ConfigError: obstore is not installed.
        """
        try:
            import obstore
            import obstore.store
        except ImportError:
            raise ConfigError("object stores need obstore: pip install 'mixfleet[cloud]'", key="run") from None
        self.address = address
        self._api = obstore
        with self._naming("", "opened"):
            self._store = obstore.store.from_url(
                address.url,
                client_options=_client_options(address, seconds),
                retry_config={
                    "max_retries": 100,
                    "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                    "backoff": {
                        "init_backoff": timedelta(seconds=0.2),
                        "max_backoff": timedelta(seconds=10),
                        "base": 2,
                    },
                },
            )

    def read(self, key: str, most: int) -> bytes | None:
        """The object, None where there is none.

        Args:
            key: Its name.
            most: Bytes that are read at most.

        Raises:
            TooLargeError: It is larger.
        """
        found = self.tagged(key, most)
        return None if found is None else found.data

    def tagged(self, key: str, most: int) -> Tagged | None:
        """As `read`, with the tag that `swap` takes."""
        with self._naming(key, "read"):
            try:
                answer = self._api.get(self._store, key)
            except FileNotFoundError:
                return None
            data = bytearray()
            if answer.meta["size"] <= most:
                for chunk in answer.stream(min_chunk_size=_CHUNK):
                    data += chunk
                    if len(data) > most:
                        break
            if max(answer.meta["size"], len(data)) > most:
                raise TooLargeError(f"{self.address}/{key} has more than the {most:,} bytes that it may have")
            return Tagged(bytes(data), answer.meta["e_tag"] or "")

    def put(self, key: str, data: bytes) -> None:
        """Write an object, whatever was there."""
        with self._naming(key, "written"):
            self._api.put(self._store, key, data)

    def swap(self, key: str, data: bytes, tag: str | None) -> str | None:
        """Write an object where nobody else did meanwhile; the tag of what was written, None where somebody did.

        Args:
            key: Its name.
            data: Bytes that nobody else writes.
            tag: Of the version to be replaced; None for an object that is not there yet.
        """
        lost = (
            self._api.exceptions.AlreadyExistsError,
            self._api.exceptions.PreconditionError,
            FileNotFoundError,
        )
        with self._naming(key, "written"):
            try:
                mode: obstore.PutMode = "create" if tag is None else {"e_tag": tag}
                return self._api.put(self._store, key, data, mode=mode)["e_tag"] or ""
            except lost:
                pass
        # Of a write whose answer was lost, its repetition is refused.
        there = self.tagged(key, len(data)) if self.size(key) == len(data) else None
        return there.tag if there is not None and there.data == data else None

    def names(self, folder: str) -> list[str]:
        """Keys of all objects below a folder, in order."""
        return [entry.key for entry in self.entries(folder)]

    def entries(self, folder: str) -> list[Entry]:
        """All objects below a folder, in order."""
        with self._naming(folder, "read"):
            pages = self._api.list(self._store, prefix=folder or None)
            return sorted(Entry(one["path"], one["size"], one["last_modified"]) for page in pages for one in page)

    def folders(self) -> list[str]:
        """Names of the folders right below the address, in order."""
        with self._naming("", "read"):
            return sorted(self._api.list_with_delimiter(self._store)["common_prefixes"])

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects, those that are there."""
        with ThreadPoolExecutor(MANY) as pool:
            list(pool.map(self._remove, keys))

    def _remove(self, key: str) -> None:
        with self._naming(key, "removed"), suppress(FileNotFoundError):
            self._api.delete(self._store, key)

    def size(self, key: str) -> int | None:
        """Bytes of the object, None where there is none."""
        with self._naming(key, "read"):
            try:
                return self._api.head(self._store, key)["size"]
            except FileNotFoundError:
                return None

    @contextmanager
    def _naming(self, key: str, verb: str) -> Iterator[None]:
        known = self._api.exceptions
        try:
            yield
        except (known.UnauthenticatedError, known.PermissionDeniedError) as error:
            raise self._refusal(key, verb, "the store refuses it; check the credentials in the environment") from error
        # The last is what obstore raises where a store has no such request, as conditional writes of some.
        except (known.BaseError, OSError, ValueError, NotImplementedError) as error:
            raise self._refusal(key, verb, _said(error)) from None

    def _refusal(self, key: str, verb: str, why: str) -> RunError:
        place = f"{self.address}/{key}" if key else str(self.address)
        return RunError(f"{place} cannot be {verb}: {why}. Mend this and repeat the command: what was saved is kept")


def _client_options(address: Address, seconds: float) -> "obstore.store.ClientConfig":
    """Our own times, and what the environment says of connections, for which obstore looks only if it is told none."""
    prefix = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}[address.url.partition(":")[0]]
    options: obstore.store.ClientConfig = {
        "timeout": timedelta(seconds=seconds),
        "connect_timeout": timedelta(seconds=10),
        "allow_http": os.environ.get(f"{prefix}_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on"),
    }
    if proxy := os.environ.get(f"{prefix}_PROXY_URL"):
        options["proxy_url"] = proxy
    if certificate := os.environ.get(f"{prefix}_PROXY_CA_CERTIFICATE"):
        options["proxy_ca_certificate"] = certificate
    return options


def _said(error: BaseException) -> str:
    """The first line of what a store says, without what an address may hold beside a place."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    if "//169.254." in line or "//metadata." in line:
        return "the environment holds no keys, and this machine has no role of its own"
    return re.sub(r"\?[^\s\"')]*", "", re.sub(r"//[^/\s@]*@", "//", line))[:_SAID].rstrip(" .")
