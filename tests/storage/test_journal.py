import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mixfleet.data.panel import unit_id
from mixfleet.errors import RunError
from mixfleet.storage.journal import JOURNAL, Parts, read_line
from tests.support.stub_engine import brands, unit_result


def filled(folder: Path) -> Parts:
    parts = Parts(folder)
    for start in range(0, 9, 3):
        parts.add(unit_result(labels) for labels in brands(9)[start : start + 3])
    return parts


def test_results_come_back_in_the_order_asked(tmp_path: Path) -> None:
    filled(tmp_path / "parts")
    parts = Parts(tmp_path / "parts")
    order = list(reversed(brands(9)))
    assert [result.labels for result in parts.read(map(unit_id, order))] == order
    assert parts.damaged == []


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_part_loses_its_own_units_only(tmp_path: Path, damage: str) -> None:
    for share in (0.0, 0.5, 1.0):
        work = tmp_path / f"{share}"
        filled(work)
        victim = next(iter(work.glob("00001-*.part")))
        data = bytearray(victim.read_bytes())
        place = int(share * (len(data) - 1))
        if damage == "remove":
            victim.unlink()
        elif damage == "cut":
            victim.write_bytes(data[:place])
        else:
            data[place] ^= 1
            victim.write_bytes(data)
        parts = Parts(work)
        assert parts.units == {unit_id(row) for row in brands(3) + brands(9)[6:]}
        assert parts.damaged == [victim.name]
        assert not victim.exists()
        assert (work / f"{victim.name}.corrupt").exists() == (damage != "remove")
        parts.add(unit_result(labels) for labels in brands(6)[3:])
        assert Parts(work).units == {unit_id(row) for row in brands(9)}


def test_every_flipped_bit_of_the_journal_is_noticed(tmp_path: Path) -> None:
    filled(tmp_path)
    journal = tmp_path / "journal.jsonl"
    whole = journal.read_bytes()
    for place in range(0, len(whole), 29):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        journal.write_bytes(damaged)
        parts = Parts(tmp_path)
        assert len(parts.units) in (3, 6)
        assert all(result.labels in brands(9) for result in parts.read(parts.units))
        assert Parts(tmp_path).damaged == []
    assert list(tmp_path.glob("journal.jsonl.corrupt*"))


def test_a_torn_tail_is_dropped(tmp_path: Path) -> None:
    filled(tmp_path)
    journal = tmp_path / "journal.jsonl"
    whole = journal.read_bytes()
    for length in range(whole.rindex(b"\n", 0, -1) + 1, len(whole), 41):
        journal.write_bytes(whole[:length])
        parts = Parts(tmp_path)
        assert len(parts.units) == 6
        parts.add(unit_result(labels) for labels in brands(9)[6:])
        assert len(Parts(tmp_path).units) == 9


def test_damage_while_the_run_goes_on_is_noticed(tmp_path: Path) -> None:
    parts = filled(tmp_path)
    victim = sorted(tmp_path.glob("*.part"))[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(RunError, match=r"is damaged\. Repeat the command"):
        list(parts.read(map(unit_id, brands(3))))


def test_a_planted_pickle_is_not_run(tmp_path: Path) -> None:
    filled(tmp_path)
    canary = tmp_path / "canary"
    pickle = f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()
    sorted(tmp_path.glob("*.part"))[0].write_bytes(pickle)
    (tmp_path / "journal.jsonl").write_bytes(pickle)
    assert Parts(tmp_path).units == frozenset()
    assert not canary.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(part="../../out.part"),
        lambda record: record.update(part=None),
        lambda record: record.update(size="many"),
        lambda record: record.update(units=["a"]),
        lambda record: record["units"].update(a=[0, -1]),
        lambda record: record["units"].update(a=[0, "1", 2, "3"]),
        lambda record: record.pop("sha256"),
    ],
)
def test_a_line_that_no_run_has_written_is_none(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    filled(tmp_path / "parts")
    line = (tmp_path / "parts" / JOURNAL).read_bytes().splitlines()[0]
    record = read_line(line)
    assert record is not None
    change(record)
    text = json.dumps(record).encode()
    assert read_line(b"%08x %d %b\n" % (zlib.crc32(text), len(text), text)) is None
