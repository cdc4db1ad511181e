from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gpu_workers.failures import Failure
from gpu_workers.supervisor import Cancelled, Decoder
from gpu_workers.thumbnails import Task
from schemas.videos import DEFAULT_OUTPUTS, RETRIED, Poster, Reason
from tests.clips import ffmpeg, small
from tests.gpu_workers.conftest import LIMITS

MEMORY = 4 << 30


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(MEMORY)
    decoder.start()
    yield decoder
    decoder.stop()


@pytest.fixture
def task(tmp_path: Path) -> Task:
    clip = small(tmp_path / "clip.mp4")
    return Task(str(clip), str(tmp_path), DEFAULT_OUTPUTS, str(tmp_path / "out"), "job", LIMITS)


def pid(decoder: Decoder) -> int:
    assert decoder.pid is not None
    return decoder.pid


def test_one_process_does_many_tasks_and_survives_bad_ones(decoder: Decoder, task: Task, tmp_path: Path) -> None:
    first = pid(decoder)
    made = decoder.run(task, 60)
    assert [output.path for output in made.outputs] == [
        "job/poster-1280.jpg",
        "job/storyboard-160.jpg",
        "job/storyboard-160.vtt",
        "job/storyboard-160.json",
    ]
    assert all((tmp_path / "out" / output.path).is_file() for output in made.outputs)
    (tmp_path / "bad.mp4").write_bytes(os.urandom(10_000))
    with pytest.raises(Failure) as caught:
        decoder.run(Task(str(tmp_path / "bad.mp4"), None, DEFAULT_OUTPUTS, str(tmp_path), "bad", LIMITS), 60)
    assert caught.value.reason is Reason.UNSUPPORTED_FORMAT
    assert decoder.run(task, 60).outputs == made.outputs
    assert pid(decoder) == first
    assert decoder.starts == 1


def test_it_knows_no_password_and_has_limits(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder.stop()
    monkeypatch.setenv("VEILSTREAM_CLICKHOUSE_PASSWORD", "secret")
    decoder.start()
    process = psutil.Process(pid(decoder))
    assert not any(name.startswith("VEILSTREAM_") for name in process.environ())
    assert process.rlimit(psutil.RLIMIT_AS) == (MEMORY, MEMORY)
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_NOFILE)[1] < 1000


def test_its_death_costs_one_task(decoder: Decoder, task: Task) -> None:
    first = pid(decoder)
    os.kill(first, signal.SIGSTOP)
    timer = threading.Timer(0.3, os.kill, (first, signal.SIGKILL))
    timer.start()
    with pytest.raises(Failure) as caught:
        decoder.run(task, 60)
    timer.join()
    assert caught.value.reason is Reason.CRASHED
    assert decoder.run(task, 60).outputs
    assert pid(decoder) != first


def test_a_dead_one_is_replaced_before_the_next_task(decoder: Decoder, task: Task) -> None:
    first = pid(decoder)
    os.kill(first, signal.SIGKILL)
    psutil.Process(first).wait()
    assert decoder.run(task, 60).outputs


def test_a_task_that_takes_too_long_is_cut_off(decoder: Decoder, task: Task) -> None:
    first = pid(decoder)
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(Failure) as caught:
        decoder.run(task, 0.3)
    assert caught.value.reason is Reason.TIME_LIMIT
    assert not psutil.pid_exists(first)
    assert decoder.run(task, 60).outputs


def test_a_cancelled_task_leaves_no_process_at_work(decoder: Decoder, task: Task) -> None:
    first = pid(decoder)
    os.kill(first, signal.SIGSTOP)
    cancel = threading.Event()
    timer = threading.Timer(0.3, cancel.set)
    timer.start()
    with pytest.raises(Cancelled):
        decoder.run(task, 60, cancel)
    assert not psutil.pid_exists(first)


def test_a_video_that_needs_too_much_memory_fails_alone(tmp_path: Path) -> None:
    clip = tmp_path / "large.mkv"
    large = "color=red:s=8000x4600:r=1:d=1"
    ffmpeg("-f", "lavfi", "-i", large, "-c:v", "mjpeg", "-pix_fmt", "yuvj444p", "-frames:v", "1", clip)
    decoder = Decoder(700 << 20)
    try:
        decoder.start()
        with pytest.raises(Failure) as caught:
            decoder.run(Task(str(clip), None, (Poster(width=4096),), str(tmp_path / "out"), "job", LIMITS), 60)
        assert caught.value.reason is Reason.MEMORY_LIMIT
        good = small(tmp_path / "good.mp4")
        assert decoder.run(Task(str(good), None, (Poster(),), str(tmp_path / "out"), "good", LIMITS), 60).outputs
    finally:
        decoder.stop()


def test_what_another_attempt_cannot_mend_is_not_tried_again() -> None:
    assert Reason.DAMAGED not in RETRIED
    assert Reason.MEMORY_LIMIT not in RETRIED
    assert Reason.CRASHED in RETRIED
