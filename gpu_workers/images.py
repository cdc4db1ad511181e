"""Pictures as files: JPEG, WebP, AVIF, PNG, and animations as WebP, GIF and MP4.

All are written of sRGB arrays and nothing else, so that no EXIF, XMP, place or text of the source can be in them, and
the same array gives the same bytes. JPEG and WebP imply the matrix of BT.601 (full and limited range), AVIF names its
own; the encoders know, as they get RGB.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

from gpu_workers.pictures import FULL, LIMITED, SCALING
from schemas.outputs import Animation, Format

Picture = npt.NDArray[np.uint8]

# Quality is set so that pictures look alike; AVIF's threads would change its bytes.
OPTIONS: dict[Format, dict[str, Any]] = {
    Format.JPEG: {"quality": 88, "optimize": True, "progressive": True},
    Format.WEBP: {"quality": 86, "method": 4},
    Format.AVIF: {"quality": 75, "speed": 7, "max_threads": 1, "range": "full"},
    Format.PNG: {"compress_level": 6},
}
MP4 = {"preset": "medium", "crf": "26", "threads": "1"}
BT709 = 1  # of H.273: matrix, primaries and transfer alike


def encode(picture: Picture, form: Format) -> bytes:
    """An sRGB picture (height, width, 3) as a file's content."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, form.value.upper(), **OPTIONS[form])
    return out.getvalue()


def animate(pictures: Sequence[Picture], rate: int, form: Animation) -> bytes:
    """Pictures of one even size as an animation, `rate` of them a second, over and over where the format knows that."""
    if form is Animation.MP4:
        return _mp4(pictures, rate)
    images = [Image.fromarray(picture) for picture in pictures]
    out = io.BytesIO()
    # In whole milliseconds, whose sum is right; GIF counts in hundredths.
    unit = 10 if form is Animation.GIF else 1
    ends = [round(1000 * (number + 1) / rate / unit) * unit for number in range(len(images))]
    lasting = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    options: dict[str, Any] = {"quality": 72, "method": 3} if form is Animation.WEBP else {"optimize": False}
    if form is Animation.GIF:
        images = [image.quantize(256, dither=Image.Dither.FLOYDSTEINBERG) for image in images]
    images[0].save(
        out, form.value.upper(), save_all=True, append_images=images[1:], duration=lasting, loop=0, **options
    )
    return out.getvalue()


def _mp4(pictures: Sequence[Picture], rate: int) -> bytes:
    # A file in memory: to bring the index to the front, it is opened a second time.
    file = os.memfd_create("preview")
    try:
        _write_mp4(f"/proc/self/fd/{file}", pictures, rate)
        return os.pread(file, os.fstat(file).st_size, 0)
    finally:
        os.close(file)


def _write_mp4(path: str, pictures: Sequence[Picture], rate: int) -> None:
    height, width, _ = pictures[0].shape
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    container = av.open(path, "w", format="mp4", options=options)
    assert isinstance(container, OutputContainer)
    with container:
        stream = container.add_stream("libx264", rate=rate, options=MP4)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.color_range, context.colorspace = LIMITED, BT709
        context.color_primaries = context.color_trc = BT709
        scaler = VideoReformatter()
        for number, picture in enumerate(pictures):
            frame = scaler.reformat(
                VideoFrame.from_ndarray(picture, "rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                src_color_range=FULL,
                dst_color_range=LIMITED,
                interpolation=SCALING,
            )
            frame.pts, frame.time_base = number, Fraction(1, rate)
            frame.colorspace, frame.color_range = BT709, LIMITED
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
