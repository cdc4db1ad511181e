from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from gpu_workers import choice
from gpu_workers.choice import score
from schemas.videos import Poster
from tests.clips import Picture, ffmpeg, load, small
from tests.gpu_workers.conftest import Maker


def scene() -> Picture:
    """Something to see: a gradient with structure and colour."""
    generator = np.random.default_rng(7)
    base = generator.integers(0, 255, (18, 32, 3), np.uint8)
    return np.asarray(Image.fromarray(base).resize((128, 72), Image.Resampling.BICUBIC))


def blurred(picture: Picture, radius: float) -> Picture:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


@pytest.mark.parametrize(("value", "why"), [(0, "black"), (12, "black"), (255, "white"), (128, "flat")])
def test_frames_without_a_picture_are_vetoed(value: int, why: str) -> None:
    assert score(np.full((72, 128, 3), value, np.uint8)).vetoed == why


def test_a_sharp_frame_beats_a_blurred_one_and_a_colourful_one_a_grey_one() -> None:
    sharp = scene()
    grey = np.repeat(sharp.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    assert score(sharp).vetoed == ""
    assert score(sharp).order > score(blurred(sharp, 2)).order > score(blurred(sharp, 6)).order
    assert score(sharp).order > score(grey).order


def test_a_vetoed_frame_never_beats_one_that_is_not() -> None:
    dull = blurred(scene(), 8)
    assert score(dull).vetoed == ""
    noise = np.random.default_rng(1).integers(0, 30, (72, 128, 3), np.uint8)
    assert score(noise).vetoed == "black"
    assert score(dull).order > score(noise).order


def test_tiny_pictures_can_be_judged() -> None:
    assert score(np.full((1, 1, 3), 100, np.uint8)).vetoed == "flat"


def test_candidates_keep_away_from_both_ends() -> None:
    times = choice.times(100.0)
    assert len(times) == choice.CANDIDATES
    assert times == sorted(times)
    assert times[0] == pytest.approx(5)
    assert times[-1] == pytest.approx(95)
    assert choice.times(0.0) == [0.0]


def test_a_clip_that_is_mostly_black_gets_a_poster_that_is_not(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    black = "color=black:s=160x120:r=25:d=7"
    picture = "testsrc2=s=160x120:r=25:d=3"
    clip = tmp_path / "clip.mp4"
    ffmpeg(
        *("-f", "lavfi", "-i", black, "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", black),
        *("-filter_complex", "[0][1][2]concat=n=3", "-c:v", "libx264", clip),
    )
    made = thumbnails(clip, Poster())
    assert 7.0 <= made.outputs[0].time < 10.0
    assert load(out / "poster-1280.jpg").mean() > 60


def test_the_same_clip_gives_the_same_bytes(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    clip = small(tmp_path / "clip.mp4")
    first = thumbnails(clip)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    second = thumbnails(clip)
    assert first.outputs == second.outputs
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert set(before) == {"poster-1280.jpg", "storyboard-160.jpg", "storyboard-160.vtt"}
