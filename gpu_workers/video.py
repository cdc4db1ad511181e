"""A video in process (PyAV): what it says about itself, and its frames near to given times.

Times are seconds of the presentation: presentation timestamps minus the start of the container, as a player counts
them. Frames are sought by timestamp, never by number, so a variable frame rate changes nothing.

With a CUDA device the decoder runs there (NVDEC) and frames stay in its memory until a picture is made of them.

Which frame stands for a time is a question of cost, unless it is to be the exact one. Where decoding the whole video is
cheap, it is the frame on screen at that time; in longer ones the keyframe before it, unless that lies too far back, and
then again the exact one.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import av
import av.error
import av.logging
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from gpu_workers import dolby_vision
from gpu_workers.failures import Failure
from gpu_workers.geometry import Orientation, Size, display, orientation, pixel_aspect
from gpu_workers.inputs import Limits
from gpu_workers.parts import Parts
from gpu_workers.pictures import stored
from schemas.videos import Reason, Source

EXACT_PIXELS = 2_000_000_000  # a video of fewer decoded pixels in all is decoded exactly: about a second of work
GAP = 10.0  # seconds that a keyframe may lie before the time it stands for, in a longer video,
GAPS = 20  # or this part of the duration
# Seconds by which to look further back, where a container without an index leads to a place between two keyframes.
BACK = (0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
BEFORE = -3600.0  # before any start
SCANNED = 5_000  # packets that are read in search of a keyframe
BAD_PACKETS = 500  # in a row that cannot be decoded, after which the rest is taken to be damaged too
SLICES = 2  # decoder threads
ASSUMED_RATE = 30.0  # frames a second, where the file does not say
FAR = 1 << 40  # microseconds; beyond any video's end

WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # decoders

MAGIC = {
    4: (b"ftyp", b"moov", b"mdat", b"free", b"wide"),
    0: (b"\x1aE\xdf\xa3", b"RIFF", b"OggS", b"FLV", b"\x30\x26\xb2\x75"),
}


@dataclass(frozen=True, slots=True)
class Shot:
    """A decoded frame and the time at which it is shown, in seconds."""

    time: float
    frame: VideoFrame


@dataclass(frozen=True, slots=True)
class Timeline:
    """When frames are shown and where keyframes are, in seconds, rising, as the container tells; and how far a
    keyframe may lie before the time it stands for."""

    shown: tuple[float, ...]
    keys: tuple[float, ...]
    gap: float

    def at(self, time: float, *, exact: bool = False) -> float | None:
        """The time of the frame that `Video.frames` yields for `time`; None where there is no keyframe."""
        if not self.keys:
            return None
        key = self.keys[max(0, bisect_right(self.keys, time) - 1)]
        if time - key <= (0.0 if exact else self.gap):
            return key
        return max(key, self.shown[max(0, bisect_right(self.shown, time) - 1)])


class Video:
    """An open video; use `open_video`. Every method may raise Failure."""

    def __init__(self, container: InputContainer, limits: Limits) -> None:
        self._container = container
        self._stream = _chosen(container, limits)
        self._base = Fraction(self._stream.time_base or Fraction(1, 90_000))
        start = container.start_time
        self._zero = Fraction(start, av.time_base) if start is not None else (self._stream.start_time or 0) * self._base
        self._pixels = limits.pixels
        self._bad = 0
        context = self._stream.codec_context
        # FFmpeg's own decoders of VP8 and VP9 leave transparency out.
        with_alpha = WITH_ALPHA.get(context.name) if self._stream.metadata.get("alpha_mode") == "1" else None
        self._decoder = context if with_alpha is None else _decoder(with_alpha, context)
        self._decoder.options = {"max_pixels": str(limits.coded_pixels)}
        self._decoder.thread_type, self._decoder.thread_count = "SLICE", 1 if context.is_hwaccel else SLICES
        self.duration = self._duration()
        if self.duration > limits.seconds:
            raise Failure(Reason.TOO_LONG, f"{self.duration:.0f} s of video, at most {limits.seconds:.0f} s")
        self.first = self._first()
        if dolby_vision.alone(self.first.frame):
            raise Failure(Reason.UNSUPPORTED_CODEC, "Dolby Vision profile 5 has no picture for other displays")
        self.coded: Size = self.first.frame.width, self.first.frame.height
        self.turn = turn(self.first.frame)
        self.shown = display(self.coded, pixel_aspect(self._stream.sample_aspect_ratio), self.turn)
        if self.shown[0] * self.shown[1] > 8 * limits.pixels:
            raise Failure(Reason.TOO_MANY_PIXELS, f"shown as {self.shown[0]} x {self.shown[1]} pixels")
        self.source = Source(
            width=self.coded[0],
            height=self.coded[1],
            duration=round(self.duration, 3),
            rotation=self.turn.rotation,
            codec=context.codec.canonical_name if hasattr(context.codec, "canonical_name") else context.name,
            pixel_format=stored(self.first.frame).name,
        )

    @property
    def stream(self) -> int:
        """The number of the stream that is shown."""
        return self._stream.index

    @property
    def zero(self) -> float:
        """The timestamp, in seconds, from which times are counted."""
        return float(self._zero)

    @property
    def rate(self) -> float:
        """Frames a second, or what is assumed where the file does not say."""
        return float(self._stream.average_rate or ASSUMED_RATE)

    def timeline(self, wanted: Sequence[float]) -> Timeline:
        """Where the frames for `wanted` lie. Reads the whole file, but decodes nothing."""
        with suppress(av.error.FFmpegError, OSError):
            self._seek(BEFORE)
        shown, keys = [], []
        for packet in self._packets():
            if packet.size and packet.pts is not None and not packet.is_discard:
                shown.append(self._time(packet.pts))
                if packet.is_keyframe:
                    keys.append(shown[-1])
        return Timeline(tuple(sorted(shown)), tuple(sorted(keys)), self._gap(wanted))

    def frames(
        self, wanted: Sequence[float], small: Mapping[float, Size], exact: AbstractSet[float] = frozenset()
    ) -> Iterator[tuple[float, Shot]]:
        """For every time of `wanted`, which rise, the shot that stands for it; none where nothing can be decoded.

        The same shot stands for several times where the video has no other near to them. For times in `exact` it is the
        one on screen. `small` says which size is enough for a time; frames here are whole all the same.
        """
        gap = self._gap([want for want in wanted if want not in exact])
        run: _Run | None = None
        near = False  # the run began for an exact time, so perhaps at a keyframe that stands for others
        key: Shot | None = None
        for want in wanted:
            if self._bad > BAD_PACKETS:
                return
            if run is not None and (want in exact or not near) and (shot := run.to(want)) is not None:
                yield want, shot
                continue
            run = None
            packet = self._key_packet(want)
            if packet is None:
                continue
            if want - self._time(packet.pts) > (0.0 if want in exact else gap):
                run, near = _Run(self._forward(packet)), want in exact
                if (shot := run.to(want, through=True)) is not None:
                    yield want, shot
                    continue
                run = None
                packet = self._key_packet(want)
            if packet is None:
                continue
            if key is None or key.time != self._time(packet.pts):
                found = self._decode_key(packet)
                if found is None:
                    continue
                key = found
            yield want, key

    def key_before(self, time: float) -> float | None:
        """When the keyframe at or before `time` is shown. Decodes nothing."""
        packet = self._key_packet(time)
        return None if packet is None else self._time(packet.pts)

    @property
    def exact(self) -> bool:
        """Whether frames are found by decoding all of them."""
        return self.duration * self.rate * self.coded[0] * self.coded[1] <= EXACT_PIXELS

    def _gap(self, wanted: Sequence[float]) -> float:
        if not self.exact:
            return max(GAP, self.duration / GAPS)
        # Half the shortest step: nearer frames than that need not be told apart.
        steps = [after - before for before, after in pairwise(wanted) if after > before]
        return min(steps, default=0.0) / 2

    def _time(self, pts: int | None) -> float:
        return float((pts or 0) * self._base - self._zero)

    def _stamp(self, time: float) -> int:
        return int((Fraction(time).limit_denominator(1_000_000) + self._zero) / self._base)

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        try:
            yield from self._container.demux(self._stream)
        except av.error.MemoryError as error:
            raise Failure(Reason.MEMORY_LIMIT, "the demuxer ran out of memory") from error
        except (av.error.FFmpegError, OSError):
            return  # what was read up to here still counts

    def _key_packet(self, time: float) -> Packet[VideoStream] | None:
        """The packet of a keyframe at or before `time`, the last one where the container has an index; where there is
        none before it, of the first one after."""
        for back in BACK:
            last = back == BACK[-1] or time - back < 0
            if self._seek(BEFORE if last and back else time - back) or last:
                packet = self._next_key()
                if packet is not None and (last or self._time(packet.pts) <= time):
                    return packet
        return None

    def _seek(self, time: float) -> bool:
        """Goes to a keyframe at or before `time`, as far as the container knows; whether it could."""
        for backward in (True, False) if time == BEFORE else (True,):
            with suppress(av.error.FFmpegError, OSError):
                self._container.seek(self._stamp(time), stream=self._stream, backward=backward)
                return True
        return False

    def _next_key(self) -> Packet[VideoStream] | None:
        for number, packet in enumerate(self._packets()):
            if packet.size and packet.is_keyframe and packet.pts is not None:
                return packet
            if number > SCANNED:
                break
        return None

    def _decode(self, packet: Packet[VideoStream] | None) -> list[Shot]:
        """The shots that come out of the decoder when the packet goes in; None drains it."""
        try:
            frames = self._decoder.decode(packet)
        except av.error.MemoryError as error:
            raise Failure(Reason.MEMORY_LIMIT, "the decoder ran out of memory") from error
        except av.error.DecoderNotFoundError:
            raise Failure(Reason.UNSUPPORTED_CODEC, "there is no decoder for it") from None
        except av.error.EOFError:
            return []
        except (av.error.FFmpegError, OSError, ValueError):
            self._bad += 1
            return []
        shots = []
        for frame in frames:
            pts = frame.pts if frame.pts is not None else packet.pts if packet is not None else None
            # A stream may change its size on the way.
            if pts is not None and not frame.is_corrupt and frame.width * frame.height <= self._pixels:
                self._bad = 0
                shots.append(Shot(self._time(pts), frame))
        return shots

    def _decode_key(self, packet: Packet[VideoStream]) -> Shot | None:
        """A keyframe on its own: no other packet is needed."""
        shots = self._decode(packet) + self._decode(None)
        self._decoder.flush_buffers()
        return shots[0] if shots else None

    def _forward(self, packet: Packet[VideoStream]) -> Iterator[Shot]:
        yield from self._decode(packet)
        for following in self._packets():
            if self._bad > BAD_PACKETS:
                return
            yield from self._decode(following if following.size else None)

    def _first(self) -> Shot:
        """The first frame that can be decoded, keyframes first."""
        for number, packet in enumerate(self._packets()):
            if packet.size and packet.is_keyframe and (shot := self._decode_key(packet)) is not None:
                return shot
            if number > SCANNED:
                break
        with suppress(av.error.FFmpegError, OSError):
            self._container.seek(0)
        for number, packet in enumerate(self._packets()):
            if shots := self._decode(packet if packet.size else None):
                return shots[0]
            if number > SCANNED:
                break
        raise Failure(Reason.DAMAGED, "no picture can be decoded")

    def _duration(self) -> float:
        """Seconds from the start to the end of the video, 0 where it cannot be found out."""
        stream = self._stream
        if stream.duration:
            first = stream.start_time if stream.start_time is not None else int(self._zero / self._base)
            return max(0.0, self._time(first + stream.duration))
        if self._container.duration:
            return float(Fraction(self._container.duration, av.time_base))
        last = 0.0
        with suppress(av.error.FFmpegError, OSError):
            self._container.seek(FAR)
        for packet in self._packets():
            if packet.pts is not None:
                last = max(last, self._time(packet.pts + (packet.duration or 0)))
        with suppress(av.error.FFmpegError, OSError):
            self._container.seek(0)
        return last


class _Run:
    """Decoding on and on from a keyframe, until the next one takes over."""

    def __init__(self, shots: Iterator[Shot]) -> None:
        self._shots = shots
        self._current: Shot | None = None
        self._next: Shot | None = next(shots, None)

    def to(self, time: float, *, through: bool = False) -> Shot | None:
        """The shot on screen at `time`; None when another keyframe lies before it, from which it is found faster, but
        not when that shall be passed `through`, as the container does not lead there."""
        while self._next is not None and self._next.time <= time:
            if self._current is not None and self._next.frame.key_frame and not through:
                return None
            self._current, self._next = self._next, next(self._shots, None)
        return self._current or self._next


@contextmanager
def open_video(
    descriptor: int, limits: Limits, device: HWAccel | None = None, parts: Parts | None = None
) -> Iterator[Video]:
    """The video in an open file (`inputs.regular_file`), decoded on `device` where there is one; `parts`: of a file
    that is not here as a whole. Raises Failure."""
    av.logging.set_level(None)
    try:
        # By its descriptor, so that neither the name's ending nor a change of the path plays a part.
        file = f"file:/proc/self/fd/{descriptor}" if parts is None else parts.reader()
        container = av.open(file, "r", options=limits.options(), hwaccel=device)
    except av.error.MemoryError as error:
        raise Failure(Reason.MEMORY_LIMIT, "the demuxer ran out of memory") from error
    except RuntimeError:  # of PyAV, where the device decodes no codec in the file
        raise Failure(Reason.UNSUPPORTED_CODEC, "the GPU has no decoder for it") from None
    except (av.error.FFmpegError, OSError, ValueError, UnicodeError) as error:
        raise _unopened(descriptor, error) from None
    with container:
        yield Video(container, limits)


def turn(frame: VideoFrame) -> Orientation:
    """How a frame is turned, by its display matrix."""
    data = frame.side_data.get("DISPLAYMATRIX")
    numbers = bytes(data) if isinstance(data, SideData) else b""
    return orientation(struct.unpack("<9i", numbers[:36]) if len(numbers) >= 36 else None)


def _decoder(name: str, context: VideoCodecContext) -> VideoCodecContext:
    """Another decoder for what `context` describes."""
    made = CodecContext.create(name, "r")
    assert isinstance(made, VideoCodecContext)
    made.extradata = context.extradata
    made.width, made.height = context.width, context.height
    return made


def _unopened(descriptor: int, error: Exception) -> Failure:
    head = b""
    with suppress(OSError):
        head = os.pread(descriptor, 64, 0)
    known = any(head[place : place + len(magic)] == magic for place, all_of in MAGIC.items() for magic in all_of)
    if known:
        return Failure(Reason.DAMAGED, f"the container cannot be read ({type(error).__name__})")
    return Failure(Reason.UNSUPPORTED_FORMAT, "it is no video container that is taken")


def _chosen(container: InputContainer, limits: Limits) -> VideoStream:
    """The stream that players show: no cover art; the default one, then the largest, then the first."""
    if len(container.streams) > limits.streams:
        raise Failure(Reason.TOO_MANY_STREAMS, f"more than {limits.streams} streams")
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise Failure(Reason.NO_VIDEO, "there is no video stream")
    usable = [stream for stream in streams if stream.codec_context is not None]
    if not usable:
        raise Failure(Reason.UNSUPPORTED_CODEC, "there is no decoder for it")

    def rank(stream: VideoStream) -> tuple[bool, int, int]:
        pixels = stream.codec_context.width * stream.codec_context.height
        return bool(stream.disposition & Disposition.default), pixels, -stream.index

    stream = max(usable, key=rank)
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > limits.pixels:
        raise Failure(Reason.TOO_MANY_PIXELS, f"{width} x {height} pixels, at most {limits.pixels} in all")
    return stream
