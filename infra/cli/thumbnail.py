"""`veilstream thumbnail`: all that can be made of one video file."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
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
from schemas.outputs import DEFAULT_OUTPUTS, MOST_OUTPUTS, Wanted, doubled
from schemas.videos import plain


class Engine(StrEnum):
    """What makes the pictures."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    CUDA_CLI = "cuda-cli"
    CPU_CLI = "cpu-cli"


LISTS = ("times", "index")  # keys whose values are several, with + between
ON_GPU = (Engine.CUDA, Engine.CUDA_CLI)


def command(
    video: Annotated[Path, typer.Argument(metavar="INPUT", help="The video file.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the outputs; made where missing.")],
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            metavar="KIND[:KEY=VALUE,...]",
            help="An output as the video API knows it, e.g. poster:width=640,format=webp, frames:count=5, "
            "at:times=1.5+60, scenes, storyboard:tiles=300,index=webvtt+bif, preview:format=mp4; once for each. "
            "Without any: a poster and a storyboard.",
        ),
    ] = None,
    engine: Annotated[Engine, typer.Option(help="What makes the pictures; auto takes what is there.")] = Engine.AUTO,
    device: Annotated[int, typer.Option(min=0, help="Number of the GPU, for the engines that use one.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Make posters, frames, scenes, storyboards and previews of one file, as the media worker does, without Kafka.

    With --json a video that gives none is {"reason", "detail"}; the exit status is 1 then.
    """
    outputs_wanted = _wanted(output or [])
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
        outputs=outputs_wanted,
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
    outputs = [plain(one) | {"path": str(out / one.path)} for one in made.outputs]
    for one in outputs:
        typer.echo(f"{one['path']}  {one['width']} x {one['height']}", err=as_json)
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


def _wanted(texts: Sequence[str]) -> tuple[Wanted, ...]:
    """The outputs that the options ask for; raises typer.BadParameter."""
    found = tuple(_one(text) for text in texts) or DEFAULT_OUTPUTS
    if len(found) > MOST_OUTPUTS:
        raise typer.BadParameter(f"{len(found)} outputs, at most {MOST_OUTPUTS}", param_hint="--output")
    if (number := doubled(found)) is not None:
        raise typer.BadParameter(f"{texts[number]!r}: another output has the same files", param_hint="--output")
    return found


def _one(text: str) -> Wanted:
    kind, _, rest = text.partition(":")
    fields: dict[str, object] = {"kind": kind}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r}: {part!r} is not of the form KEY=VALUE", param_hint="--output")
        fields[key] = value.split("+") if key in LISTS else value
    try:
        made: Wanted = msgspec.convert(fields, Wanted, strict=False)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint="--output") from None
    return made
