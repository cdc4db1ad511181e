"""ffmpeg's command line and filter graphs for thumbnails, built with ffmpeg-python.

Where the samples lie on the GPU they are nv12 or p010 and sizes are even: with yuv420p FFmpeg 3.4 wrote the chroma of
frames to wrong addresses when the height was no multiple of 32 (green thumbnails), and odd sizes lost chroma for years.

scale_cuda looks at four by four samples however far it shrinks, so it makes patterns of its own (aliasing) below half
the size. So the GPU halves, with a bilinear filter, which is then the mean of two by two, and what is left between
half and whole is done as for every other engine. Colour is left alone: code values go through as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import ffmpeg

from gpu_workers.geometry import Size
from gpu_workers.inputs import FORMATS

TOLERANCE = 0.001  # seconds around a time in which its frame is looked for
TICKS = "1/90000"  # seconds, unit of the times that come out
FULL, SMALL = 0, 1  # streams of the output


class Chain(StrEnum):
    """Where decoding and scaling are done."""

    DECODE = "decode"  # both on the GPU
    UPLOAD = "upload"  # decoded on the CPU, scaled on the GPU
    SOFTWARE = "software"  # both on the CPU


@dataclass(frozen=True, slots=True)
class Frames:
    """Which frames are wanted of a stream: at `full` as they are, at `small` reduced to `halved`."""

    stream: int
    coded: Size
    deep: bool  # more than 8 bits
    full_range: bool
    full: tuple[float, ...] = ()
    small: tuple[float, ...] = ()
    least: Size = (2, 2)  # what the small ones must have at least
    keys_only: bool = False
    zero: float = 0.0  # seconds, timestamp from which times are counted
    shown: tuple[float, ...] = ()  # times of all frames, where they are known

    @property
    def halvings(self) -> list[Size]:
        """The sizes that the small frames pass through, the last one their own; empty where they are not reduced."""
        sizes, (width, height) = [], even(self.coded)
        while width // 2 >= self.least[0] and height // 2 >= self.least[1]:
            width, height = even((width // 2, height // 2))
            sizes.append((width, height))
        return sizes


def even(size: Size) -> Size:
    """Both lengths rounded up to even ones."""
    return size[0] + size[0] % 2, size[1] + size[1] % 2


def on_gpu(deep: bool) -> str:
    """The format of samples in the GPU's memory."""
    return "p010le" if deep else "nv12"


def in_memory(deep: bool) -> str:
    """The same samples as the output carries them."""
    return "yuv420p10le" if deep else "yuv420p"


def frames(program: str, source: str, wanted: Frames, chain: Chain, device: int) -> list[str]:
    """The command that writes the wanted frames to its standard output, as NUT with one stream of raw frames each for
    the full and the small ones; in the order of the two, where both are wanted."""
    reading: dict[str, Any] = {
        "threads": 1,
        "noautorotate": None,  # pictures are turned when they are made, on every engine
        "protocol_whitelist": "file,pipe",
        "format_whitelist": ",".join(FORMATS),
    }
    if chain is Chain.DECODE:
        reading |= {"hwaccel": "cuda", "hwaccel_device": device, "hwaccel_output_format": "cuda"}
    if wanted.keys_only:
        reading["skip_frame"] = "nokey"
    # Timestamps as they are in the file: what ffmpeg takes for the start differs from release to release.
    reading["copyts"] = None
    picture = ffmpeg.input(source, **reading)[str(wanted.stream)]
    parts = [(wanted.full, [] if chain is Chain.SOFTWARE else [even(wanted.coded)]), (wanted.small, wanted.halvings)]
    asked = [(times, sizes) for times, sizes in parts if times]
    copies = picture.split() if len(asked) > 1 else None
    streams = [
        _reduced(
            (picture if copies is None else copies[number])
            .filter("select", chosen(times, wanted.zero, wanted.shown))
            .filter("setpts", f"PTS-({wanted.zero:.6f})/TB"),
            sizes,
            wanted,
            chain,
        )
        for number, (times, sizes) in enumerate(asked)
    ]
    writing = {"format": "nut", "vcodec": "rawvideo", "fps_mode": "passthrough", "enc_time_base": TICKS}
    output = ffmpeg.output(*streams, "pipe:1", **writing)
    return _command(output, program, chain, device)


def chosen(times: Sequence[float], zero: float = 0.0, shown: Sequence[float] = ()) -> str:
    """The expression of the select filter for the frames shown at these times, which rise, counted from timestamp
    `zero`. Frames that follow one another, among all that are `shown`, are named by the first and the last."""
    number = {time: place for place, time in enumerate(shown)}
    spans: list[tuple[float, float]] = []
    for time in times:
        place = number.get(time)
        if spans and place and shown[place - 1] == spans[-1][1]:
            spans[-1] = spans[-1][0], time
        else:
            spans.append((time, time))
    return "+".join(f"between(t,{first + zero - TOLERANCE:.6f},{last + zero + TOLERANCE:.6f})" for first, last in spans)


def classic(
    program: str, source: str, target: str, size: Size, batch: int, *, cured: bool, device: int = 0
) -> list[str]:
    """FFmpeg's own thumbnail on the GPU as it is written everywhere, and cured: samples as nv12 before they go up.

    Reference for tests and for looking at a GPU; jobs do not use it, as it chooses by other rules.
    """
    picture = ffmpeg.input(source, threads=1)["v:0"]
    if cured:
        picture = picture.filter("format", "nv12")
    picture = picture.filter("hwupload_cuda").filter("thumbnail_cuda", batch).filter("scale_cuda", *size)
    picture = picture.filter("hwdownload").filter("format", "nv12" if cured else "yuv420p")
    return _command(ffmpeg.output(picture, target, vframes=1, update=1), program, Chain.UPLOAD, device)


def _reduced(picture: Any, sizes: Sequence[Size], wanted: Frames, chain: Chain) -> Any:
    form, span = on_gpu(wanted.deep), "pc" if wanted.full_range else "tv"
    # The same matrix and range on both sides, or swscale takes yuvj420p for something to be converted.
    same = {"in_color_matrix": "bt709", "out_color_matrix": "bt709", "in_range": span, "out_range": span}
    if chain is Chain.SOFTWARE:
        for width, height in sizes:
            picture = picture.filter("scale", width, height, flags="bilinear", **same)
        return picture.filter("scale", **same).filter("format", in_memory(wanted.deep))
    if chain is Chain.UPLOAD:
        picture = picture.filter("scale", **same).filter("format", form).filter("hwupload_cuda")
    for width, height in sizes:
        picture = picture.filter("scale_cuda", width, height, interp_algo="bilinear", format=form)
    picture = picture.filter("hwdownload").filter("format", form)
    return picture.filter("scale", **same).filter("format", in_memory(wanted.deep))


def _command(output: Any, program: str, chain: Chain, device: int) -> list[str]:
    general = ["-hide_banner", "-nostdin", "-v", "error", "-y"]
    if chain is Chain.UPLOAD:  # the device that hwupload_cuda takes
        general += ["-init_hw_device", f"cuda=gpu:{device}", "-filter_hw_device", "gpu"]
    return [str(part) for part in output.global_args(*general).compile(cmd=program)]
