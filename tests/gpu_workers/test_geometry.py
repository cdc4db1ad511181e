from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_workers.geometry import TALLEST, Orientation, display, fit, grid, orientation, pixel_aspect
from schemas.outputs import At, Poster, Storyboard
from tests.clips import as_shown, ffmpeg, load, small, still
from tests.gpu_workers.conftest import Maker

ONE = 1 << 16
# The eight ways in which a picture can lie, as the two by two part of a display matrix.
MATRICES = {
    "upright": (1, 0, 0, 1),
    "clockwise": (0, 1, -1, 0),
    "upside down": (-1, 0, 0, -1),
    "counter-clockwise": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "flipped": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transversed": (0, -1, -1, 0),
}

sides = st.integers(1, 8192)


@pytest.mark.parametrize(
    ("shown", "width", "size"),
    [
        ((1920, 1080), 1280, (1280, 720)),
        ((1920, 1080), 160, (160, 90)),
        ((640, 360), 1280, (640, 360)),
        ((161, 121), 1280, (160, 120)),
        ((2160, 3840), 1280, (1280, 2276)),
        ((100, 4000), 160, (8, 320)),
        ((1, 1), 160, (1, 1)),
        ((4000, 3), 160, (160, 2)),
    ],
)
def test_a_picture_is_made_at_a_size(shown: tuple[int, int], width: int, size: tuple[int, int]) -> None:
    assert fit(shown, width) == size


@given(sides, sides, st.integers(16, 4096))
def test_sizes_are_even_never_larger_than_the_source_and_keep_the_aspect(width: int, height: int, asked: int) -> None:
    made = fit((width, height), asked)
    scale = min(1, asked / width, TALLEST * asked / height)
    for length, source in zip(made, (width, height), strict=True):
        assert 1 <= length <= source
        assert length % 2 == 0 or source == 1
        assert abs(length - source * scale) <= 1 + 1e-9 or length == 2
    assert made[0] <= max(asked, 2)


def test_pixels_that_are_not_square_are_stretched_never_shrunk() -> None:
    assert display((720, 576), Fraction(64, 45), Orientation()) == (1024, 576)
    assert display((720, 576), Fraction(64, 45), Orientation(1)) == (576, 1024)
    assert display((1440, 1080), Fraction(3, 4), Orientation()) == (1440, 1440)
    assert pixel_aspect(None) == pixel_aspect(Fraction(0)) == pixel_aspect(Fraction(1000, 1)) == 1


def test_a_sheet_is_nearly_square_and_holds_all_tiles() -> None:
    assert grid(100) == (10, 10)
    assert grid(1) == (1, 1)
    assert grid(7) == (3, 3)
    for tiles in range(1, 101):
        columns, rows = grid(tiles)
        assert columns * (rows - 1) < tiles <= columns * rows
        assert columns <= 10


@pytest.mark.parametrize(
    ("name", "rotation"), [("upright", 0), ("clockwise", -90), ("upside down", 180), ("counter-clockwise", 90)]
)
def test_rotation_is_told_as_ffprobe_tells_it(name: str, rotation: int) -> None:
    a, b, c, d = MATRICES[name]
    assert orientation((a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)).rotation == rotation


@pytest.mark.parametrize("matrix", [(0,) * 9, (0, 0, 0, ONE, 0, 0, 0, 0, 0)])
def test_a_matrix_without_sense_turns_nothing(matrix: tuple[int, ...]) -> None:
    assert orientation(matrix) == orientation(None) == Orientation()


@pytest.mark.parametrize("name", MATRICES)
def test_a_turned_or_mirrored_clip_is_shown_as_other_players_show_it(
    name: str, tmp_path: Path, thumbnails: Maker, out: Path
) -> None:
    corners = np.zeros((96, 160, 3), np.uint8)
    corners[:48, :80], corners[:48, 80:], corners[48:, :80], corners[48:, 80:] = (
        (220, 30, 30),
        (30, 200, 30),
        (30, 30, 220),
        (230, 230, 230),
    )
    upright = still(tmp_path / "upright.mp4", corners, "-c:v", "libx264", "-pix_fmt", "yuv420p")
    clip = tmp_path / "clip.mp4"
    a, b, c, d = MATRICES[name]
    with av.open(str(upright)) as source, av.open(str(clip), "w") as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        stream.set_display_matrix([a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                sink.mux(packet)
    shown = as_shown(clip)
    made = thumbnails(clip, Poster(), Storyboard())
    poster = load(out / "poster-1280.jpg")
    assert poster.shape == shown.shape
    assert (made.outputs[0].width, made.outputs[0].height) == (shown.shape[1], shown.shape[0])
    assert np.abs(poster.astype(int) - shown.astype(int)).mean() < 3
    assert (made.source.width, made.source.height) == (160, 96)


def test_an_odd_clip_loses_a_pixel_and_no_colour(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    picture = np.full((121, 161, 3), (200, 40, 60), np.uint8)
    made = thumbnails(still(tmp_path / "odd.mkv", picture, "-c:v", "libx264", "-pix_fmt", "yuv444p"), Poster())
    poster = load(out / "poster-1280.jpg")
    assert (made.outputs[0].width, made.outputs[0].height) == (160, 120)
    assert np.abs(poster.reshape(-1, 3).astype(int) - (200, 40, 60)).max() <= 6


def test_an_anamorphic_clip_gets_square_pixels(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    clip = small(tmp_path / "pal.mp4", "-vf", "setsar=64/45", size="180x144", seconds=0.4)
    made = thumbnails(clip, Poster())
    assert (made.outputs[0].width, made.outputs[0].height) == (256, 144)
    assert load(out / "poster-1280.jpg").shape == (144, 256, 3)
    assert (made.source.width, made.source.height) == (180, 144)


def test_an_interlaced_clip_has_no_combs(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    # Even lines white, odd lines black: as one field it is white all over.
    comb = np.zeros((128, 128, 3), np.uint8)
    comb[::2] = 235
    tags = ("-flags", "+ilme+ildct", "-top", "1", "-c:v", "mpeg2video", "-q:v", "1", "-pix_fmt", "yuv422p")
    thumbnails(still(tmp_path / "interlaced.mpg", comb, *tags), Poster())
    poster = load(out / "poster-1280.jpg").astype(int)
    assert np.abs(np.diff(poster[:, :, 1], axis=0)).max() < 40
    assert poster.mean() > 200


def test_a_stream_that_changes_its_shape_is_shown_whole(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    one, wide = (
        small(tmp_path / "one.ts", size="160x120"),
        small(tmp_path / "wide.ts", "-output_ts_offset", "2", size="320x120"),
    )
    both = tmp_path / "both.ts"
    both.write_bytes(one.read_bytes() + wide.read_bytes())
    thumbnails(both, At(times=(1.0, 3.0)))
    assert load(out / "at-640-001.jpg").mean((1, 2)).min() > 5
    second = load(out / "at-640-002.jpg")
    assert second.shape == (120, 160, 3)
    rows = second.mean((1, 2))
    assert max(rows[:29].max(), rows[-29:].max()) < 5 < rows[31:-31].min()


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("mov", ("-c:v", "qtrle")),
        ("mov", ("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le")),
        ("webm", ("-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0", "-b:v", "2M")),
        ("webm", ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0", "-b:v", "2M")),
    ],
)
def test_what_is_transparent_is_black(
    ending: str, options: tuple[str, ...], tmp_path: Path, thumbnails: Maker, out: Path
) -> None:
    clip = tmp_path / f"clip.{ending}"
    source = (
        "color=white:s=160x120:r=25:d=0.4,format=rgba,geq=r=240:g=240:b=240:a='if(lt(X,80),255,if(lt(Y,60),128,0))'"
    )
    ffmpeg("-f", "lavfi", "-i", source, *options, clip)
    thumbnails(clip, Poster())
    poster = load(out / "poster-1280.jpg").astype(int)
    for place, value in (((slice(10, 110), slice(10, 70)), 240), ((slice(10, 50), slice(90, 150)), 120)):
        assert abs(poster[place].mean() - value) < 6
    assert poster[70:110, 90:150].mean() < 6
