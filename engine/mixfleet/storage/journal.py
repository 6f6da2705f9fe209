"""Finished units of a run in progress, in immutable files that a journal lists.

A part holds the records of a few units. It counts once its line stands in the journal; a line counts if its
checksum is right. So a kill at any moment loses at most the units that were not committed yet, and damage is
found when the run is resumed: the damaged file is kept as `.corrupt` and its units are fitted again.
"""

import hashlib
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mixfleet.data.panel import unit_id
from mixfleet.errors import RunError
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.storage import atomic_files
from mixfleet.storage.result_bytes import decode, digest, encode

JOURNAL = "journal.jsonl"
_MAGIC = b"MIXFLEETPART1\n"
_PART_NAME = re.compile(r"\d{5,}-[0-9a-f]{16}\.part")
_PLACE = (int, int, int, str)
"""Types of an entry's offset, length, checksum and digest."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where the record of a committed unit lies."""

    part: str
    offset: int
    length: int
    crc: int
    digest: str
    """Digest of the result, see `mixfleet.storage.result_bytes.digest`."""


class Parts:
    """The parts folder of one run, opened for writing: the caller holds the run's lock."""

    def __init__(self, folder: Path) -> None:
        """Open or create the folder; set aside what is damaged.

        Raises:
            RunError: The folder cannot be read or written.
        """
        self.folder = folder
        self.damaged: list[str] = []
        """Names of the files that were found damaged and are kept as `.corrupt`."""
        self._entries: dict[str, Entry] = {}
        self._count = 0
        self._size = 0
        atomic_files.make_own_folder(folder)
        atomic_files.remove_leftovers(folder)
        self._recover()

    @property
    def units(self) -> frozenset[str]:
        """Ids of the committed units."""
        return frozenset(self._entries)

    def digest(self, unit: str) -> str:
        """Digest of the committed result of a unit, by unit id."""
        return self._entries[unit].digest

    def add(self, results: Iterable[UnitResult]) -> tuple[str, bytes] | None:
        """Commit results as one part.

        Returns:
            The part's name and its line of the journal; None where there were no results.

        Raises:
            RunError: The disk is full or failed; what was committed before stays committed.
        """
        body = bytearray(_MAGIC)
        entries: dict[str, tuple[int, int, int, str]] = {}
        for result in results:
            record = encode(result)
            entries[unit_id(result.labels)] = (len(body), len(record), zlib.crc32(record), digest(result))
            body += record
        if not entries:
            return None
        checksum = hashlib.sha256(body).hexdigest()
        name = f"{self._count:05d}-{checksum[:16]}.part"
        atomic_files.publish_bytes(self.folder / name, bytes(body))
        line = _journal_line({"part": name, "size": len(body), "sha256": checksum, "units": entries})
        atomic_files.append_bytes(self.folder / JOURNAL, line, at=self._size)
        self._size += len(line)
        self._count += 1
        self._take(name, entries)
        return name, line

    def read(self, units: Iterable[str]) -> Iterator[UnitResult]:
        """Results of committed units in the order given, by unit id.

        Raises:
            RunError: A record was damaged after the run was opened; the next resume refits its unit.
        """
        for unit in units:
            entry = self._entries[unit]
            path = self.folder / entry.part
            try:
                with path.open("rb") as file:
                    file.seek(entry.offset)
                    record = file.read(entry.length)
            except OSError as error:
                raise RunError(f"{path} cannot be read: {error.strerror}. Repeat the command to resume") from error
            if zlib.crc32(record) != entry.crc:
                raise RunError(f"{path} is damaged. Repeat the command: only its units are fitted again")
            yield decode(record)

    def _take(self, part: str, entries: dict[str, tuple[int, int, int, str]]) -> None:
        for unit, (offset, length, crc, sha256) in entries.items():
            self._entries.setdefault(unit, Entry(part=part, offset=offset, length=length, crc=crc, digest=sha256))

    def _recover(self) -> None:
        journal = self.folder / JOURNAL
        text = b""
        with suppress(FileNotFoundError):
            text = journal.read_bytes()
        lines = text.splitlines(keepends=True)
        torn = bool(lines) and not lines[-1].endswith(b"\n")
        kept = bytearray()
        broken = False
        for line in lines[:-1] if torn else lines:
            record = read_line(line)
            if record is None:
                broken = True
                continue
            self._count = max(self._count, int(record["part"].split("-")[0]) + 1)
            if not self._is_sound(record):
                self._set_aside(record["part"])
                continue
            kept += line
            self._take(record["part"], record["units"])
        if broken:
            self.damaged.append(JOURNAL)
            atomic_files.publish_bytes(self._spare_name(JOURNAL), text)
        if bytes(kept) != text:
            atomic_files.replace_bytes(journal, bytes(kept))
        self._size = len(kept)

    def _is_sound(self, record: dict) -> bool:
        path = self.folder / record["part"]
        try:
            return path.stat().st_size == record["size"] and atomic_files.file_sha256(path) == record["sha256"]
        except OSError:
            return False

    def _set_aside(self, name: str) -> None:
        self.damaged.append(name)
        if (self.folder / name).exists():
            atomic_files.rename(self.folder / name, self._spare_name(name))

    def _spare_name(self, name: str) -> Path:
        spares = (self.folder / f"{name}.corrupt{n or ''}" for n in itertools.count())
        return next(path for path in spares if not path.exists())


def remove_parts(folder: Path) -> None:
    """Remove the parts of a finished run; damaged files stay for whoever wants to look into them."""
    if not any(folder.glob("*.corrupt*")):
        atomic_files.remove_tree(folder)
        return
    for path in sorted(folder.iterdir()):
        if ".corrupt" not in path.name:
            atomic_files.remove_file(path)


def _journal_line(record: dict) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode("ascii")
    return b"%08x %d %b\n" % (zlib.crc32(text), len(text), text)


def read_line(line: bytes) -> dict | None:
    """The record of a journal line, None if the line is damaged or none that `Parts.add` can have written."""
    head, _, rest = line.rstrip(b"\n").partition(b" ")
    length, _, text = rest.partition(b" ")
    if head != b"%08x" % zlib.crc32(text) or length != b"%d" % len(text):
        return None
    try:
        record = json.loads(text)
        places = [tuple(map(type, place)) for place in record["units"].values()]
        size, sha256 = record["size"], record["sha256"]
        # The name becomes a path, so it is held to the form that `Parts.add` gives.
        sound = _PART_NAME.fullmatch(record["part"]) and isinstance(size, int) and isinstance(sha256, str)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return record if sound and all(place == _PLACE for place in places) else None
