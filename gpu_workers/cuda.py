"""Decoding on a CUDA device (NVDEC) in process, by PyAV's FFmpeg.

The device's primary context is retained once and lives as long as the process, so a video costs no new one (0.2 to 0.3
seconds and some 400 MB each). Frames stay in the GPU's memory; those that become pictures are fetched and take the CPU
engine's way: NVDEC is bit-exact, so pictures are the same, and which frame makes the poster too.

Decodes: FFmpeg's hwaccel "cuda" (libnvcuvid). Scales and encodes: as the CPU engine does, swscale and libjpeg.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.frame import VideoFrame

from gpu_workers.failures import Failure
from gpu_workers.inputs import Limits
from gpu_workers.parts import Parts
from gpu_workers.video import Video, open_video
from schemas.videos import Reason

BLOCKING = 4  # CU_CTX_SCHED_BLOCKING_SYNC


class NoDevice(Exception):
    """There is no such CUDA device, or it cannot be used; says why."""


@cache
def retain(index: int) -> None:
    """Makes the primary context of device `index` and keeps it until the process ends. Raises NoDevice."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise NoDevice("the CUDA driver is not installed") from None
    context, device = ctypes.c_void_p(), ctypes.c_int()

    def call(name: str, *arguments: object) -> None:
        if status := getattr(driver, name)(*arguments):
            raise NoDevice(f"{name} failed with CUDA error {status}")

    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), index)
    # FFmpeg takes a primary context that is there only if it has the flags that it would have given it itself.
    call("cuDevicePrimaryCtxSetFlags_v2", device, BLOCKING)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)


def accelerator(index: int) -> HWAccel:
    """What PyAV is told to decode on device `index`. Raises NoDevice."""
    retain(index)
    # With the fallback a codec that the device does not know shows as a frame in memory, not as a damaged file.
    return HWAccel("cuda", device=str(index), allow_software_fallback=True, is_hw_owned=True)


@contextmanager
def open_on_device(descriptor: int, limits: Limits, index: int, parts: Parts | None = None) -> Iterator[Video]:
    """The video in an open file, decoded on device `index`. Raises Failure, NoDevice."""
    with open_video(descriptor, limits, accelerator(index), parts) as video:
        if video.first.frame.sw_format is None:
            raise Failure(Reason.UNSUPPORTED_CODEC, f"the GPU does not decode this kind of {video.source.codec}")
        yield video


def decoded(path: str, index: int | None) -> Iterator[VideoFrame]:
    """All frames of a file that is trusted, in order, decoded on device `index` or, without one, on the CPU."""
    container = av.open(path, hwaccel=None if index is None else accelerator(index))
    assert isinstance(container, InputContainer)
    with container:
        container.streams.video[0].codec_context.thread_count = 1
        yield from container.decode(video=0)
