"""`veilstream scale`: how many stream workers the local stack runs."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from infra.local.scaling import COUNT, MOST
from infra.local.stack import Stack
from infra.service.settings import PREFIX, load_settings

app = typer.Typer(help="How many processes of a kind the local stack runs.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """How many processes of a kind the local stack runs."""


@app.command()
def streams(
    workers: Annotated[int, typer.Argument(min=1, max=MOST, help="Stream workers, one for each core they may use.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Start or stop stream workers until there are so many; `up` starts as many again. The rest goes on meanwhile.

    Returns when all of them own partitions and are ready, or are to own none as there are more of them than partitions.
    """
    settings = load_settings()
    if COUNT in settings.model_fields_set:
        name = PREFIX + COUNT.upper()
        typer.echo(f"{name} is set to {settings.worker_processes} and counts for more; unset it first", err=True)
        raise typer.Exit(2)
    stack = Stack.of(settings, say=lambda line: typer.echo(line, err=True))
    before = stack.settings.worker_processes
    began = time.monotonic()
    running = stack.scale(workers)
    seconds = time.monotonic() - began
    if running:
        typer.echo(f"{workers} stream workers share the partitions ({before} before, {seconds:.1f} s)", err=as_json)
    else:
        typer.echo(f"`up` will start {workers} stream workers", err=as_json)
    if as_json:
        told = {"streams": workers, "before": before, "running": running, "seconds": round(seconds, 2)}
        typer.echo(json.dumps(told))
