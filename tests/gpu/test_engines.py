"""Every clip through the engines of a real GPU: the CPU's frames, sizes and colours, or a failure with a name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpu_workers.cuda import decoded
from gpu_workers.difference import cells, delta_e, orientation_of
from gpu_workers.failures import Failure
from gpu_workers.pictures import codes, fetched
from schemas.videos import Engine, Gpu, Kind, Reason
from tests.gpu.conftest import Maker

CLIPS = (
    "long_1080p_lowbitrate.mp4",
    "portrait_4k60.mp4",
    "hlg10-color-test.mp4",
    "hdr10-video-with-sdr-container.mp4",
    "bt601.mp4",
    "tc_nasa_13013.mp4",
    "tc_bt709_full_range.mp4",
    "tc_h265_10bits.mp4",
    "intel_car-detection.mp4",
    "decord_video_90.mov",
    "decord_flipping_a_pancake.mkv",
)
# Not decoded by NVDEC: of Hopper (AV1), before Blackwell (H.264 of 10 bit), anywhere (VP9 below 128 lines).
CPU_ONLY = ("tc_av1_video.mkv", "tc_h264_10bits.mp4", "exo_bear-vp9-odd-dimensions.webm")
ON_GPU = (Engine.CUDA, Engine.CUDA_CLI)


def real(media: Path, name: str) -> Path:
    clip = media / name
    if not clip.is_file():
        pytest.skip(f"{name} is not there")
    return clip


def load(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def outcome(clip: Path, engine: Engine, thumbnails: Maker) -> Engine | Reason:
    """The engine that made the pictures, or why there are none."""
    try:
        return thumbnails(clip, engine).engine
    except Failure as failure:
        return failure.reason


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_decoded_is_the_cpus_bit_by_bit(name: str, gpu: Gpu, media: Path) -> None:
    clip = str(real(media, name))
    number = 0
    for number, (right, seen) in enumerate(zip(decoded(clip, None), decoded(clip, 0), strict=True)):
        assert seen.sw_format is not None, "it was not decoded by the GPU"
        assert seen.pts == right.pts
        for one, other in zip(codes(fetched(seen)), codes(right), strict=True):
            assert np.array_equal(one, other), f"frame {number} is another one"
        if number == 119:
            break
    assert number > 1


@pytest.mark.parametrize("engine", ON_GPU)
@pytest.mark.parametrize("name", CLIPS)
def test_pictures_are_the_cpus(
    name: str, engine: Engine, gpu: Gpu, media: Path, thumbnails: Maker, tmp_path: Path
) -> None:
    clip = real(media, name)
    right, seen = thumbnails(clip, Engine.CPU), thumbnails(clip, engine)
    assert seen.engine is engine
    assert seen.source == right.source
    assert seen.outputs == right.outputs  # sizes and times included
    for output in seen.outputs:
        ours, theirs = tmp_path / engine / output.path, tmp_path / Engine.CPU / output.path
        if output.kind is not Kind.STORYBOARD or engine is Engine.CUDA:
            assert ours.read_bytes() == theirs.read_bytes()
            continue
        one, other = load(ours), load(theirs)
        assert one.shape == other.shape
        assert orientation_of(one, other) == (0, False)
        apart = delta_e(one, other)
        assert apart.mean() <= 2.0
        assert cells(apart).max() <= 4.0


@pytest.mark.parametrize("engine", ON_GPU)
@pytest.mark.parametrize("name", CPU_ONLY)
def test_what_the_gpu_does_not_decode_fails_by_name_and_is_done_by_the_cpu(
    name: str, engine: Engine, gpu: Gpu, media: Path, thumbnails: Maker
) -> None:
    clip = real(media, name)
    assert outcome(clip, engine, thumbnails) in (engine, Reason.UNSUPPORTED_CODEC, Reason.CRASHED)
    assert thumbnails(clip, None).outputs


@pytest.mark.parametrize("engine", ON_GPU)
def test_a_damaged_file_hurts_nobody(engine: Engine, gpu: Gpu, media: Path, thumbnails: Maker) -> None:
    clip = real(media, "decord_corrupted.mp4")
    for _ in range(3):
        assert outcome(clip, engine, thumbnails) in (engine, *Reason)
    assert thumbnails(real(media, "bt601.mp4"), engine).outputs
