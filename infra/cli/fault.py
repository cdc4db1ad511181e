"""`veilstream fault`: do faults to a stack under load and hold the books against what was acknowledged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from infra.cli import _laboratory
from infra.load.progress import Progress


def command(
    name: Annotated[str, typer.Argument(help="The fault; without a name they are listed.")] = "",
    kills: Annotated[int, typer.Option(min=0, help="Kills and pauses in all, dealt over the kinds of process.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="The same seed deals the same faults and sends the same.")] = 1,
    rate: Annotated[float, typer.Option(min=1, help="Events per second that are sent meanwhile.")] = 500,
    away: Annotated[float, typer.Option(min=1, help="Seconds that an outage lasts; each happens once.")] = 60,
    folder: Annotated[Path | None, typer.Option(help="Keep everything here: logs, journal, history.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """A stack of its own in a temporary folder; everything stopped afterwards. Kept where the books are wrong.

    The exit status is 0 when nothing was lost, doubled or left unexplained.
    """
    faults = _laboratory.module("fault").FAULTS
    if name not in faults:
        typer.echo(
            f"there is no fault {name!r}, only: {', '.join(faults)}" if name else "\n".join(faults), err=bool(name)
        )
        raise typer.Exit(2 if name else 0)
    laboratory = _laboratory.module("fault.laboratory")
    plan = laboratory.Plan(kills=kills, seed=seed, rate=rate, away=away)
    with _laboratory.room(name, folder) as room:
        with Progress() as progress:
            found = laboratory.run(name, faults[name], room.path, plan, progress.say)
            room.keep = room.keep or not found.right
            for line in found.lines():
                progress.say(line)
        figures = found.as_dict()
        fates = ("stored", "excluded", "rejected", "repeats")
        keys = ("sent", "acknowledged", "unknown", *fates, "lost", "doubled", "unexplained")
        text = ", ".join(f"{key} {figures[key]:,}" for key in keys)
        typer.echo(f"{name}, {found.kills} kills and pauses in {found.seconds:.0f} s: {text}", err=as_json)
        if as_json:
            typer.echo(json.dumps(figures))
    if not found.right:
        raise typer.Exit(1)
