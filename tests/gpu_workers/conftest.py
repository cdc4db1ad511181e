"""What the tests of the media worker share: limits, and making outputs in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_workers.inputs import Limits
from gpu_workers.thumbnails import Made, Task, make
from schemas.videos import DEFAULT_OUTPUTS, Wanted

LIMITS = Limits(bytes=1 << 30, pixels=8192 * 4608, seconds=86400.0, streams=64)
Maker = Callable[..., Made]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of the outputs."""
    return tmp_path / "out"


@pytest.fixture
def thumbnails(out: Path) -> Maker:
    """`thumbnails(clip, *outputs)` makes the outputs of a clip, by default poster and storyboard, in `out`."""

    def run(clip: Path, *outputs: Wanted, folder: Path | None = None, limits: Limits = LIMITS) -> Made:
        inside = None if folder is None else str(folder)
        return make(Task(str(clip), inside, outputs or DEFAULT_OUTPUTS, str(out), "", limits))

    return run
