"""Frames by ffmpeg's command line, on a CUDA device or without one: the reference for what the engines in process make,
and the way around them for files that break them. `gpu_workers.command` builds the command.

One run of ffmpeg brings all frames of a video, as NUT on a pipe. Which ones is known before, from the container's
index, so the frames are those of the other engines. Frames for the poster come whole: it is chosen from the same
samples everywhere.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import av
import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame

from gpu_workers import command
from gpu_workers.colour import Matrix
from gpu_workers.command import Chain, Frames
from gpu_workers.failures import Failure
from gpu_workers.geometry import Size
from gpu_workers.pictures import FULL, LIMITED, colour_of, filtered, one_field, stored
from gpu_workers.video import Shot, Timeline, Video
from schemas.videos import Reason

# Codecs with a decoder in NVDEC (NVIDIA Video Codec SDK); whether this GPU has it shows when it is used.
NVDEC = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "mjpeg"})
LEFT = frozenset({"h264", "hevc", "mpeg2video"})  # where chroma lies, unless the stream says otherwise
TAIL = 2000  # characters of what ffmpeg says that are kept


class CommandFailed(Exception):
    """ffmpeg ended with an error. `tail`: the end of what it said, for people at the machine; it may name metadata."""

    def __init__(self, status: int, tail: str) -> None:
        super().__init__(f"ffmpeg ended with status {status}")
        self.tail = tail


def program() -> str | None:
    """The ffmpeg that is found on PATH."""
    return shutil.which("ffmpeg")


class CommandVideo:
    """The frames of an open video by ffmpeg. `chain`: how; `device`: number of the CUDA device."""

    def __init__(self, video: Video, descriptor: int, chain: Chain, device: int = 0) -> None:
        if stored(video.first.frame).is_rgb:
            raise Failure(Reason.UNSUPPORTED_CODEC, "the command line makes no pictures of video in RGB")
        if any(component.is_alpha for component in stored(video.first.frame).components):
            raise Failure(Reason.UNSUPPORTED_CODEC, "the command line makes no pictures of transparent video")
        if chain is Chain.DECODE and video.source.codec not in NVDEC:
            raise Failure(Reason.UNSUPPORTED_CODEC, f"no GPU decodes {video.source.codec}")
        self._video = video
        self._descriptor = descriptor
        self._chain = chain
        self._device = device
        self._deep = colour_of(video.first.frame).bits > 8

    def frames(
        self, wanted: Sequence[float], small: Mapping[float, Size], exact: AbstractSet[float] = frozenset()
    ) -> Iterator[tuple[float, Shot]]:
        """As `Video.frames`; frames for a time in `small` may be reduced, but not below that size (as shown)."""
        timeline = self._video.timeline([time for time in wanted if time not in exact])
        at = {time: found for time in wanted if (found := timeline.at(time, exact=time in exact)) is not None}
        asked = self._asked({time: small[time] for time in at if time in small}, at, timeline)
        store: dict[tuple[int, float], Shot] = {}
        reading = self._read(asked)
        for time, found in at.items():
            stream = command.SMALL if found in asked.small and time in small else command.FULL
            key = stream, found
            while key not in store and (following := next(reading, None)) is not None:
                store[following] = self._last
            if key in store:
                yield time, store[key]
                store = {kept: shot for kept, shot in store.items() if kept[0] != stream or kept[1] >= found}

    def _asked(self, small: Mapping[float, Size], at: Mapping[float, float], timeline: Timeline) -> Frames:
        first = self._video.first.frame
        sizes = [(height, width) if self._video.turn.swaps else (width, height) for width, height in small.values()]
        # Four times what is needed: what is left is shrunk as on every engine, and hides how the GPU did its part.
        least = 4 * max((size[0] for size in sizes), default=1), 4 * max((size[1] for size in sizes), default=1)
        frames = Frames(
            stream=self._video.stream,
            coded=self._video.coded,
            deep=self._deep,
            full_range=colour_of(first).full_range,
            full=tuple(sorted({at[time] for time in at if time not in small})),
            small=tuple(sorted({at[time] for time in small})),
            least=least,
            keys_only=set(timeline.keys).issuperset(at.values()),
            shown=timeline.shown,
            zero=self._video.zero,
        )
        # One field of an interlaced frame is taken when the picture is made; halved, the two are mixed for good.
        if frames.small and (first.interlaced_frame or not frames.halvings):
            return replace(frames, full=tuple(sorted({*frames.full, *frames.small})), small=())
        return frames

    def _read(self, asked: Frames) -> Iterator[tuple[int, float]]:
        """Runs ffmpeg; yields which frame came, which is then `_last`. Raises Failure, CommandFailed."""
        ffmpeg = program()
        if ffmpeg is None:
            raise Failure(Reason.INTERNAL_ERROR, "ffmpeg is not installed")
        streams = [stream for stream, times in ((command.FULL, asked.full), (command.SMALL, asked.small)) if times]
        times = {command.FULL: asked.full, command.SMALL: asked.small}
        arguments = command.frames(ffmpeg, f"file:/proc/self/fd/{self._descriptor}", asked, self._chain, self._device)
        with Running(arguments, (self._descriptor,)) as running:
            for number, frame in running.frames():
                stream = streams[number]
                time = _nearest(times[stream], frame.time or 0.0)
                self._last = Shot(time, self._meaning(frame))
                yield stream, time

    def _meaning(self, frame: VideoFrame) -> VideoFrame:
        """The frame with what the pipe does not carry: the meaning of its colours, and one field where it has two."""
        first = self._video.first.frame
        if first.interlaced_frame and frame.height >= 4:
            frame = one_field(frame)
        if self._video.source.codec in LEFT:
            frame = filtered(frame, "setparams", "chroma_location=left")
        meaning = colour_of(first)
        # A matrix that is guessed from the size must not be guessed from the smaller one.
        frame.colorspace = first.colorspace if first.colorspace != Matrix.UNSPECIFIED else meaning.matrix
        frame.color_range = FULL if meaning.full_range else LIMITED
        frame.color_trc, frame.color_primaries = first.color_trc, first.color_primaries
        return frame


class Running:
    """A run of ffmpeg that writes NUT to its standard output. It dies with this process."""

    def __init__(self, arguments: Sequence[str], descriptors: Sequence[int] = ()) -> None:
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=descriptors,
            preexec_fn=_die_with_parent,
        )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """The frames as they come, with the number of their stream. Raises CommandFailed when ffmpeg does not end
        well."""
        try:
            container = av.open(self._process.stdout, format="nut", buffer_size=1 << 20)
            assert isinstance(container, InputContainer)
            with container:
                for packet in container.demux():
                    for frame in packet.decode():
                        assert isinstance(frame, VideoFrame)
                        yield packet.stream.index, frame
        except (av.error.FFmpegError, OSError):
            pass  # how ffmpeg ended says more
        assert self._process.stderr is not None
        tail = self._process.stderr.read()[-TAIL:].decode(errors="replace")
        if status := self._process.wait():
            raise CommandFailed(status, tail)


def _nearest(times: Sequence[float], time: float) -> float:
    """Of rising times the one nearest to `time`."""
    place = bisect_left(times, time)
    return min(times[max(0, place - 1) : place + 1], key=lambda one: abs(one - time))


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    os.setpgid(0, 0)
