"""`veilstream fuzz`: send a collector requests that are wrong in every way and check that it stands."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Annotated

import typer

from infra.cli import _laboratory
from infra.load.progress import Progress


def command(
    name: Annotated[str, typer.Argument(help="What is fuzzed: collector.")] = "collector",
    requests: Annotated[int, typer.Option(min=1, help="Requests that are sent in all.")] = 100_000,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed sends the same; default: a random one.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Keep everything here: logs, failing inputs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """A collector and a broker of its own in a temporary folder, which is kept where something did not hold.

    No answer may be a failure, no connection may hang, nothing may grow or be left open, every accepted event must be
    acknowledged, and every packet must go through the worker's stages. The exit status is 0 when all of it held.
    """
    if name != "collector":
        typer.echo(f"there is nothing to fuzz called {name!r}, only: collector", err=True)
        raise typer.Exit(2)
    laboratory = _laboratory.module("fuzz.laboratory")
    chosen = secrets.randbits(31) if seed is None else seed
    with _laboratory.room("fuzz", folder) as room:
        with Progress() as progress:
            progress.say(f"seed {chosen}")
            found = laboratory.run(room.path, requests, chosen, progress.say)
        room.keep = room.keep or bool(found.problems)
        for line in found.problems:
            typer.echo(line, err=True)
        figures = laboratory.as_json(found)
        statuses = ", ".join(f"{count:,} x {status}" for status, count in found.statuses.items())
        typer.echo(
            f"seed {chosen}: {found.requests:,} requests on {found.connections:,} connections in {found.seconds:.0f} s;"
            f" answers {statuses}; {found.events:,} events in {found.packets:,} packets went through the stages;"
            f" memory {found.rss_warm >> 20} to {found.rss_end >> 20} MiB,"
            f" open files {found.files_warm} to {found.files_end}; {len(found.problems)} problems",
            err=as_json,
        )
        if as_json:
            typer.echo(json.dumps(figures))
    if found.problems:
        raise typer.Exit(1)
