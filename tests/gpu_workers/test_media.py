"""Real clips with the properties that break thumbnails; skipped where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from schemas.videos import Poster
from tests.clips import Picture, cues, ffmpeg, load
from tests.gpu_workers.conftest import Maker

# name -> size of a poster 1280 wide, rotation, codec
CLIPS = {
    "portrait_4k60.mp4": ((1280, 2276), -90, "h264"),
    "hlg10-color-test.mp4": ((1280, 720), 0, "hevc"),
    "hdr10-video-with-sdr-container.mp4": ((1280, 720), 0, "hevc"),
    "bt601.mp4": ((360, 240), 0, "h264"),
    "exo_bear-vp9-odd-dimensions.webm": ((160, 120), 0, "vp9"),
    "tc_nasa_13013.mp4": ((480, 270), 0, "h264"),
    "tc_bt709_full_range.mp4": ((1280, 720), 0, "h264"),
    "tc_h264_10bits.mp4": ((200, 200), 0, "h264"),
    "tc_h265_10bits.mp4": ((200, 200), 0, "hevc"),
    "tc_av1_video.mkv": ((640, 360), 0, "av1"),
    "intel_car-detection.mp4": ((768, 432), 0, "h264"),
    "decord_video_90.mov": ((320, 568), -90, "h264"),
    "decord_flipping_a_pancake.mkv": ((426, 240), 0, "h264"),
    "decord_corrupted.mp4": ((1280, 720), 0, "h264"),
}


def real(media: Path, name: str) -> Path:
    clip = media / name
    if not clip.is_file():
        pytest.skip(f"{name} is not there")
    return clip


@pytest.mark.parametrize("name", CLIPS)
def test_a_real_clip_gets_a_poster_and_a_storyboard(name: str, media: Path, thumbnails: Maker, out: Path) -> None:
    size, rotation, codec = CLIPS[name]
    made = thumbnails(real(media, name))
    assert (made.outputs[0].width, made.outputs[0].height) == size
    assert (made.source.rotation, made.source.codec) == (rotation, codec)
    poster = load(out / "poster-1280.jpg")
    assert (poster.shape[1], poster.shape[0]) == size
    assert poster.std() > 10
    found = cues(out / "storyboard-160.vtt")
    assert found[0].start == 0.0
    assert found[-1].end == pytest.approx(made.source.duration, abs=0.002)


@pytest.mark.parametrize(
    ("name", "matrix", "span"),
    [
        ("bt601.mp4", "bt601", "tv"),
        ("tc_bt709_full_range.mp4", "bt709", "pc"),
        ("tc_h265_10bits.mp4", "bt601", "tv"),
        ("portrait_4k60.mp4", "bt601", "pc"),
        ("decord_video_90.mov", "bt709", "tv"),
    ],
)
def test_colours_and_orientation_are_those_of_another_decoder_everywhere(
    name: str, matrix: str, span: str, media: Path, thumbnails: Maker, tmp_path: Path, out: Path
) -> None:
    first, png = tmp_path / f"first{Path(name).suffix}", tmp_path / "theirs.png"
    ffmpeg("-i", real(media, name), "-frames:v", "1", "-an", "-c", "copy", first)  # one frame, so there is no choice
    thumbnails(first, Poster())
    mine = load(out / "poster-1280.jpg")
    scale = f"scale={mine.shape[1]}:{mine.shape[0]}:in_color_matrix={matrix}:in_range={span}:out_range=pc"
    ffmpeg("-i", first, "-vf", f"{scale}:flags=accurate_rnd+full_chroma_int,format=rgb24", "-frames:v", "1", png)
    apart = np.abs(blocks(mine) - blocks(load(png)))
    assert apart.max() < 10  # chroma of single pixels is interpolated differently
    assert apart.mean() < 3


def blocks(picture: Picture) -> npt.NDArray[np.float64]:
    """The mean colours of an 8 by 8 grid."""
    rows = np.array_split(picture.astype(float), 8, 0)
    return np.array([[part.mean((0, 1)) for part in np.array_split(row, 8, 1)] for row in rows])


def test_hdr10_agrees_with_another_tone_mapper_below_the_highlights(
    media: Path, thumbnails: Maker, tmp_path: Path, out: Path
) -> None:
    clip = real(media, "hdr10-video-with-sdr-container.mp4")
    made = thumbnails(clip, Poster(width=640))
    mine = load(out / "poster-640.jpg").astype(int)
    chain = (
        f"select=gte(t\\,{made.outputs[0].time - 0.001}),zscale=w=640:h=360,zscale=t=linear:npl=203,format=gbrpf32le,"
        "zscale=p=bt709,tonemap=clip,zscale=t=iec61966-2-1:m=gbr:r=pc,format=gbrp"
    )
    png = tmp_path / "theirs.png"
    ffmpeg("-i", clip, "-vf", chain, "-frames:v", "1", png)
    theirs = load(png).astype(int)
    below = theirs.max(2) < 200
    assert below.mean() > 0.2
    assert np.median(np.abs(mine - theirs)[below]) <= 4
    assert mine.mean() == pytest.approx(theirs.mean(), abs=25)
