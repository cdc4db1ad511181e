from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_workers import storyboard, video
from gpu_workers.storyboard import Board
from schemas.videos import Kind, Storyboard
from tests.clips import Cue, Picture, cues, ffmpeg, load, small, tile, times
from tests.gpu_workers.conftest import Maker

STEP = 4  # of lightness between two frames of a clip that counts


def counting(path: Path, frames: int, *options: str, pace: str = "N/25") -> Path:
    """A clip whose frame N has the lightness 16 + 4 N, shown at `pace` seconds."""
    luma = f"geq=lum='16+{STEP}*N':cb=128:cr=128"
    source = f"color=black:s=64x64:r=25:d={frames / 25},format=yuv420p,{luma},setpts='({pace})/TB'"
    ffmpeg("-f", "lavfi", "-i", source, "-fps_mode", "passthrough", "-c:v", "libx264", "-qp", "1", *options, path)
    return path


def number(picture: Picture) -> int:
    """Which frame of a counting clip a picture shows; full-range pictures of limited-range code values."""
    return round(float(picture[16:48, 16:48].mean()) * 219 / 255 / STEP)


def whole(found: list[Cue], duration: float) -> None:
    """The cues follow one another from 0 to the end."""
    assert found[0].start == 0.0
    assert found[-1].end == pytest.approx(duration, abs=0.002)
    for before, after in pairwise(found):
        assert before.end == after.start
    for cue in found:
        assert cue.start < cue.end


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="from zero"),
        pytest.param(("-output_ts_offset", "5"), id="from five seconds"),
        pytest.param(("-bf", "3", "-g", "12"), id="reordered"),
    ],
)
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("pace", ["N/25", "N*N*0.004"])
def test_every_tile_shows_the_frame_that_is_on_screen_when_its_cue_begins(
    options: tuple[str, ...], ending: str, pace: str, tmp_path: Path, thumbnails: Maker, out: Path
) -> None:
    clip = counting(tmp_path / f"clip.{ending}", 50, *options, pace=pace)
    made = thumbnails(clip, Storyboard(width=64))
    shown = times(clip)
    found = cues(out / "storyboard-64.vtt")
    sheet = load(out / "storyboard-64.jpg")
    whole(found, made.source.duration)
    assert len(found) >= 2
    for cue in found:
        assert cue.image == "storyboard-64.jpg"
        assert cue.start == pytest.approx(shown[number(tile(sheet, cue))], abs=0.002)


def test_a_long_clip_is_told_by_its_keyframes(
    tmp_path: Path, thumbnails: Maker, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "EXACT_PIXELS", 0)
    clip = small(tmp_path / "clip.mp4", "-g", "50", "-sc_threshold", "0", size="64x64", seconds=60)
    made = thumbnails(clip, Storyboard())
    found = cues(out / "storyboard-160.vtt")
    whole(found, made.source.duration)
    assert [cue.start for cue in found] == pytest.approx([2.0 * n for n in range(30)])


def test_where_keyframes_are_rare_the_frames_between_them_are_shown(
    tmp_path: Path, thumbnails: Maker, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "EXACT_PIXELS", 0)
    rare = ("-g", "1000", "-sc_threshold", "0")
    clip = small(tmp_path / "clip.mp4", *rare, size="64x64", seconds=60)  # keyframes at 0 and 40 s
    made = thumbnails(clip, Storyboard(tiles=20))
    found = cues(out / "storyboard-160.vtt")
    whole(found, made.source.duration)
    starts = [cue.start for cue in found]
    assert {0.0, 40.0} < set(starts)
    assert max(after - before for before, after in pairwise([*starts, 60.0])) <= video.GAP + 3.0


def test_a_clip_that_does_not_tell_its_duration_is_measured(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    # Written to a pipe, Matroska has neither a duration nor an index.
    data = ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:d=3", "-c:v", "libx264", "-g", "10", "-f", "matroska", "-")
    clip = tmp_path / "clip.mkv"
    clip.write_bytes(data)
    made = thumbnails(clip, Storyboard())
    assert made.source.duration == pytest.approx(3.0, abs=0.1)
    whole(cues(out / "storyboard-160.vtt"), made.source.duration)


def test_a_single_frame_is_a_storyboard_of_one_tile(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    made = thumbnails(small(tmp_path / "clip.mp4", "-frames:v", "1"), Storyboard())
    (cue,) = cues(out / "storyboard-160.vtt")
    assert cue.box == (0, 0, 160, 120)
    assert [output.kind for output in made.outputs] == [Kind.STORYBOARD, Kind.WEBVTT, Kind.TILES]
    assert (made.outputs[0].width, made.outputs[0].height) == (160, 120)


@given(st.floats(0, 1e6), st.integers(1, 100))
def test_times_rise_from_the_start_and_end_before_the_video_does(duration: float, tiles: int) -> None:
    found = storyboard.times(duration, tiles)
    assert found[0] == 0.0
    assert 1 <= len(found) <= tiles
    assert all(after - before >= storyboard.SHORTEST * 0.999 for before, after in pairwise(found))
    assert found[-1] < max(duration, 1e-9)


@given(st.lists(st.floats(0, 9e4), min_size=1, max_size=100), st.floats(0, 1e5))
def test_cues_follow_one_another_whatever_the_times(starts: list[float], end: float) -> None:
    text = storyboard.webvtt(Board(tuple(sorted(starts)), end, (160, 90), ("sheet.jpg",)))
    clocks = [line.split(" --> ") for line in text.splitlines() if "-->" in line]
    assert len(clocks) == len(starts)
    assert clocks[0][0] == "00:00:00.000"
    for before, after in pairwise(clocks):
        assert before[1] == after[0]
    assert all(first < last for first, last in clocks if len(first) == len(last))


def test_tiles_lie_row_by_row() -> None:
    tiles = [np.full((9, 16, 3), value, np.uint8) for value in range(10, 15)]
    sheet = storyboard.sheet(tiles)
    assert sheet.shape == (18, 48, 3)
    assert sheet[0, 47, 0] == 12
    assert sheet[9, 0, 0] == 13
    assert sheet[17, 47].tolist() == [0, 0, 0]
