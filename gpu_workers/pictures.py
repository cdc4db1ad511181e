"""From a decoded frame to a picture: scaled, in sRGB, the right way round.

Scaling is done on the frame's own code values (swscale, bicubic, accurate rounding), colour on the small picture. A
frame in a GPU's memory is fetched first, so whatever decoded it, the rest of its way is the same.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av.filter
import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from gpu_workers.colour import Colour, colour, to_srgb
from gpu_workers.geometry import Orientation, Size

SCALING = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
FULL = 2  # AVCOL_RANGE_JPEG
LIMITED = 1


def picture(frame: VideoFrame, size: Size, turn: Orientation, coded: Size | None = None) -> npt.NDArray[np.uint8]:
    """The frame as it is to be shown, in sRGB, shape (height, width, 3), scaled to `size` (width, height).

    `coded`: the size of the frames for which `size` is right; one of another shape, as a stream may have on its way, is
    shown whole, with black beside it. What is transparent shows black.
    """
    width, height = (size[1], size[0]) if turn.swaps else size
    shape = (width, height) if coded is None else _within((width, height), coded, (frame.width, frame.height))
    meaning = colour_of(frame)
    frame = fetched(frame)
    if frame.interlaced_frame and frame.height >= 4:
        frame = one_field(frame)
    alpha = frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)
    form = ("rgba" if alpha else "rgb24") if frame.format.is_rgb else "yuva444p16le" if alpha else "yuv444p16le"
    # The same matrix and range on both sides: swscale shall change the size and nothing else.
    values = VideoReformatter().reformat(
        frame,
        *shape,
        form,
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=FULL if meaning.full_range else LIMITED,
        dst_color_range=FULL if meaning.full_range else LIMITED,
        interpolation=SCALING,
        threads=1,
    )
    deep = np.asarray(planes(values) if form.startswith("yuv") else values.to_ndarray(), np.uint16)
    if form.startswith("rgb"):
        deep = deep << np.uint16(8)
    shown = to_srgb(deep[..., :3], meaning)
    if alpha:
        shown = (shown * (deep[..., 3:] / np.float32(65535 if form.startswith("yuv") else 65280)) + 0.5).astype(
            np.uint8
        )
    if shape != (width, height):
        whole = np.zeros((height, width, 3), np.uint8)
        left, top = (width - shape[0]) // 2, (height - shape[1]) // 2
        whole[top : top + shape[1], left : left + shape[0]] = shown
        shown = whole
    return turn.apply(shown)


def planes(frame: VideoFrame) -> npt.NDArray[np.uint16]:
    """The planes of a frame in 4:4:4 of 16 bits, side by side: shape (height, width, planes)."""
    lines = [np.asarray(memoryview(plane)).view("<u2").reshape(plane.height, -1) for plane in frame.planes]
    return np.stack([line[:, : frame.width] for line in lines], axis=-1)


def _within(size: Size, usual: Size, coded: Size) -> Size:
    """The part of `size`, which frames of the size `usual` fill, that one of the size `coded` takes."""
    ratio = Fraction(coded[0] * usual[1], coded[1] * usual[0])
    if ratio == 1:
        return size
    if ratio > 1:  # wider
        return size[0], max(1, round(size[1] / ratio))
    return max(1, round(size[0] * ratio)), size[1]


def stored(frame: VideoFrame) -> VideoFormat:
    """The format of a frame's samples, wherever they lie."""
    return frame.sw_format or frame.format


def fetched(frame: VideoFrame) -> VideoFrame:
    """The frame in this process's memory."""
    return frame if frame.sw_format is None else frame.reformat(format=stored(frame).name)


def colour_of(frame: VideoFrame) -> Colour:
    """The meaning of a frame's code values."""
    form = stored(frame)
    rgb = form.is_rgb
    full = frame.color_range == FULL or form.name.startswith("yuvj")
    return colour(
        matrix=frame.colorspace,
        full_range=full,
        bits=8 if rgb else max(component.bits for component in form.components),
        transfer=frame.color_trc,
        primaries=frame.color_primaries,
        width=frame.width,
        height=frame.height,
        rgb=rgb,
    )


def codes(frame: VideoFrame) -> tuple[npt.NDArray[Any], ...]:
    """Y, Cb and Cr of a frame in 4:2:0 in this process's memory as they are coded, whichever way they are laid out."""
    form, half = frame.format, (frame.width + 1) // 2
    kind = np.uint16 if form.components[0].bits > 8 else np.uint8
    lines: list[npt.NDArray[Any]] = [
        np.asarray(memoryview(plane)).view(kind).reshape(plane.height, -1) for plane in frame.planes
    ]
    luma = lines[0][:, : frame.width]
    if form.name not in ("nv12", "p010le"):
        return luma, lines[1][:, :half], lines[2][:, :half]
    shift = 6 if form.name == "p010le" else 0  # 10 bits at the upper end of 16
    chroma = lines[1][:, : 2 * half]
    return luma >> shift, chroma[:, ::2] >> shift, chroma[:, 1::2] >> shift


def one_field(frame: VideoFrame) -> VideoFrame:
    """The first field of an interlaced frame, half as high: it has no combs."""
    return filtered(frame, "field", "top")


def filtered(frame: VideoFrame, name: str, options: str) -> VideoFrame:
    """The frame as it comes out of one of FFmpeg's filters."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    step = graph.add(name, options)
    sink = graph.add("buffersink")
    source.link_to(step)
    step.link_to(sink)
    graph.configure()
    source.push(frame)
    out = sink.pull()
    assert isinstance(out, VideoFrame)
    return out
