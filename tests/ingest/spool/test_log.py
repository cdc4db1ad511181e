"""A folder of segments: who holds it, what outlives a process, what a full disk leaves."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.spool.log import Entry, Log, Segment, folders
from tests.ingest.spool.tmpfs import small_disk

POLICIES = b"the policies"
VERSION = bytes(range(16))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log.create(tmp_path / "spool", 0xABC, 1_700_000_000_000)
    yield made
    made.leave()


def entries(count: int, size: int = 100, partition: int = 3) -> list[Entry]:
    return [Entry(partition, bytes([n % 256]) * size, n) for n in range(count)]


def inherited(folder: Path) -> Log:
    found = Log.inherit(folder)
    assert found is not None
    return found


def values(log: Log) -> list[tuple[int, bytes]]:
    """(partition, packet) of all that waits, in order; the log was not read before."""
    contents = log.read_all()
    found = []
    for partition, positions in contents.positions.items():
        for record in log.read([log.spot(position) for position in positions]):
            assert record is not None
            found.append((partition, record[1]))
    return found


def test_one_process_holds_a_folder_and_the_next_finds_everything(log: Log) -> None:
    log.keep(VERSION, POLICIES)
    written = entries(10)
    log.append(written[:4], 1000, 1 << 20)
    log.append(written[4:], 2000, 1 << 20)
    assert Log.inherit(log.folder) is None
    log.leave()
    heir = inherited(log.folder)
    assert (heir.writer, heir.started_ms) == (0xABC, 1_700_000_000_000)
    assert values(heir) == [(3, entry.value) for entry in written]
    assert heir.policies() == {VERSION: POLICIES}
    heir.remove()
    assert folders(log.folder.parent) == []
    assert Log.inherit(log.folder) is None


def test_another_process_gets_the_lock_when_the_first_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom ingest.spool.log import Entry, Log\n"
        "log = Log.create(Path(sys.argv[1]), 7, 1)\n"
        "log.append([Entry(0, b'kept', 0)], 1, 1 << 20)\nprint('written', flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
        (folder,) = folders(tmp_path)
        assert Log.inherit(folder) is None
        child.kill()
        child.wait()
    heir = inherited(folder)
    assert values(heir) == [(0, b"kept")]
    heir.remove()


def test_segments_follow_one_another_and_go_when_dropped(log: Log) -> None:
    bases = [log.append([entry], 5, 1000).base for entry in entries(12, 300)]
    assert len(set(bases)) == 4
    assert bases == sorted(bases)
    log.drop(bases[0])
    log.drop(bases[-1])
    after = log.append(entries(1), 5, 1000)
    assert after.base > bases[-1]
    log.leave()
    heir = inherited(log.folder)
    assert [value[:1] for _, value in values(heir)] == [bytes([n]) for n in (3, 4, 5, 6, 7, 8, 0)]
    heir.remove()


def test_what_is_marked_is_not_inherited(log: Log) -> None:
    written = log.append(entries(5), 1000, 1 << 20)
    log.segments[written.base] = Segment(written.size, 5)
    log.mark(written.base, [log.spot(written.positions[n]).offset for n in (0, 1, 3)])
    log.leave()
    heir = inherited(log.folder)
    assert [value[:1] for _, value in values(heir)] == [b"\2", b"\4"]
    heir.remove()


def test_a_process_killed_at_any_byte_leaves_all_that_was_written_before(log: Log, tmp_path: Path) -> None:
    written = entries(4, 40)
    sizes = []
    for entry in written:
        base, size, _ = log.append([entry], 1000, 1 << 20)
        sizes.append(size)
    name = f"{base:016x}.segment"
    data = (log.folder / name).read_bytes()
    for end in range(len(data) + 1):
        folder = tmp_path / "copies" / f"0000000000001-{end:016x}"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(data[:end])
        heir = inherited(folder)
        assert values(heir) == [(3, entry.value) for entry, size in zip(written, sizes, strict=True) if size <= end]
        heir.remove()


def test_policies_that_are_not_whole_are_left_out(log: Log) -> None:
    log.keep(VERSION, POLICIES)
    path = log.folder / f"{VERSION.hex()}.policies"
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert log.policies() == {}, end


@pytest.mark.parametrize("seed", range(5))
def test_a_full_disk_costs_nothing_that_was_written_and_writing_goes_on_when_there_is_room(
    tmp_path: Path, seed: int
) -> None:
    """Batches of random size until the disk is full, several times, each time with room made by what fills it."""
    source, kept = random.Random(seed), []
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        log = Log.create(disk / "spool", 1, 1)
        for _ in range(4):
            filler = disk / "filler"
            filler.write_bytes(bytes(source.randrange(600_000, 900_000)))
            full = False
            while not full:
                sizes = [source.randrange(20_000) for _ in range(source.randrange(1, 6))]
                batch = [Entry(0, source.randbytes(size), 0) for size in sizes]
                full = not written(log, batch)
                kept += [] if full else [entry.value for entry in batch]
            filler.unlink()
            log.append([Entry(0, b"there is room", 0)], 1, 100_000)
            kept.append(b"there is room")
            log.leave()
            heir = inherited(log.folder)
            assert [value for _, value in values(heir)] == kept
            kept.clear()
            heir.remove()
            log = Log.create(disk / "spool", 1, 1)
        log.leave()


def written(log: Log, batch: list[Entry]) -> bool:
    """Whether there was room for the batch."""
    try:
        log.append(batch, 1, 100_000)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def test_files_are_for_their_owner_only(log: Log) -> None:
    log.keep(VERSION, POLICIES)
    log.append(entries(1), 1, 1 << 20)
    assert log.folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in log.folder.iterdir())


def test_a_stranger_among_the_folders_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "0000000000001-00000000000000ff").write_text("a file")
    assert [Log.inherit(tmp_path / name) for name in os.listdir(tmp_path)] == [None, None]
    assert not (tmp_path / "notes/lock").exists()
    shutil.rmtree(tmp_path / "notes")
