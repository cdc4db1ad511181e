"""`python -m gpu_workers.admission`: the self-test that a GPU must pass, with its driver and FFmpeg, before it works.

Clips with a known picture (`gpu_workers.golden`) take the way of a job, on the GPU and on the CPU:

R0  every frame decoded is the CPU's, bit by bit (the codecs are exact by definition)
R1  reduced pictures are the CPU's within noise: PSNR >= 36 dB
R2  patches have their colours: CIE 1976 difference <= 2.0 in the mean, <= 3.5 at worst
R3  and so everywhere: <= 4 in every cell of an 8 by 8 grid, which a band of wrong colour at the edge does not pass
R4  size and orientation are right
R5  black is black (<= 2) and white is white (>= 253)
R6  frames chosen are the CPU's, by timestamp

It runs in a process of its own, since what it looks for may crash it. A GPU that fails is reported and not used.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import av.error
import msgspec
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from PIL import Image

from gpu_workers import golden
from gpu_workers.cuda import NoDevice
from gpu_workers.cuda_cli import CommandFailed
from gpu_workers.difference import cells, delta_e, orientation_of, psnr
from gpu_workers.failures import Failure
from gpu_workers.geometry import Size, fit
from gpu_workers.golden import Golden
from gpu_workers.inputs import Limits, regular_file
from gpu_workers.nvml import Snapshot
from gpu_workers.pictures import codes, fetched
from gpu_workers.thumbnails import Made, Task, make, source_of
from gpu_workers.video import open_video
from infra.service.logs import logger
from schemas.videos import Engine, Kind, Poster, Storyboard

log = logger(__name__)

REMEMBERED = "gpus.json"
SECONDS = 120.0  # the self-test may take
LIMITS = Limits(bytes=1 << 28, pixels=1 << 20, seconds=60.0, streams=4)
BOARD = Storyboard(width=96, tiles=4)  # small enough to be reduced on the GPU

NOISE, MEAN, WORST, CELL, BLACK, WHITE = 36.0, 2.0, 3.5, 4.0, 2.0, 253.0

Picture = npt.NDArray[np.uint8]


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at: what was found, and the bound that decided."""

    name: str
    clip: str
    found: float
    bound: float
    good: bool


class Verdict(msgspec.Struct, frozen=True):
    """What a device with an engine is worth; `error` where the test did not come to its end."""

    engine: Engine
    device: int
    checks: tuple[Check, ...] = ()
    error: str = ""

    @property
    def admitted(self) -> bool:
        """Whether it may take jobs."""
        return not self.error and bool(self.checks) and all(check.good for check in self.checks)

    @property
    def why(self) -> str:
        """In one line, why not; "" if it may."""
        bad = [f"{check.name} of {check.clip}: {check.found:.4g}, bound {check.bound:g}" for check in self.failed]
        return self.error or "; ".join(bad) or ("" if self.checks else "nothing was checked")

    @property
    def failed(self) -> list[Check]:
        """The checks that were not passed."""
        return [check for check in self.checks if not check.good]


def examine(engine: Engine, device: int, clips: Sequence[Golden] = golden.CLIPS) -> Verdict:
    """Does the self-test in this process. Whatever goes wrong is a verdict."""
    checks: list[Check] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for number, clip in enumerate(clips):
                path = Path(folder) / f"{number}.mp4"
                golden.write(clip, path)
                checks += _examined(engine, device, clip, path, Path(folder) / str(number))
    except Failure as failure:
        return Verdict(engine, device, tuple(checks), str(failure))
    except (NoDevice, CommandFailed, OSError, ValueError, av.error.FFmpegError) as error:
        return Verdict(engine, device, tuple(checks), f"{type(error).__name__}: {error}")
    return Verdict(engine, device, tuple(checks))


def admit(engine: Engine, device: int, seconds: float = SECONDS) -> Verdict:
    """Does the self-test in a process of its own, for `seconds` at most."""
    command = [sys.executable, "-m", "gpu_workers.admission", engine.value, str(device)]
    environment = os.environ | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    top = Path(__file__).parents[1]
    try:
        done = subprocess.run(command, cwd=top, env=environment, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return Verdict(engine, device, error=f"the self-test did not end in {seconds:.0f} s")
    try:
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=Verdict)
    except (msgspec.DecodeError, IndexError):
        return Verdict(engine, device, error=f"the self-test ended with status {done.returncode}")


def device(folder: Path, gpus: Snapshot, engine: Engine = Engine.CUDA, only: int | None = None) -> int | None:
    """The first GPU that may take jobs, or that of the number `only`; None without one.

    Those that pass are remembered in `folder` with driver and FFmpeg; the others are tested anew each time, and
    reported.
    """
    path = folder / REMEMBERED
    try:
        passed = set(msgspec.json.decode(path.read_bytes(), type=list[str]))
    except (OSError, msgspec.DecodeError):
        passed = set()
    for gpu in gpus.gpus:
        if only not in (None, gpu.index):
            continue
        if gpu.mig:  # whose instances have other numbers, and may have no decoder
            log.warning("gpu_not_used", gpu=gpu.uuid, why="it is divided into instances")
            continue
        name = f"{gpu.uuid} {gpus.driver} {av.__version__} {engine}"
        if name not in passed:
            verdict = admit(engine, gpu.index)
            if not verdict.admitted:
                log.error("gpu_not_admitted", gpu=gpu.uuid, driver=gpus.driver, why=verdict.why)
                continue
            log.info("gpu_admitted", gpu=gpu.uuid, driver=gpus.driver, checks=len(verdict.checks))
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(msgspec.json.encode(sorted({*passed, name})))
        return gpu.index
    return None


def _examined(engine: Engine, device: int, clip: Golden, path: Path, out: Path) -> Iterator[Check]:
    def check(name: str, found: float, bound: float, *, least: bool = False) -> Check:
        return Check(name, clip.name, round(found, 4), bound, found >= bound if least else found <= bound)

    yield check("R0", _different(engine, device, path), 0)
    mine, theirs = (_made(which, device, path, out / which.value, clip.size) for which in (engine, Engine.CPU))
    yield check("R6", sum(a.time != b.time for a, b in zip(mine.outputs, theirs.outputs, strict=True)), 0)
    for a, b in zip(mine.outputs, theirs.outputs, strict=True):
        if a.kind not in (Kind.POSTER, Kind.STORYBOARD):
            continue
        seen, right = _load(out / engine.value / a.path), _load(out / Engine.CPU.value / b.path)
        yield check("R4 size", float(seen.shape != right.shape), 0)
        if seen.shape != right.shape:
            return
        yield check("R1", min(psnr(seen, right, 255), 99.0), NOISE, least=True)
        across = 8 if a.kind is Kind.POSTER else 4  # edges of what the GPU reduced are rougher in small cells
        yield check("R3", float(cells(delta_e(seen, right), across, across).max()), CELL)
        if a.kind is Kind.POSTER:
            yield from _patches(seen, clip, check)


def _patches(seen: Picture, clip: Golden, check: Any) -> Iterator[Check]:
    wanted = fit(clip.size, clip.size[0])
    yield check("R4 size", float((seen.shape[1], seen.shape[0]) != wanted), 0)
    turned, mirrored = orientation_of(seen, golden.picture(clip.size))
    yield check("R4 orientation", float(turned or mirrored), 0)
    found = golden.middles(seen)
    apart = delta_e(found, np.array(golden.PATCHES, np.uint8)[:, None])
    yield check("R2 mean", float(apart.mean()), MEAN)
    yield check("R2 worst", float(apart.max()), WORST)
    yield check("R5 black", float(found[0].max()), BLACK)
    yield check("R5 white", float(found[1].min()), WHITE, least=True)


def _made(engine: Engine, device: int, path: Path, out: Path, size: Size) -> Made:
    outputs = (Poster(width=size[0]), BOARD)
    return make(Task(str(path), None, outputs, str(out), "", LIMITS, engine, device))


def _different(engine: Engine, device: int, path: Path) -> int:
    """How many of all frames are not the CPU's."""
    task = Task(str(path), None, (), "", "", LIMITS, engine, device)
    with regular_file(task.path, None, LIMITS) as file, open_video(file, LIMITS) as video:
        shown = video.timeline([]).shown
        right = [fetched(shot.frame) for _, shot in video.frames(shown, {})]
        with source_of(engine, task, file, video) as source:
            seen = [fetched(shot.frame) for _, shot in source.frames(shown, {})]
    same = [_same(one, other) for one, other in zip(right, seen, strict=False)]
    return max(len(shown), len(right), len(seen)) - sum(same)


def _same(one: VideoFrame, other: VideoFrame) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(codes(one), codes(other), strict=True))


def _load(path: Path) -> Picture:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def main() -> None:
    """Arguments: the engine and the device's number. Prints the verdict as one line of JSON."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    verdict = examine(Engine(sys.argv[1]), int(sys.argv[2]))
    answers.write(msgspec.json.encode(verdict) + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
