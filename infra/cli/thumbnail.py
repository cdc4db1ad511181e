"""`veilstream thumbnail`: poster, storyboard and WebVTT of one video file."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gpu_workers import admission
from gpu_workers.failures import Failure
from gpu_workers.inputs import limits_of
from gpu_workers.nvml import Nvml
from gpu_workers.supervisor import Decoder
from gpu_workers.thumbnails import Task
from infra.service.logs import configure
from infra.service.settings import load_settings
from schemas import videos
from schemas.videos import DEFAULT_OUTPUTS, plain


class Engine(StrEnum):
    """What makes the pictures."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    CUDA_CLI = "cuda-cli"
    CPU_CLI = "cpu-cli"


ON_GPU = (Engine.CUDA, Engine.CUDA_CLI)


def command(
    video: Annotated[Path, typer.Argument(metavar="INPUT", help="The video file.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the outputs; made where missing.")],
    engine: Annotated[Engine, typer.Option(help="What makes the pictures; auto takes what is there.")] = Engine.AUTO,
    device: Annotated[int, typer.Option(min=0, help="Number of the GPU, for the engines that use one.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Make a poster, a storyboard and its WebVTT of one file, as the media worker does, without Kafka.

    With --json a video that gives none is {"reason", "detail"}; the exit status is 1 then.
    """
    settings = load_settings()
    configure("thumbnail", "warning")
    number = device if engine in ON_GPU else None
    if engine is Engine.AUTO:
        nvml = Nvml()
        number = admission.device(settings.state, nvml.snapshot())
        nvml.close()
    task = Task(
        path=str(video.absolute()),
        folder=None,
        outputs=DEFAULT_OUTPUTS,
        root=str(out.absolute()),
        name="",
        limits=limits_of(settings),
        engine=None if engine is Engine.AUTO else videos.Engine(engine.value),
        device=number,
    )
    began = time.monotonic()
    decoder = Decoder(settings.video_memory_bytes, on_gpu=number is not None)
    try:
        made = decoder.run(task, settings.video_job_seconds)
    except Failure as failure:
        typer.echo(f"error: {video}: {failure}", err=True)
        if as_json:
            typer.echo(json.dumps({"reason": failure.reason, "detail": failure.detail}))
        raise typer.Exit(1) from None
    finally:
        decoder.stop()
    outputs = [plain(output) | {"path": str(out / output.path)} for output in made.outputs]
    for output in outputs:
        typer.echo(f"{output['path']}  {output['width']} x {output['height']}", err=as_json)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "engine": made.engine,
                    "source": plain(made.source),
                    "outputs": outputs,
                    "seconds": round(time.monotonic() - began, 3),
                }
            )
        )
