"""What the tests on a real GPU share. Without one they are skipped and say so; what they saw stands in RESULTS.md."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpu_workers.cuda import NoDevice, retain
from gpu_workers.inputs import Limits
from gpu_workers.nvml import Nvml
from gpu_workers.thumbnails import Made, Task, make
from schemas.videos import DEFAULT_OUTPUTS, Engine, Gpu, NvmlState, Wanted

LIMITS = Limits(bytes=1 << 30, pixels=8192 * 4608, seconds=86400.0, streams=64)
Maker = Callable[..., Made]


@pytest.fixture(scope="session")
def gpu() -> Iterator[Gpu]:
    """The first GPU."""
    nvml = Nvml()
    seen = nvml.snapshot()
    if seen.state is not NvmlState.OK:
        pytest.skip(f"there is no GPU ({seen.state})")
    try:
        retain(0)
    except NoDevice as error:
        pytest.skip(f"there is no CUDA device ({error})")
    yield seen.gpus[0]
    nvml.close()


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of shared test videos."""
    value = os.environ.get("VEILSTREAM_TEST_MEDIA")
    if not value:
        pytest.skip("VEILSTREAM_TEST_MEDIA is not set")
    return Path(value)


@pytest.fixture
def thumbnails(tmp_path: Path) -> Maker:
    """`thumbnails(clip, engine, *outputs)` makes outputs with an engine, in a folder of its name."""

    def run(clip: Path, engine: Engine | None, *outputs: Wanted) -> Made:
        root = tmp_path / (engine or "auto")
        return make(Task(str(clip), None, outputs or DEFAULT_OUTPUTS, str(root), "", LIMITS, engine, 0))

    return run
