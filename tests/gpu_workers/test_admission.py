"""The self-test of a GPU, held against faults that GPUs and programs have had."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from av.video.frame import VideoFrame

from gpu_workers import admission, golden
from gpu_workers.admission import Check, Verdict, examine
from gpu_workers.geometry import Size
from gpu_workers.nvml import Snapshot
from gpu_workers.thumbnails import Task
from gpu_workers.video import Shot, Video
from schemas.videos import Engine, Gpu, NvmlState

Planes = list[npt.NDArray[np.uint8]]
CLIP = golden.CLIPS[2]  # 450 lines: the height is no multiple of 32
SAMPLE_FAULTS: dict[str, Callable[[Planes], Planes]] = {}


def fault(change: Callable[[Planes], Planes]) -> Callable[[Planes], Planes]:
    SAMPLE_FAULTS[change.__name__] = change
    return change


@fault
def historic_addresses(planes: Planes) -> Planes:
    """Chroma as FFmpeg 3.4's scale_cuda wrote it: from the end of the picture, while it is read from the end of the
    buffer, which is higher by up to 31 lines; what was not written is 0, and so green."""
    y, cb, cr = planes
    height, width = y.shape
    pitch, tall = -(-width // 256) * 256, -(-height // 32) * 32
    memory = np.zeros(pitch * tall * 2, np.uint8)

    def at(start: int, plane: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        rows, columns = plane.shape
        return memory[start : start + rows * pitch // 2].reshape(rows, pitch // 2)[:, :columns]

    at(pitch * height, cb)[:] = cb
    at(pitch * height * 5 // 4, cr)[:] = cr
    return [y, at(pitch * tall * 5 // 4, cb).copy(), at(pitch * tall, cr).copy()]


@fault
def band_of_green(planes: Planes) -> Planes:
    """The last eighth of the chroma is missing."""
    for plane in planes[1:]:
        plane[-plane.shape[0] // 8 :] = 0
    return planes


@fault
def thin_band_of_green(planes: Planes) -> Planes:
    """Eight lines, which neither the mean of the picture nor the patches' middles show."""
    for plane in planes[1:]:
        plane[-4:] = 0
    return planes


@fault
def swapped_chroma(planes: Planes) -> Planes:
    return [planes[0], planes[2], planes[1]]


@fault
def upside_down(planes: Planes) -> Planes:
    return [plane[::-1, ::-1] for plane in planes]


@fault
def mirrored(planes: Planes) -> Planes:
    return [plane[:, ::-1] for plane in planes]


@fault
def shifted_crop(planes: Planes) -> Planes:
    return [np.roll(plane, plane.shape[1] // 16, 1) for plane in planes]


@fault
def limited_range_taken_twice(planes: Planes) -> Planes:
    squeezed = np.clip(16 + planes[0].astype(float) * 219 / 255, 0, 255).astype(np.uint8)
    return [squeezed, *planes[1:]]


@fault
def range_stretched_twice(planes: Planes) -> Planes:
    stretched = np.clip((planes[0].astype(float) - 16) * 255 / 219, 0, 255).astype(np.uint8)
    return [stretched, *planes[1:]]


@fault
def black_is_grey(planes: Planes) -> Planes:
    return [np.maximum(planes[0], 26), *planes[1:]]


def planes_of(frame: VideoFrame) -> Planes:
    found = []
    for plane in frame.planes[:3]:
        lines = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
        found.append(lines[:, : plane.width].copy())
    return found


def changed(frame: VideoFrame, change: Callable[[Planes], Planes]) -> VideoFrame:
    """The frame with its planes changed."""
    samples = np.concatenate([np.ascontiguousarray(plane).ravel() for plane in change(planes_of(frame))])
    out = VideoFrame.from_ndarray(samples.reshape(-1, frame.width), "yuv420p")
    for name in ("colorspace", "color_range", "color_trc", "color_primaries"):
        setattr(out, name, getattr(frame, name))
    return out


class Faulty:
    """A device whose decoder is right and whose pictures are not."""

    def __init__(self, video: Video, change: Callable[[VideoFrame], VideoFrame], late: float = 0.0) -> None:
        self._video, self._change, self._late = video, change, late

    def frames(
        self, wanted: Sequence[float], small: Mapping[float, Size], exact: AbstractSet[float] = frozenset()
    ) -> Iterator[tuple[float, Shot]]:
        for time, shot in self._video.frames(wanted, small, exact):
            yield time, Shot(shot.time + self._late, self._change(shot.frame))


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Verdict]:
    """`device(change)` examines a device whose frames come out so changed."""

    def run(change: Callable[[VideoFrame], VideoFrame], late: float = 0.0) -> Verdict:
        from gpu_workers import thumbnails

        right = thumbnails.source_of

        @contextmanager
        def wrong(engine: Engine, task: Task, file: int, video: Video, _parts: object = None) -> Iterator[Any]:
            if engine is Engine.CUDA:
                yield Faulty(video, change, late)
            else:
                with right(engine, task, file, video) as source:
                    yield source

        monkeypatch.setattr(thumbnails, "source_of", wrong)
        monkeypatch.setattr(admission, "_different", lambda *_: 0)
        return examine(Engine.CUDA, 0, [CLIP])

    return run


def names(checks: Sequence[Check]) -> set[str]:
    return {check.name.split()[0] for check in checks}


@pytest.mark.parametrize("engine", [Engine.CPU, Engine.CPU_CLI])
def test_a_device_that_is_right_passes_every_check(engine: Engine) -> None:
    verdict = examine(engine, 0)
    assert verdict.why == ""
    assert verdict.admitted
    assert names(verdict.checks) == {"R0", "R1", "R2", "R3", "R4", "R5", "R6"}
    assert {check.clip for check in verdict.checks} == {clip.name for clip in golden.CLIPS}


def test_a_device_that_changes_nothing_passes(device: Callable[..., Verdict]) -> None:
    assert device(lambda frame: changed(frame, lambda planes: planes)).why == ""


@pytest.mark.parametrize("name", SAMPLE_FAULTS)
def test_a_fault_in_the_pictures_is_caught_without_the_decoders_parity(
    name: str, device: Callable[..., Verdict]
) -> None:
    verdict = device(lambda frame: changed(frame, SAMPLE_FAULTS[name]))
    assert not verdict.admitted
    caught = {
        "historic_addresses": "R3",
        "band_of_green": "R3",
        "thin_band_of_green": "R3",
        "swapped_chroma": "R2",
        "upside_down": "R4",
        "mirrored": "R4",
        "shifted_crop": "R3",
        "limited_range_taken_twice": "R5",
        "range_stretched_twice": "R2",
        "black_is_grey": "R5",
    }
    assert caught[name] in names(verdict.failed), verdict.why


@pytest.mark.parametrize(("field", "value"), [("colorspace", 1), ("color_range", 2)])
def test_a_wrong_matrix_or_range_is_caught_by_the_patches(
    field: str, value: int, device: Callable[..., Verdict]
) -> None:
    def mislabelled(frame: VideoFrame) -> VideoFrame:
        frame = changed(frame, lambda planes: planes)
        setattr(frame, field, value)
        return frame

    assert "R2" in names(device(mislabelled).failed)


def test_another_frame_is_caught_by_its_time(device: Callable[..., Verdict]) -> None:
    assert "R6" in names(device(lambda frame: frame, late=0.04).failed)


def test_one_wrong_sample_in_one_frame_is_no_parity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flipped(planes: Planes) -> Planes:
        planes[1][7, 9] ^= 1
        return planes

    path = tmp_path / "clip.mp4"
    golden.write(CLIP, path)

    @contextmanager
    def wrong(_engine: Engine, _task: Task, _file: int, video: Video) -> Iterator[Any]:
        count = iter(range(100))
        yield Faulty(video, lambda frame: changed(frame, flipped) if next(count) == 5 else frame)

    assert admission._different(Engine.CPU, 0, path) == 0
    monkeypatch.setattr(admission, "source_of", wrong)
    assert admission._different(Engine.CUDA, 0, path) == 1


def test_a_device_that_is_not_there_is_not_admitted_and_says_why() -> None:
    verdict = admission.admit(Engine.CUDA, 63)
    assert not verdict.admitted
    assert "NoDevice" in verdict.why


def test_a_self_test_that_hangs_or_crashes_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "did not end in 0 s" in admission.admit(Engine.CPU, 0, seconds=0.01).why
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert "status 1" in admission.admit(Engine.CPU, 0).why


def test_nothing_checked_is_nothing_passed() -> None:
    assert not Verdict(Engine.CUDA, 0).admitted


GPUS = Snapshot(NvmlState.OK, "580.1", (Gpu(0, "GPU-a", "one"), Gpu(1, "GPU-b", "two"), Gpu(2, "GPU-c", "three")))


def test_the_first_gpu_that_passes_is_taken_and_remembered_with_its_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def judged(engine: Engine, device: int) -> Verdict:
        asked.append(device)
        return Verdict(engine, device, (Check("R3", "clip", 9.0 if device == 0 else 1.0, 4.0, device != 0),))

    monkeypatch.setattr(admission, "admit", judged)
    assert admission.device(tmp_path, GPUS) == 1
    assert admission.device(tmp_path, GPUS) == 1
    assert asked == [0, 1, 0]
    assert admission.device(tmp_path, Snapshot(NvmlState.OK, "581", GPUS.gpus)) == 1
    assert asked == [0, 1, 0, 0, 1]


def test_without_a_gpu_or_with_one_that_is_divided_there_is_none(tmp_path: Path) -> None:
    assert admission.device(tmp_path, Snapshot(NvmlState.NO_LIBRARY)) is None
    divided = Snapshot(NvmlState.OK, "580.1", (Gpu(0, "GPU-a", "one", mig=True),))
    assert admission.device(tmp_path, divided) is None
