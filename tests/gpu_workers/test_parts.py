"""Videos of which only what is read is brought here: the same outputs, from a part of the bytes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_workers import parts, sources
from gpu_workers.failures import Failure
from gpu_workers.parts import BLOCK, Parts
from gpu_workers.supervisor import Cancelled, Decoder
from gpu_workers.thumbnails import Task, make
from infra.service.storage import Folder, Storage, scratch_file
from schemas.outputs import Frames
from schemas.videos import DEFAULT_OUTPUTS, Job, Poster, Reason, Storyboard, Uploaded, Wanted, upload_key
from tests.clips import ffmpeg, small
from tests.gpu_workers.conftest import LIMITS

MEMORY = 4 << 30
SIZES = st.integers(1, 30 * BLOCK)


class Held:
    """A file with holes, and the whole one that it is filled from; `asked`: what was."""

    def __init__(self, whole: Path, file: Path) -> None:
        self.whole, self.path = whole, file
        self.asked: list[tuple[int, int]] = []
        with file.open("wb") as made:
            made.truncate(whole.stat().st_size)

    @property
    def bytes(self) -> int:
        """Bytes that were asked for."""
        return sum(last - first for first, last in self.asked)

    def fetch(self, first: int, last: int) -> None:
        self.asked.append((first, last))
        with self.whole.open("rb") as source, self.path.open("r+b") as target:
            os.pwrite(target.fileno(), os.pread(source.fileno(), last - first, first), first)


def task(path: Path, root: Path, *outputs: Wanted, in_parts: bool = True) -> Task:
    return Task(str(path), None, outputs or DEFAULT_OUTPUTS, str(root), "job", LIMITS, in_parts=in_parts)


def same(clip: Path, tmp_path: Path, *outputs: Wanted) -> Held:
    """Makes outputs of the whole file and of one in parts, which must be the same."""
    held = Held(clip, tmp_path / f"{clip.name}.held")
    whole = make(task(clip, tmp_path / "whole", *outputs, in_parts=False))
    found = make(task(held.path, tmp_path / "parts", *outputs), fetch=held.fetch)
    assert (found.source, found.outputs) == (whole.source, whole.outputs)
    for output in whole.outputs:
        assert (tmp_path / "parts" / output.path).read_bytes() == (tmp_path / "whole" / output.path).read_bytes()
    return held


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40 * BLOCK), st.integers(1, 3 * BLOCK)), max_size=40), st.integers(1, 30 * BLOCK)
)
def test_what_is_read_is_there_and_comes_once(
    tmp_path_factory: pytest.TempPathFactory, reads: list[tuple[int, int]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    content = os.urandom(1 << 16) * (size // (1 << 16) + 1)
    (folder / "whole").write_bytes(content[:size])
    held = Held(folder / "whole", folder / "held")
    with held.path.open("rb") as file:
        found = Parts(file.fileno(), held.fetch)
        reader = found.reader()
        for place, length in reads:
            assert reader.seek(place) == place
            assert reader.read(length) == content[place : min(place + length, size)]
        found.whole()
    spans = sorted(held.asked)
    assert all(first < last for first, last in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert held.bytes == size
    assert held.path.read_bytes() == content[:size]


def test_reading_on_asks_for_more_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(bytes(100 * BLOCK))
    held = Held(tmp_path / "whole", tmp_path / "held")
    with held.path.open("rb") as file:
        reader = Parts(file.fileno(), held.fetch).reader()
        while reader.read(BLOCK // 4):
            pass
        assert len(held.asked) < 10
        assert max(last - first for first, last in held.asked) <= parts.AHEAD
        reader.seek(-1, os.SEEK_END)
        assert (reader.tell(), reader.read(9), reader.read(9)) == (100 * BLOCK - 1, b"\0", b"")
        with pytest.raises(ValueError, match="no such place"):
            reader.seek(-1)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three minutes with much in them, a keyframe every four seconds, the index at the end."""
    folder = tmp_path_factory.mktemp("large")
    noise = "testsrc2=s=1920x1080:r=10:d=4,noise=alls=30:allf=t"
    ffmpeg("-f", "lavfi", "-i", noise, "-c:v", "libx264", "-preset", "ultrafast", "-b:v", "2M", folder / "piece.mp4")
    ffmpeg("-stream_loop", "44", "-i", folder / "piece.mp4", "-c", "copy", folder / "clip.mp4")
    return folder / "clip.mp4"


def test_of_a_long_video_a_part_is_brought(large: Path, tmp_path: Path) -> None:
    size = large.stat().st_size
    assert size > sources.IN_PARTS_FROM
    held = same(large, tmp_path, Poster())
    assert 0 < held.bytes < 0.5 * size


@pytest.mark.parametrize("name", ["clip.mkv", "clip.ts", "clip.webm", "clip.avi", "front.mp4", "back.mov"])
def test_every_container_is_read_in_parts(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "BLOCK", 4096)
    options = {
        "clip.webm": ("-c:v", "libvpx", "-deadline", "realtime"),
        "clip.avi": ("-c:v", "mpeg4"),
        "front.mp4": ("-movflags", "+faststart"),
    }
    clip = small(tmp_path / name, *options.get(name, ()), seconds=6, size="640x360")
    held = same(clip, tmp_path, Poster(), Storyboard(), Frames(count=3))
    assert len(held.asked) > 3


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    made = Decoder(MEMORY)
    yield made
    made.stop()


def failing(reason: Exception) -> Callable[[int, int], None]:
    def fetch(first: int, last: int) -> None:
        raise reason

    return fetch


def test_a_decoder_asks_its_keeper_and_outlives_a_storage_that_fails(
    decoder: Decoder, large: Path, tmp_path: Path
) -> None:
    held = Held(large, tmp_path / "held")
    with pytest.raises(Failure) as caught:
        decoder.run(task(held.path, tmp_path, Poster()), 60, fetch=failing(Failure(Reason.STORAGE, "away")))
    assert (caught.value.reason, caught.value.detail) == (Reason.STORAGE, "away")
    with pytest.raises(Failure) as caught:
        decoder.run(task(held.path, tmp_path, Poster()), 60)
    assert caught.value.reason is Reason.INTERNAL_ERROR
    pid = decoder.pid
    assert decoder.run(task(held.path, tmp_path, Poster()), 60, fetch=held.fetch).outputs
    assert decoder.pid == pid
    with pytest.raises(Cancelled):
        decoder.run(task(held.path, tmp_path, Poster()), 60, fetch=failing(Cancelled()))
    assert decoder.pid is None


class Bucket(Folder):
    """A part of the storage whose objects are no local files."""

    def local(self, key: str) -> Path | None:
        return None


def test_what_was_uploaded_comes_whole_or_in_parts_by_its_size(large: Path, tmp_path: Path) -> None:
    private = Bucket(tmp_path / "private", private=True)
    storage = Storage(private, private, remote=True)
    job = Job(id="0" * 32, site=1, origin=Uploaded(), queued_ms=0)
    cancel = threading.Event()
    with pytest.raises(Failure) as caught, scratch_file(tmp_path) as (file, _):
        sources._copy(job, file, storage, cancel)
    assert caught.value.reason is Reason.NOT_FOUND
    private.put(upload_key(job.id), b"small")
    with scratch_file(tmp_path) as (file, path):
        assert sources._copy(job, file, storage, cancel) is None
        assert path.read_bytes() == b"small"
    content = large.read_bytes()
    private.put(upload_key(job.id), content)
    with scratch_file(tmp_path) as (file, path):
        fetch = sources._copy(job, file, storage, cancel)
        assert fetch is not None
        assert path.stat().st_size == len(content)
        assert path.stat().st_blocks == 0
        fetch(BLOCK, 3 * BLOCK)
        fetch(len(content) - 5, len(content))
        expected = bytes(BLOCK) + content[BLOCK : 3 * BLOCK] + bytes(len(content) - 5 - 3 * BLOCK) + content[-5:]
        assert path.read_bytes() == expected
        for first, last in ((-1, 1), (5, 5), (0, len(content) + 1), (0, len(content))):
            with pytest.raises(Failure) as caught:
                fetch(first, last)
            assert caught.value.reason is Reason.INTERNAL_ERROR
        cancel.set()
        with pytest.raises(Cancelled):
            fetch(0, BLOCK)
