"""`veilstream thumbnail`: poster, storyboard and WebVTT of one video file."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gpu_workers.failures import Failure
from gpu_workers.inputs import limits_of
from gpu_workers.supervisor import Decoder
from gpu_workers.thumbnails import Task
from infra.service.settings import load_settings
from schemas.videos import DEFAULT_OUTPUTS, plain


class Engine(StrEnum):
    """What makes the pictures."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def command(
    video: Annotated[Path, typer.Argument(metavar="INPUT", help="The video file.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the outputs; made where missing.")],
    engine: Annotated[Engine, typer.Option(help="What makes the pictures; auto takes what is there.")] = Engine.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Make a poster, a storyboard and its WebVTT of one file, as the media worker does, without Kafka.

    With --json a video that gives none is {"reason", "detail"}; the exit status is 1 then.
    """
    if engine is Engine.CUDA:
        typer.echo("error: the engine cuda is not available here yet; --engine cpu makes the same pictures", err=True)
        raise typer.Exit(2)
    settings = load_settings()
    task = Task(
        path=str(video.absolute()),
        folder=None,
        outputs=DEFAULT_OUTPUTS,
        root=str(out.absolute()),
        name="",
        limits=limits_of(settings),
    )
    began = time.monotonic()
    decoder = Decoder(settings.video_memory_bytes)
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
