from __future__ import annotations

from pathlib import Path

import pytest

from gpu_workers.inputs import regular_file
from gpu_workers.router import Work, cheapest, work
from gpu_workers.video import open_video
from schemas.videos import Engine
from tests.clips import small
from tests.gpu_workers.conftest import LIMITS


@pytest.mark.parametrize(
    ("wanted", "engine"),
    [  # seconds seen: cpu 0.13, cuda 0.21; cpu 0.80, cuda 0.66; cpu 2.10, cuda 1.69 (tests/gpu/RESULTS.md)
        (Work("h264", False, True, 300 * 0.2304), Engine.CPU),
        (Work("h264", False, True, 300 * 2.0736), Engine.CUDA),
        (Work("h264", False, True, 900 * 2.0736), Engine.CUDA),
        (Work("h264", False, False, 900 * 2.0736), Engine.CPU),  # keyframes alone
        (Work("hevc", False, True, 300 * 2.0736), Engine.CUDA),  # 1.04, 0.36
        (Work("hevc", True, True, 150 * 8.2944), Engine.CUDA),  # 3.10, 0.68
        (Work("hevc", True, True, 30 * 0.04), Engine.CPU),  # 0.03, 0.28
        (Work("h264", True, True, 900 * 2.0736), Engine.CPU),
        (Work("av1", False, True, 900 * 2.0736), Engine.CPU),
    ],
)
def test_the_engine_is_the_one_that_was_seen_to_be_faster(wanted: Work, engine: Engine) -> None:
    assert cheapest(wanted) is engine


def test_work_is_all_frames_of_a_short_video(tmp_path: Path) -> None:
    clip = small(tmp_path / "clip.mp4", seconds=2.0, size="320x240", rate=25)
    with regular_file(str(clip), None, LIMITS) as file, open_video(file, LIMITS) as video:
        wanted = work(video, [0.0, 1.0])
    assert (wanted.codec, wanted.deep, wanted.every) == ("h264", False, True)
    assert wanted.megapixels == pytest.approx(50 * 0.0768, rel=0.05)


def test_work_is_the_keyframes_of_a_long_one(media: Path) -> None:
    clip = media / "long_1080p_lowbitrate.mp4"
    if not clip.is_file():
        pytest.skip("the clip is not there")
    with regular_file(str(clip), None, LIMITS) as file, open_video(file, LIMITS) as video:
        wanted = work(video, [float(second) for second in range(100)])
    assert not wanted.every
    assert wanted.megapixels == pytest.approx(100 * 2.0736)
