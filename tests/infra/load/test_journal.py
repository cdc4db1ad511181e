"""The journal: what is in it is true, whenever the writer ended."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from infra.load.journal import HEADER, NEVER, RECORD, Fate, Journal, JournalError, Outcome, Watch, read
from infra.load.process import LoadProcess
from tests.infra.load.sink import Answer, Seen, collector, serving

STORED, REFUSED = int(Fate.STORED), int(Fate.REFUSED)


def test_outcomes_are_those_written(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path, seed=1, first=10)
    journal.sent(10, bytes([STORED, REFUSED, STORED]))
    journal.ended(10, (Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.UNKNOWN), 200)
    journal.sent(13, bytes([STORED]))
    journal.close()
    entries = read([path])
    assert entries.number.tolist() == [10, 11, 12, 13]
    assert entries.expected.tolist() == [STORED, REFUSED, STORED, STORED]
    assert entries.outcome.tolist() == [Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.UNKNOWN, Outcome.UNKNOWN]
    assert entries.request.tolist() == [10, 10, 10, 13]
    assert (entries.ended[:3] >= entries.sent[:3]).all()
    assert entries.ended[3] == NEVER


def test_what_was_sent_is_there_before_anything_is_flushed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", seed=1, first=0)
    journal.sent(0, bytes([STORED]))
    journal.ended(0, (Outcome.ACKNOWLEDGED,), 204)
    assert read([tmp_path / "j"]).outcome.tolist() == [Outcome.UNKNOWN]
    journal.flush()
    assert read([tmp_path / "j"]).outcome.tolist() == [Outcome.ACKNOWLEDGED]


def test_a_torn_record_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path, seed=1, first=0)
    journal.sent(0, bytes([STORED]))
    journal.ended(0, (Outcome.ACKNOWLEDGED,), 204)
    journal.close()
    os.truncate(path, HEADER.size + 2 * RECORD.itemsize - 1)
    assert read([path]).outcome.tolist() == [Outcome.UNKNOWN]


def test_two_writers_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "j"
    one, two = Journal(path, seed=1, first=0), Journal(path, seed=1, first=100)
    for number in range(10):
        one.sent(number, bytes([STORED]))
        two.sent(100 + number, bytes([STORED]))
    assert len(read([path])) == 20


@pytest.mark.parametrize("what", ["sent twice", "two outcomes", "never sent"])
def test_a_journal_that_cannot_be_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "j"
    journal = Journal(path, seed=1, first=0)
    if what != "never sent":
        journal.sent(5, bytes([STORED]))
    if what == "sent twice":
        journal.sent(5, bytes([STORED]))
    else:
        journal.ended(5, (Outcome.ACKNOWLEDGED,), 204)
    if what == "two outcomes":
        journal.ended(5, (Outcome.UNKNOWN,), 503)
    journal.close()
    with pytest.raises(JournalError, match="5"):
        read([path])


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"x" * 100)
    with pytest.raises(JournalError, match="not the journal"):
        read([tmp_path / "j"])


def test_the_watch_counts_what_is_new(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "j")
    assert watch.look().sent == 0
    journal = Journal(tmp_path / "j", seed=1, first=0)
    journal.sent(0, bytes([STORED] * 3))
    assert watch.look().sent == 3
    journal.ended(0, (Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.UNKNOWN), 200)
    journal.close()
    seen = watch.look()
    assert (seen.sent, seen.acknowledged, seen.refused, seen.unknown) == (3, 1, 1, 1)


def test_the_journal_survives_a_kill_of_the_load(tmp_path: Path) -> None:
    """Every number that the server has seen stands in the journal, whatever the load was doing when it was killed."""
    seen: list[str] = []

    def answer(request: Seen) -> Answer:
        seen.append(request.target)
        return collector(request)

    async def run() -> None:
        async with serving(answer) as port:
            load = LoadProcess(f"http://127.0.0.1:{port}", tmp_path / "j", bulk=0, bad=0, connections=16)
            while len(seen) < 500:
                assert load.running()
                await asyncio.sleep(0.01)
            load.kill()

    asyncio.run(run())
    entries = read([tmp_path / "j"])
    assert len(entries) >= len(seen) >= 500
    unknown = int((entries.outcome == Outcome.UNKNOWN).sum())
    assert 0 < unknown < len(entries)


def test_ctrl_c_ends_the_load_in_order(tmp_path: Path) -> None:
    async def run() -> dict[str, object]:
        async with serving(collector) as port:
            load = LoadProcess(f"http://127.0.0.1:{port}", tmp_path / "j", sites="1-3", rate=200)
            while load.watch.look().acknowledged < 20:
                await asyncio.sleep(0.05)
            await asyncio.to_thread(load.stop)
            return load.result()

    report = asyncio.run(run())
    entries = read([tmp_path / "j"])
    assert report["sent"] == len(entries)
    assert report["acknowledged"] == int((entries.outcome == Outcome.ACKNOWLEDGED).sum())
    assert report["unknown"] == 0


def test_moments_count_from_the_start(tmp_path: Path) -> None:
    before = time.time()
    journal = Journal(tmp_path / "j", seed=7, first=0)
    journal.sent(0, bytes([STORED]))
    _, started, seed, _ = HEADER.unpack((tmp_path / "j").read_bytes()[: HEADER.size])
    assert seed == 7
    assert before - 1 <= started / 1000 <= time.time()
