from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from gpu_workers import choice
from gpu_workers.choice import Candidate, judge, ranked, transition
from schemas.outputs import Poster, Rule, Score
from tests.clips import Picture, ffmpeg, load, small
from tests.gpu_workers.conftest import Maker


def scene() -> Picture:
    """Something to see: a gradient with structure and colour."""
    generator = np.random.default_rng(7)
    base = generator.integers(0, 255, (18, 32, 3), np.uint8)
    return np.asarray(Image.fromarray(base).resize((128, 72), Image.Resampling.BICUBIC))


def score(picture: Picture) -> Score:
    """A picture's score, but for its typicality."""
    return judge(0.0, picture).score


def best(*pictures: Picture) -> int:
    """Which of several pictures wins."""
    return round(ranked([judge(float(number), picture) for number, picture in enumerate(pictures)])[0].time)


def blurred(picture: Picture, radius: float) -> Picture:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


@pytest.mark.parametrize(("value", "why"), [(0, "black"), (12, "black"), (255, "white"), (128, "flat")])
def test_frames_without_a_picture_are_vetoed(value: int, why: str) -> None:
    assert score(np.full((72, 128, 3), value, np.uint8)).vetoed == why


def test_a_sharp_frame_beats_a_blurred_one_and_a_colourful_one_a_grey_one() -> None:
    sharp = scene()
    grey = np.repeat(sharp.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    assert score(sharp).vetoed == ""
    assert score(sharp).value > score(blurred(sharp, 2)).value > score(blurred(sharp, 6)).value
    assert best(grey, blurred(sharp, 2), sharp) == 2


def test_what_is_out_of_focus_is_vetoed_and_what_is_merely_soft_is_not() -> None:
    assert score(blurred(scene(), 1)).vetoed == ""
    assert score(blurred(scene(), 6)).vetoed == "blurred"


def test_a_vetoed_frame_never_beats_one_that_is_not() -> None:
    dull = blurred(scene(), 1)
    noise = np.random.default_rng(1).integers(0, 30, (72, 128, 3), np.uint8)
    assert score(noise).vetoed == "black"
    assert best(noise, dull, noise) == 1
    assert best(noise) == 0  # and alone it is the poster all the same


def test_of_frames_as_good_the_one_that_is_like_the_others_wins_and_of_the_same_the_first() -> None:
    usual = scene()
    odd = np.ascontiguousarray(usual[..., ::-1])
    assert best(odd, usual, usual) == 1
    typical = [one.score.typicality for one in ranked([judge(float(n), p) for n, p in enumerate((odd, usual, usual))])]
    assert typical[0] == typical[1] > typical[2] >= 0


def candidate(time: float) -> Candidate:
    return judge(time, scene())


def test_times_break_ties() -> None:
    assert [one.time for one in ranked([candidate(3.0), candidate(1.0), candidate(2.0)])] == [1.0, 2.0, 3.0]


def test_fades_and_dissolves_are_transitions_and_motion_cuts_and_stills_are_not() -> None:
    one, other = scene().astype(float), np.roll(scene(), 40, 1)[::-1].astype(float)

    def mixed(shares: list[float]) -> list[Picture]:
        return [(one * (1 - share) + other * share).astype(np.uint8) for share in shares]

    assert transition(mixed([0.1, 0.2, 0.3]))
    assert transition([(one * share).astype(np.uint8) for share in (0.9, 0.8, 0.7)])
    assert not transition(mixed([0.0, 0.0, 0.0]))
    assert not transition(mixed([0.0, 0.0, 1.0]))
    assert not transition([np.roll(scene(), 3 * number, 1) for number in range(3)])


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


def test_a_poster_tells_its_score(tmp_path: Path, thumbnails: Maker) -> None:
    (poster,) = thumbnails(small(tmp_path / "clip.mp4"), Poster()).outputs
    assert poster.score is not None
    parts = poster.score
    assert parts.value == pytest.approx(
        parts.detail / 8 + parts.sharpness + parts.colourfulness / 2 + parts.typicality / 2, abs=0.001
    )


def test_a_clip_of_dissolves_gets_a_poster_of_one_of_its_scenes(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    """Two scenes, three seconds each, and a dissolve of two seconds between them."""
    clip = tmp_path / "clip.mp4"
    ffmpeg(
        *("-f", "lavfi", "-i", "mandelbrot=s=320x180:r=25:start_scale=0.3,trim=end_frame=1"),
        *("-f", "lavfi", "-i", "testsrc=s=320x180:r=25:d=1,trim=end_frame=1"),
        "-filter_complex",
        "[0]loop=124:1,setpts=N/25/TB,fps=25[a];[1]loop=124:1,setpts=N/25/TB,fps=25[b];"
        "[a][b]xfade=duration=2:offset=3,format=yuv420p",
        *("-c:v", "libx264", "-g", "25", clip),
    )
    made = thumbnails(clip, Poster())
    assert made.source.duration == pytest.approx(8.0, abs=0.1)
    time = made.outputs[0].time
    assert time < 3.05 or time > 4.9


def test_a_clip_that_is_mostly_out_of_focus_gets_a_poster_that_is_not(tmp_path: Path, thumbnails: Maker) -> None:
    clip = tmp_path / "clip.mp4"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=10"),
        *("-vf", "gblur=sigma=14:enable='not(between(t,6,8))'", "-c:v", "libx264", "-g", "25", clip),
    )
    assert 6.0 <= thumbnails(clip, Poster()).outputs[0].time <= 8.04


def test_ffmpegs_own_rule_gives_ffmpegs_own_answer(tmp_path: Path, thumbnails: Maker) -> None:
    """In RGB, where all releases of the filter count the same."""
    clip, theirs = tmp_path / "clip.mkv", tmp_path / "theirs.txt"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=5", "-vf", "hue=h=40*t*t", "-pix_fmt", "bgr0"),
        *("-c:v", "libx264rgb", "-qp", "0", clip),
    )
    chain = f"format=rgb24,thumbnail=100,metadata=mode=add:key=a:value=b,metadata=print:file={theirs}"
    ffmpeg("-i", clip, "-vf", chain, "-frames:v", "1", "-f", "null", "-")
    (poster,) = thumbnails(clip, Poster(rule=Rule.THUMBNAIL)).outputs
    assert poster.time == pytest.approx(float(theirs.read_text().split("pts_time:")[1].split()[0]), abs=0.001)
    assert poster.path == "poster-1280-thumbnail.jpg"
    assert poster.score is None


def test_the_same_clip_gives_the_same_bytes(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    clip = small(tmp_path / "clip.mp4")
    first = thumbnails(clip)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    second = thumbnails(clip)
    assert first.outputs == second.outputs
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert set(before) == {"poster-1280.jpg", "storyboard-160.jpg", "storyboard-160.vtt", "storyboard-160.json"}
