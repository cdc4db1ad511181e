"""Records in a file: what is whole is found, whatever stands around it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest.spool import records

VALUES = [b"first packet", b"", records.MAGIC * 3, bytes(range(256)) * 9]


def file_of(values: list[bytes]) -> bytes:
    return b"".join(records.encode(n, value, 1000 + n, 10 * n) + value for n, value in enumerate(values))


@contextmanager
def opened(path: Path, data: bytes) -> Iterator[int]:
    path.write_bytes(data)
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)


def found(file: int) -> list[bytes]:
    """The packets of all records that are whole."""
    whole = []
    for item in records.scan(file):
        if not isinstance(item, records.Broken):
            record = records.read(file, item[0])
            if record is not None:
                whole.append(record[1])
    return whole


def test_what_was_written_is_read(tmp_path: Path) -> None:
    with opened(tmp_path / "s", file_of(VALUES)) as file:
        scanned = list(records.scan(file))
        assert [item[0] for item in scanned] == [
            sum(records.HEAD_BYTES + len(value) for value in VALUES[:n]) for n in range(len(VALUES))
        ]
        for n, (offset, head) in enumerate(item for item in scanned if not isinstance(item, records.Broken)):
            assert head[:3] == (records.WAITS, n, len(VALUES[n]))
            assert head[4:] == (1000 + n, 10 * n)
            assert records.read(file, offset) == (head, VALUES[n])


def test_a_file_that_ends_anywhere_gives_what_is_whole_before_its_end(tmp_path: Path) -> None:
    data = file_of(VALUES)
    ends = [sum(records.HEAD_BYTES + len(value) for value in VALUES[: n + 1]) for n in range(len(VALUES))]
    for end in range(len(data)):
        with opened(tmp_path / "s", data[:end]) as file:
            assert found(file) == VALUES[: sum(at <= end for at in ends)], end


def test_a_changed_byte_costs_its_own_record_only(tmp_path: Path) -> None:
    values = [b"before" * 20, b"hit" * 50, b"after" * 30]
    data = file_of(values)
    start, end = records.HEAD_BYTES + len(values[0]), len(data) - records.HEAD_BYTES - len(values[2])
    for at in range(start, end):
        if at == start + records.STATE_OFFSET:
            continue
        changed = bytearray(data)
        changed[at] ^= 0x41
        with opened(tmp_path / "s", bytes(changed)) as file:
            assert found(file) == [values[0], values[2]], at - start


@pytest.mark.parametrize("seed", range(20))
def test_noise_between_records_is_stepped_over(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    pieces, values = [], []
    for n in range(6):
        value = source.randbytes(source.randrange(300))
        values.append(value)
        pieces += [source.randbytes(source.randrange(200)), records.encode(n, value, 1, 0) + value]
        if source.random() < 0.3:
            pieces.append(records.MAGIC * source.randrange(3))
    with opened(tmp_path / "s", b"".join(pieces)) as file:
        assert found(file) == values


def test_a_mark_changes_the_state_and_nothing_else(tmp_path: Path) -> None:
    data = bytearray(file_of(VALUES))
    data[records.STATE_OFFSET] = records.ACKNOWLEDGED
    with opened(tmp_path / "s", bytes(data)) as file:
        states = [item[1].state for item in records.scan(file) if not isinstance(item, records.Broken)]
        assert states == [records.ACKNOWLEDGED, *[records.WAITS] * 3]
        assert found(file) == VALUES
