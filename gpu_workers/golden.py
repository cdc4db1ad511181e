"""Clips whose right picture is known, made by FFmpeg's own encoders for the self-test of a GPU.

Every clip shows 24 patches, six in a row, dark and light ones so placed that no turn or mirror image looks alike. A
textured block moves between two rows of them, so that frames refer to one another. Heights differ modulo 32, as the
historic address error depended on that.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from gpu_workers.colour import LUMA, Matrix
from gpu_workers.geometry import Size
from gpu_workers.pictures import FULL, LIMITED

COLUMNS, ROWS = 6, 4
RATE, FRAMES = 25, 8
BLOCK = 48  # pixels, side of what moves

# In sRGB; the first two are black and white.
PATCHES: tuple[tuple[int, int, int], ...] = (
    *((0, 0, 0), (255, 255, 255), (40, 44, 60), (60, 56, 52), (90, 40, 40), (40, 80, 50)),
    *((52, 52, 120), (110, 70, 40), (80, 80, 80), (120, 100, 60), (150, 60, 70), (60, 130, 80)),
    *((70, 110, 170), (128, 128, 128), (170, 120, 60), (140, 140, 70), (110, 150, 150), (180, 110, 140)),
    *((200, 180, 60), (120, 190, 120), (150, 180, 220), (220, 160, 130), (190, 190, 190), (225, 220, 200)),
)


@dataclass(frozen=True, slots=True)
class Golden:
    """How a clip is coded."""

    name: str
    encoder: str
    pixels: str
    size: Size
    matrix: Matrix
    full_range: bool


CLIPS = (
    Golden("h264 BT.709", "libx264", "yuv420p", (768, 512), Matrix.BT709, False),
    Golden("h264 BT.601 full range", "libx264", "yuv420p", (800, 528), Matrix.SMPTE170M, True),
    Golden("h264 BT.601", "libx264", "yuv420p", (856, 450), Matrix.SMPTE170M, False),
    Golden("hevc BT.709 10 bit", "libx265", "yuv420p10le", (768, 540), Matrix.BT709, False),
)


def picture(size: Size) -> npt.NDArray[np.uint8]:
    """The patches, shape (height, width, 3)."""
    across = np.arange(size[0]) * COLUMNS // size[0]
    down = np.arange(size[1]) * ROWS // size[1]
    return np.array(PATCHES, np.uint8).reshape(ROWS, COLUMNS, 3)[down[:, None], across]


def middles(shown: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The mean colours of the patches' middles in a picture of any size; shape (24, 1, 3)."""
    height, width, _ = shown.shape
    found = []
    for row in range(ROWS):
        for column in range(COLUMNS):
            top, left = round((row + 0.3) * height / ROWS), round((column + 0.3) * width / COLUMNS)
            bottom, right = round((row + 0.7) * height / ROWS), round((column + 0.7) * width / COLUMNS)
            found.append(shown[top : max(bottom, top + 1), left : max(right, left + 1)].reshape(-1, 3).mean(0))
    return np.round(np.array(found)).astype(np.uint8)[:, None]


def write(clip: Golden, path: Path) -> None:
    """Makes the clip. Raises av.error.FFmpegError, or ValueError where FFmpeg was built without the encoder."""
    with av.open(str(path), "w", format="mp4") as container:
        options = {"crf": "4", "preset": "medium", "x265-params": "log-level=none"}
        if clip.encoder != "libx265":
            del options["x265-params"]
        stream = container.add_stream(clip.encoder, rate=RATE, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = clip.size
        stream.pix_fmt = clip.pixels
        context = stream.codec_context
        context.colorspace, context.color_range = int(clip.matrix), FULL if clip.full_range else LIMITED
        context.color_primaries = context.color_trc = int(Matrix.BT709)
        context.time_base = Fraction(1, RATE)
        for number in range(FRAMES):
            frame = VideoFrame.from_ndarray(samples(_moved(picture(clip.size), number), clip), clip.pixels)
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def samples(rgb: npt.NDArray[np.uint8], clip: Golden) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """A picture as code values by H.273: the planes of 4:2:0 below each other, as PyAV takes them."""
    bits = 10 if clip.pixels.endswith("10le") else 8
    red, blue = LUMA[clip.matrix]
    r, g, b = (rgb[..., plane] / 255 for plane in range(3))
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    unit, most = 1 << (bits - 8), (1 << bits) - 1
    black, luma, chroma = (0, most, most) if clip.full_range else (16 * unit, 219 * unit, 224 * unit)
    small = [(c[::2, ::2] + c[1::2, ::2] + c[::2, 1::2] + c[1::2, 1::2]) / 4 for c in (cb, cr)]
    planes = [black + luma * y, *(128 * unit + chroma * c for c in small)]
    kind = np.uint8 if bits == 8 else np.uint16
    coded = np.concatenate([np.clip(np.round(plane), 0, most).astype(kind).ravel() for plane in planes])
    return coded.reshape(-1, rgb.shape[1])


def _moved(patches: npt.NDArray[np.uint8], number: int) -> npt.NDArray[np.uint8]:
    """With the block where it is in frame `number`: on the border of the second row."""
    texture = np.random.default_rng(7).integers(40, 216, (BLOCK // 8, BLOCK // 8, 3), np.uint8)
    block = np.repeat(np.repeat(texture, 8, 0), 8, 1)
    top, left = patches.shape[0] // 2 - BLOCK // 2, 16 + 9 * number
    patches[top : top + BLOCK, left : left + BLOCK] = block
    return patches
