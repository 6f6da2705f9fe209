"""Durable commits of files: a name shows all of its bytes or nothing, also after a crash.

A file is written under a temporary name in its own folder, forced to disk, and then given its name; the
folder is forced to disk last. `publish` never overwrites, `replace` does where overwriting is meant.
"""

import errno
import fcntl
import glob
import hashlib
import io
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mixfleet.errors import RunError

TEMPORARY = ".tmp-"
"""Part of the name of every file that is not committed yet."""

MOST_BYTES = 4 << 30
"""Most bytes of one file of a run."""

_BUFFER_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Draft(io.RawIOBase):
    """A file being written under a temporary name beside `path`; it exists as `path` only once committed."""

    def __init__(self, path: Path) -> None:
        """Create the temporary file.

        Raises:
            RunError: The file cannot be created.
        """
        super().__init__()
        self.path = path
        self.size = 0
        self._hash = hashlib.sha256()
        self._waiting = bytearray()
        self._temporary = path.with_name(f".{path.name[:80]}{TEMPORARY}{uuid.uuid4().hex}")
        self._descriptor = -1
        with naming_disk_errors(path, 0):
            self._descriptor = os.open(self._temporary, _CREATE, 0o644)
        # Held as long as the file is being written: `remove_abandoned` goes by it.
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @property
    def sha256(self) -> str:
        """Digest (hex) of what was written so far."""
        return self._hash.hexdigest()

    def writable(self) -> bool:
        """True: what pyarrow asks before it writes."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size

    def write(self, data, /) -> int:
        """Append all bytes of `data`; what is written after `discard` goes nowhere.

        Raises:
            RunError: The disk is full or failed; says the path and the bytes needed.
        """
        view = memoryview(data).cast("B")
        if self._descriptor >= 0:
            self._waiting += view
            if len(self._waiting) >= _BUFFER_BYTES:
                self._write_out()
        self._hash.update(view)
        self.size += len(view)
        return len(view)

    def publish(self) -> None:
        """Commit under the final name, which must be new; an equal file of that name is as good."""
        self._seal()
        with naming_disk_errors(self.path, 0):
            try:
                os.link(self._temporary, self.path)
            except FileExistsError:
                if file_sha256(self.path) != self.sha256:
                    raise RunError(
                        f"{self.path} exists with other content; move it away and repeat the command"
                    ) from None
            os.unlink(self._temporary)
        sync_folder(self.path.parent)

    def replace(self, *, sync: bool = True) -> None:
        """Commit in place of what has the final name; without `sync` the caller syncs the folder."""
        self._seal()
        with naming_disk_errors(self.path, 0):
            os.replace(self._temporary, self.path)
        if sync:
            sync_folder(self.path.parent)

    def discard(self) -> None:
        """Give the draft up; harmless after a commit."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        with suppress(OSError):
            os.unlink(self._temporary)

    def _write_out(self) -> None:
        with naming_disk_errors(self.path, len(self._waiting)):
            _write_all(self._descriptor, memoryview(self._waiting))
        self._waiting = bytearray()

    def _seal(self) -> None:
        self._write_out()
        with naming_disk_errors(self.path, self.size):
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def draft(path: Path) -> Iterator[Draft]:
    """A `Draft` that is discarded unless the block committed it."""
    file = Draft(path)
    try:
        yield file
    finally:
        file.discard()


def publish_bytes(path: Path, data: bytes) -> None:
    """Create the immutable file `path`; an existing equal file is as good."""
    with draft(path) as file:
        file.write(data)
        file.publish()


def replace_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write `path`, replacing it if it exists."""
    with draft(path) as file:
        file.write(data)
        file.replace(sync=sync)


def append_bytes(path: Path, data: bytes, *, at: int | None = None) -> None:
    """Append to `path` (created if absent) and force it to disk.

    Args:
        path: The file.
        data: Bytes to append.
        at: Size of the file's valid part; anything behind it is the rest of an append that never finished and
            is cut off. None appends at the end and skips the wait for the disk: for logs.
    """
    with naming_disk_errors(path, len(data)):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o644)
        try:
            if at is not None:
                os.ftruncate(descriptor, at)
            _write_all(descriptor, memoryview(data))
            if at is not None:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if at == 0:
        sync_folder(path.parent)


def refuse_link(path: Path) -> None:
    """Refuse to write behind a link, where other people's files may lie.

    Raises:
        RunError: The path is a link.
    """
    with naming_disk_errors(path, 0):
        is_link = path.is_symlink()
    if is_link:
        raise RunError(f"{path} is a link, which outputs do not follow; name the folder itself, or remove the link")


def make_own_folder(path: Path) -> None:
    """As `make_folder`, of a folder that must be one itself and no link.

    Raises:
        RunError: It is a link, or cannot be made.
    """
    refuse_link(path)
    make_folder(path)


def make_folder(path: Path) -> None:
    """Create the folder and its parents and force their names to disk; an existing folder is as good.

    Raises:
        RunError: It cannot be made, or its name is the address of an object store.
    """
    scheme = next((part for part in path.parts if _SCHEME.fullmatch(part)), None)
    if scheme is not None:
        raise RunError(
            f"outputs are written on this machine, and {scheme}// is an address: name a folder, and copy it to the "
            "store (runs alone are written there, by run.root)"
        )
    with naming_disk_errors(path, 0):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        with naming_disk_errors(folder, 0), suppress(FileExistsError):
            os.mkdir(folder)
        sync_folder(folder.parent)


def remove_file(path: Path) -> None:
    """Remove the file if it exists."""
    with naming_disk_errors(path, 0), suppress(FileNotFoundError):
        os.unlink(path)


def remove_tree(path: Path) -> None:
    """Remove the folder and everything in it, if it exists. Links are removed, not followed."""
    with naming_disk_errors(path, 0), suppress(FileNotFoundError):
        if path.is_symlink():
            os.unlink(path)
        else:
            shutil.rmtree(path)


def remove_leftovers(folder: Path) -> None:
    """Remove drafts of files that a killed process left in the folder. The caller holds the run's lock."""
    for path in folder.glob(f".*{TEMPORARY}*"):
        if path.is_symlink() or not path.is_dir():
            remove_file(path)


def remove_abandoned(path: Path) -> None:
    """Remove drafts of the file that killed processes left; those that somebody still writes stay."""
    for draft in path.parent.glob(f".{glob.escape(path.name[:80])}{TEMPORARY}*"):
        with suppress(OSError):
            descriptor = os.open(draft, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    os.unlink(draft)
            finally:
                os.close(descriptor)


def rename(old: Path, new: Path) -> None:
    """Rename a file within its folder, replacing `new`."""
    with naming_disk_errors(new, 0):
        os.replace(old, new)
    sync_folder(new.parent)


def sync_folder(path: Path) -> None:
    """Force the names in a folder to disk."""
    with naming_disk_errors(path, 0):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_sha256(path: Path) -> str:
    """Digest (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path) -> bytes:
    """The file's bytes; of regular files only, for a pipe of somebody else's would never end.

    Raises:
        OSError: It is none, cannot be read, or is larger than any file of a run.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        if found.st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes, at most {MOST_BYTES:,}")
        return file.read()


def read_checked(path: Path, sha256: str, remedy: str = "fit again with another run.id") -> bytes:
    """The file's bytes, which have that digest (hex).

    Raises:
        RunError: The file cannot be read or has other bytes; ends with the remedy.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}; {remedy}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise RunError(f"{path} is damaged; {remedy}")
    return data


@contextmanager
def naming_disk_errors(path: Path, needed: int) -> Iterator[None]:
    """Turn an `OSError` of the block into a `RunError` that names the path, the need and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise RunError(
                f"the disk is full: writing {path} needs {needed} bytes more, {_free_bytes(path)} are free. "
                "Free some space and repeat the command; a fit goes on with the same run.id: finished units are kept"
            ) from error
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}. "
            "Mend this and repeat the command; a fit goes on with the same run.id: finished units are kept"
        ) from error


def _free_bytes(path: Path) -> int | str:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return "an unknown number of"


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]
