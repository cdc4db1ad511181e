"""What is asked again is one job, and what came to nothing is removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.service.storage import Folder, Storage
from ingest.videos.problems import Problem
from ingest.videos.tickets import MARK_SECONDS, Tickets
from schemas.videos import deleted_key, upload_key, url_key

HOUR = 3_600_000  # ms
NOW = 1_790_000_000_000


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(Folder(tmp_path / "outputs", private=False), Folder(tmp_path / "private", private=True))


def test_a_key_is_a_sites_own_and_ends(storage: Storage) -> None:
    tickets = Tickets(storage, 3600.0)
    first = tickets.claim(1, "k", b"asked", NOW)
    assert tickets.claim(1, "k", b"asked", NOW + 5) == first
    with pytest.raises(Problem) as caught:
        tickets.claim(1, "k", b"other", NOW)
    assert caught.value.status == 422
    assert tickets.claim(2, "k", b"other", NOW).job != first.job
    assert tickets.claim(1, None, b"asked", NOW).job != tickets.claim(1, None, b"asked", NOW).job
    tickets.taken(first)
    assert tickets.claim(1, "k", b"asked", NOW).taken
    later = tickets.claim(1, "k", b"other", NOW + HOUR + 1)
    assert later.job != first.job
    assert not later.taken


def test_nothing_of_what_was_asked_is_kept(storage: Storage, tmp_path: Path) -> None:
    Tickets(storage, 3600.0).claim(1, "key of jane", b"jane.mp4", NOW)
    for path in (tmp_path / "private").rglob("*"):
        assert "jane" not in path.name
        assert path.is_dir() or b"jane" not in path.read_bytes()


def test_what_is_over_is_removed(storage: Storage, tmp_path: Path) -> None:
    tickets = Tickets(storage, 3600.0)
    forgotten, taken, known, young = (tickets.claim(1, key, b"", NOW) for key in "abcd")
    for ticket in (forgotten, taken, known, young):
        storage.private.put(upload_key(ticket.job), b"x")
        storage.private.put(deleted_key(ticket.job), b"x")
        storage.private.put(url_key(ticket.job), b"x")
    tickets.taken(taken)
    now = NOW / 1000
    for ticket in (forgotten, taken, known):
        os.utime(tmp_path / "private" / ticket.key, (now - 3601,) * 2)
        os.utime(tmp_path / "private" / deleted_key(ticket.job), (now - MARK_SECONDS + 1,) * 2)
    os.utime(tmp_path / "private" / young.key, (now - 3599,) * 2)
    os.utime(tmp_path / "private" / deleted_key(young.job), (now - MARK_SECONDS - 1,) * 2)
    tickets.clean(now, lambda job: job == known.job)
    here = {ticket.job: storage.private.stat(upload_key(ticket.job)) is not None for ticket in (taken, known, young)}
    assert here == {taken.job: True, known.job: True, young.job: True}
    assert storage.private.stat(upload_key(forgotten.job)) is None
    assert storage.private.stat(url_key(forgotten.job)) is None
    assert storage.private.stat(url_key(taken.job)) is not None
    assert [storage.private.stat(ticket.key) is None for ticket in (forgotten, taken, known, young)] == [
        *(True, True, True, False)
    ]
    assert storage.private.stat(deleted_key(young.job)) is None
    assert storage.private.stat(deleted_key(taken.job)) is not None
