"""The device itself: its self-test, its figures, and the command that made green thumbnails."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import numpy as np
import pynvml
import pytest
from PIL import Image

from gpu_workers import admission, command
from gpu_workers.cuda_cli import program
from gpu_workers.difference import cells, delta_e
from gpu_workers.nvml import Nvml
from gpu_workers.supervisor import Decoder
from gpu_workers.thumbnails import Task
from gpu_workers.xid import Watch
from infra.service.settings import load_settings
from schemas.videos import DEFAULT_OUTPUTS, Engine, Gpu
from tests.gpu.conftest import LIMITS


@pytest.mark.parametrize("engine", [Engine.CUDA, Engine.CUDA_CLI])
def test_it_passes_the_self_test(engine: Engine, gpu: Gpu) -> None:
    verdict = admission.admit(engine, gpu.index)
    assert verdict.why == ""
    assert verdict.admitted


def test_nvml_tells_figures_that_can_be(gpu: Gpu) -> None:
    assert gpu.uuid.startswith("GPU-")
    assert gpu.name
    assert gpu.memory_total is not None
    assert gpu.memory_used is not None
    assert 0 <= gpu.memory_used <= gpu.memory_total
    for percent in (gpu.utilisation, gpu.decoder, gpu.encoder, gpu.jpeg):
        assert percent is None or 0 <= percent <= 100
    assert gpu.temperature is None or 0 < gpu.temperature < 120
    assert gpu.power is None or 0 < gpu.power < 2000


def test_the_decoder_under_its_limits_works_on_the_gpu_and_keeps_its_context(
    gpu: Gpu, media: Path, tmp_path: Path
) -> None:
    decoder = Decoder(load_settings().video_memory_bytes, on_gpu=True)
    task = Task(str(media / "bt601.mp4"), None, DEFAULT_OUTPUTS, str(tmp_path), "", LIMITS, Engine.CUDA, gpu.index)
    try:
        first = decoder.run(task, 60)
        pid = decoder.pid
        second = decoder.run(task, 60)
    finally:
        decoder.stop()
    assert (first.engine, second.engine) == (Engine.CUDA, Engine.CUDA)
    assert first.outputs == second.outputs
    assert pid is not None
    assert decoder.starts == 1


def test_the_watch_for_xid_events_begins_and_ends(gpu: Gpu) -> None:
    nvml = Nvml()
    told: list[object] = []
    watch = Watch(told.append)
    watch.start()
    threading.Event().wait(0.2)
    assert watch.is_alive() == watch.supported
    watch.end()
    assert not watch.is_alive()
    assert told == []
    nvml.close()


@pytest.mark.parametrize("size", [(106, 60), (320, 180), (1280, 720)])
def test_the_cure_of_green_thumbnails_gives_the_cpus_colours(
    size: tuple[int, int], gpu: Gpu, media: Path, tmp_path: Path
) -> None:
    ffmpeg = program()
    if ffmpeg is None:
        pytest.skip("ffmpeg is not installed")
    clip, out = str(media / "intel_car-detection.mp4"), tmp_path / "cured.png"
    made = command.classic(ffmpeg, clip, str(out), size, 2, cured=True, device=gpu.index)
    assert subprocess.run(made, check=False).returncode == 0
    right = tmp_path / "right.png"
    scale = f"format=nv12,scale={size[0]}:{size[1]}:flags=bicubic"
    subprocess.run(
        [ffmpeg, "-v", "error", "-i", clip, "-vf", scale, "-frames:v", "1", "-update", "1", str(right)], check=True
    )
    seen, wanted = (np.asarray(Image.open(path).convert("RGB")) for path in (out, right))
    apart = cells(delta_e(seen, wanted))
    assert apart.mean() <= 4.0  # its filter looks at fewer samples, so it is rougher, but no cell is green
    assert apart.max() <= 10.0


def test_nvml_of_the_driver_is_the_one_asked(gpu: Gpu) -> None:
    pynvml.nvmlInit()
    assert pynvml.nvmlDeviceGetCount() > gpu.index
    pynvml.nvmlShutdown()
