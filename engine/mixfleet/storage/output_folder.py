"""What a command writes in several files: the old files or the new ones, whole, and never some of each.

The files are written to a hidden folder beside the target, forced to disk, and take the target's place in one
step. A list of their digests, in the form of `sha256sum`, ties them together: readers accept what is as listed.
A folder that cannot be replaced, for it holds other folders, is the current one or a mount, keeps the new files in a
hidden folder of its own until the new list is in place; what a kill leaves there is still found by its digest.
"""

import ctypes
import errno
import fcntl
import glob
import hashlib
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mixfleet.errors import RunError
from mixfleet.storage import atomic_files
from mixfleet.storage.atomic_files import TEMPORARY, Draft, naming_disk_errors

_EXCHANGE = 2
_AT_FDCWD = -100
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


class Outputs:
    """Files being written; nothing of them is to be seen before all are."""

    def __init__(self, staging: Path) -> None:
        """Used by `output_folder` only."""
        self._staging = staging
        self.digests: dict[str, str] = {}
        """Digest by file name."""

    @contextmanager
    def file(self, name: str) -> Iterator[Draft]:
        """A file to write; complete when the block ends."""
        with atomic_files.draft(self._staging / name) as draft:
            yield draft
            draft.replace(sync=False)
        self.digests[name] = draft.sha256

    def write(self, name: str, data: bytes) -> None:
        """A file with these bytes."""
        with self.file(name) as draft:
            draft.write(data)


@contextmanager
def output_folder(folder: Path, name: str) -> Iterator[Outputs]:
    """Replace the files that an earlier block of this name left in the folder by those that this block writes.

    Other files and folders in it stay.

    Args:
        folder: Made if it is not there.
        name: What the files are; their list is `NAME.sha256`.

    Raises:
        RunError: The folder cannot be written, or is a link; nothing was changed then.
    """
    atomic_files.refuse_link(folder)
    folder = folder.absolute()
    atomic_files.make_folder(folder.parent)
    with naming_disk_errors(folder, 0):
        place = folder.parent if _can_be_replaced(folder) else folder
    for parent in {place, folder.parent}:
        remove_stagings(parent, folder.name)
    staging = place / f".{folder.name[:80]}{TEMPORARY}{uuid.uuid4().hex}"
    with naming_disk_errors(folder, 0):
        os.mkdir(staging)
        lock = _lock(staging)
    try:
        outputs = Outputs(staging)
        yield outputs
        listed = "".join(f"{digest}  {file}\n" for file, digest in sorted(outputs.digests.items()))
        outputs.write(f"{name}.sha256", f"{_seal(listed)}{listed}".encode())
        del outputs.digests[f"{name}.sha256"]
        _commit(staging, folder, name, outputs.digests)
    finally:
        os.close(lock)
        with suppress(RunError):
            atomic_files.remove_tree(staging)


def read_output(folder: Path, name: str, remedy: str) -> dict[str, bytes]:
    """The files that were written together under `name`, by file name.

    Raises:
        RunError: Some are missing, or are not those that were written together; ends with the remedy.
    """
    files = {}
    for file, digest in _listed(folder, name, remedy).items():
        try:
            files[file] = atomic_files.read_checked(folder / file, digest, remedy)
        except RunError:
            # A writer was killed after its list was in place and before all its files were.
            waiting = _waiting(folder, name) / file
            if not waiting.exists():
                raise
            files[file] = atomic_files.read_checked(waiting, digest, remedy)
    return files


def remove_stagings(parent: Path, name: str = "") -> None:
    """Remove what killed processes left of output folders in `parent`; those still being written stay."""
    for path in parent.glob(f".{glob.escape(name[:80])}*{TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                lock = _lock(path)
                try:
                    shutil.rmtree(path)
                finally:
                    os.close(lock)


def _seal(listed: str) -> str:
    """First line of a list, a comment to `sha256sum`: a list that lost its end would else pass for a shorter one."""
    return f"# {hashlib.sha256(listed.encode()).hexdigest()}\n"


def _listed(folder: Path, name: str, remedy: str) -> Mapping[str, str]:
    path = folder / f"{name}.sha256"
    try:
        seal, end, listed = path.read_text("ascii").partition("\n")
        digests = {file: digest for digest, _, file in (line.partition("  ") for line in listed.splitlines())}
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}; {remedy}") from error
    if seal + end != _seal(listed) or any(Path(file).name != file for file in digests):
        raise RunError(f"{path} is damaged; {remedy}")
    return digests


def _commit(staging: Path, folder: Path, name: str, new: Mapping[str, str]) -> None:
    """Give the files of `staging` their place in `folder`."""
    with naming_disk_errors(folder, 0):
        if staging.parent == folder or not _can_be_replaced(folder):
            _commit_within(staging, folder, name)
            return
        old = _old_files(folder, name)
        for path in list(folder.iterdir()) if folder.exists() else ():
            if path.name not in old and path.name not in new and path.name != f"{name}.sha256":
                os.link(path, staging / path.name)
        atomic_files.sync_folder(staging)
        if folder.exists():
            _exchange(staging, folder)
        else:
            os.rename(staging, folder)
        atomic_files.sync_folder(folder.parent)


def _commit_within(staging: Path, folder: Path, name: str) -> None:
    """The new list takes the old one's place, which is the commit; then the files it names take theirs."""
    _settle(folder, name)
    old = _old_files(folder, name)
    waiting = _waiting(folder, name)
    os.rename(staging, waiting)
    atomic_files.sync_folder(waiting)
    atomic_files.sync_folder(folder)
    os.replace(waiting / f"{name}.sha256", folder / f"{name}.sha256")
    atomic_files.sync_folder(folder)
    new = _settle(folder, name)
    for file in sorted(old.keys() - new):
        atomic_files.remove_file(folder / file)
    atomic_files.sync_folder(folder)


def _settle(folder: Path, name: str) -> frozenset[str]:
    """Give the files that wait and are listed their names, and drop others that wait; the listed files."""
    listed, waiting = _old_files(folder, name), _waiting(folder, name)
    if not waiting.is_symlink():
        for file, digest in sorted(listed.items()):
            path = waiting / file
            if path.is_file() and atomic_files.file_sha256(path) == digest:
                os.replace(path, folder / file)
    atomic_files.remove_tree(waiting)
    return frozenset(listed)


def _waiting(folder: Path, name: str) -> Path:
    """Where the files of a list wait that is in place already, or soon is."""
    return folder / f".{name}.next"


def _can_be_replaced(folder: Path) -> bool:
    """Whether another folder can take this one's name and nothing is lost."""
    if not os.access(folder.parent, os.W_OK):
        return False
    if not folder.exists():
        return True
    if _is_current(folder) or os.path.ismount(folder):
        return False
    return all(path.is_file() and not path.is_symlink() for path in list(folder.iterdir()))


def _old_files(folder: Path, name: str) -> Mapping[str, str]:
    try:
        return _listed(folder, name, "")
    except RunError:
        return {}


def _is_current(folder: Path) -> bool:
    current = Path.cwd()
    return any(folder.exists() and folder.samefile(path) for path in (current, *current.parents))


def _lock(folder: Path) -> int:
    """A descriptor of the folder that holds a lock on it; the lock ends with the process at the latest.

    Raises:
        BlockingIOError: Another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _exchange(one: Path, two: Path) -> None:
    """Let two folders swap their names in one step; where the system cannot, in three."""
    if sys.platform == "linux":
        call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if call is not None:
            if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(two), _EXCHANGE) == 0:
                return
            number = ctypes.get_errno()
            if number not in _CANNOT_EXCHANGE:
                raise OSError(number, os.strerror(number))
    aside = one.with_name(f"{one.name}-old")
    os.rename(two, aside)
    os.rename(one, two)
    os.rename(aside, one)
