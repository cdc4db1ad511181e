from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_workers.colour import Colour, Matrix, Primaries, Transfer, colour, to_srgb
from schemas.videos import Poster
from tests.clips import Picture, ffmpeg, load, means, patches, still
from tests.gpu_workers.conftest import Maker

COLOURS = [(200, 30, 40), (40, 180, 60), (30, 50, 190), (210, 190, 40), (128, 128, 128), (235, 235, 235)]
NEAR = 4.0  # of 255, JPEG included
FLAT = ("-c:v", "libx264", "-qp", "0")
TAGS = {"bt709": "bt709", "smpte170m": "smpte170m", "bt470bg": "bt470bg", "bt2020nc": "bt2020nc"}
SCALED = {"bt709": "bt709", "smpte170m": "bt601", "bt470bg": "bt601", "bt2020nc": "bt2020"}


def coded(path: Path, matrix: str, full: bool, pixels: str, *, tagged: bool = True, size: int = 64) -> Path:
    """The patches, coded by ffmpeg with this matrix and range, and saying so."""
    span = "pc" if full else "tv"
    scale = f"scale=out_color_matrix={SCALED[matrix]}:out_range={span}:flags=accurate_rnd+full_chroma_int"
    tags = ("-colorspace", matrix, "-color_range", span) if tagged else ()
    return still(path, patches(COLOURS, size), "-vf", f"{scale},format={pixels}", *FLAT, *tags)


def off(poster: Picture, wanted: list[tuple[int, int, int]], side: int = 64) -> float:
    """The largest difference of a patch's mean colour."""
    return max(
        abs(seen - meant)
        for mean, rgb in zip(means(poster, side), wanted, strict=True)
        for seen, meant in zip(mean, rgb, strict=True)
    )


@pytest.mark.parametrize("matrix", SCALED)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "yuv444p"])
def test_every_matrix_range_and_depth_gives_the_same_colours(
    matrix: str, full: bool, pixels: str, tmp_path: Path, thumbnails: Maker, out: Path
) -> None:
    thumbnails(coded(tmp_path / "clip.mp4", matrix, full, pixels), Poster())
    assert off(load(out / "poster-1280.jpg"), COLOURS) <= NEAR


@pytest.mark.parametrize(("matrix", "size"), [("bt709", 440), ("smpte170m", 64)])
def test_a_clip_that_does_not_say_is_taken_by_its_size(
    matrix: str, size: int, tmp_path: Path, thumbnails: Maker, out: Path
) -> None:
    clip = coded(tmp_path / "clip.mp4", matrix, False, "yuv420p", tagged=False, size=size)
    thumbnails(clip, Poster(width=3 * size))
    assert off(load(out / f"poster-{3 * size}.jpg"), COLOURS, size) <= NEAR


def test_a_clip_in_rgb_stays_as_it_is(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    clip = still(tmp_path / "clip.mkv", patches(COLOURS), "-c:v", "ffv1", "-pix_fmt", "gbrp")
    thumbnails(clip, Poster())
    assert off(load(out / "poster-1280.jpg"), COLOURS) <= NEAR


def test_a_grey_clip_stays_grey(tmp_path: Path, thumbnails: Maker, out: Path) -> None:
    greys = [(16, 16, 16), (80, 80, 80), (200, 200, 200)]
    clip = still(tmp_path / "clip.mkv", patches(greys), "-c:v", "ffv1", "-pix_fmt", "gray", "-color_range", "pc")
    thumbnails(clip, Poster())
    assert off(load(out / "poster-1280.jpg"), greys) <= NEAR


# HDR. The clips are made from light by the formulas of the standards, written here once more.

Light = npt.NDArray[np.float64]
BT709_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def srgb(light: Light) -> Light:
    return np.asarray(np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255)


def pq(nits: Light) -> Light:
    y = (nits / 10_000) ** (2610 / 16384)
    return np.asarray(((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32))


def hlg(nits: Light) -> Light:
    """For greys: light of a display of 1,000 cd/m2 to the signal."""
    scene = (nits / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.asarray(np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c))


def hdr(path: Path, signal: Light, transfer: str) -> Path:
    """Non-linear BT.2020 R'G'B', shape (patches, 3), as a 10-bit limited-range clip of 64-pixel squares in a row."""
    r, g, b = signal[:, 0], signal[:, 1], signal[:, 2]
    y = 0.2627 * r + 0.6780 * g + 0.0593 * b
    planes = (64 + 876 * y, 512 + 896 * (b - y) / 1.8814, 512 + 896 * (r - y) / 1.4746)
    frame = np.concatenate([np.repeat(np.repeat(np.round(p)[None], 64, 0), 64, 1).ravel() for p in planes])
    data = frame.astype("<u2").tobytes() * 3
    raw = ("-f", "rawvideo", "-pix_fmt", "yuv444p10le", "-s", f"{64 * len(signal)}x64", "-r", "25", "-i", "-")
    tags = ("-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", transfer, "-color_range", "tv")
    ffmpeg(*raw, *FLAT, "-pix_fmt", "yuv444p10le", *tags, path, data=data)
    return path


def test_light_within_the_range_of_sdr_comes_out_of_pq_as_it_went_in(
    tmp_path: Path, thumbnails: Maker, out: Path
) -> None:
    light = np.array([[0.5, 0.5, 0.5], [0.02, 0.02, 0.02], [0.4, 0.2, 0.1], [0.1, 0.3, 0.6], [0.05, 0.5, 0.05]])
    clip = hdr(tmp_path / "pq.mp4", pq(203 * light @ BT709_TO_BT2020.T), "smpte2084")
    thumbnails(clip, Poster())
    wanted = [tuple(round(float(v)) for v in row) for row in srgb(light)]
    assert off(load(out / "poster-1280.jpg"), wanted) <= NEAR  # type: ignore[arg-type]


@pytest.mark.parametrize(("transfer", "signal"), [("smpte2084", pq), ("arib-std-b67", hlg)])
def test_greys_of_hdr_keep_their_order_and_white_is_neither_dull_nor_clipped(
    transfer: str, signal: object, tmp_path: Path, thumbnails: Maker, out: Path
) -> None:
    nits = np.array([0.5, 20.3, 101.5, 203.0, 400.0, 1000.0])
    assert callable(signal)
    clip = hdr(tmp_path / "hdr.mp4", np.repeat(signal(nits)[:, None], 3, 1), transfer)
    thumbnails(clip, Poster())
    greys = [mean[1] for mean in means(load(out / "poster-1280.jpg"))]
    assert abs(greys[2] - srgb(np.array(0.5))) <= NEAR
    assert abs(greys[1] - srgb(np.array(0.1))) <= NEAR
    assert greys[0] < 20
    assert 230 <= greys[3] <= 248  # diffuse white
    assert greys[3] + 3 <= greys[4]
    assert greys[4] + 1 <= greys[5] <= 255


def test_a_wide_gamut_clip_in_sdr_is_brought_to_srgb() -> None:
    meaning = Colour(Matrix.RGB, True, 8, Transfer.SDR, Primaries.BT2020)
    green = np.array([[[0, 200 << 8, 0], [100 << 8] * 3]], np.uint16)
    shown = to_srgb(green, meaning)[0]
    assert shown[0][1] > 200  # BT.2020's green is more than sRGB has
    assert np.abs(shown[1].astype(int) - 100).max() <= 1


@given(st.integers(0, 15), st.booleans(), st.sampled_from([8, 10, 12]), st.integers(0, 18), st.integers(0, 12))
def test_whatever_a_stream_says_there_is_a_picture(
    matrix: int, full: bool, bits: int, transfer: int, primaries: int
) -> None:
    meaning = colour(
        matrix=matrix, full_range=full, bits=bits, transfer=transfer, primaries=primaries, width=640, height=360
    )
    codes = np.array([[[0, 0, 0], [65535, 65535, 65535], [65535, 0, 65535]]], np.uint16)
    shown = to_srgb(codes, meaning)
    assert shown.shape == (1, 3, 3)
    assert shown.dtype == np.uint8
