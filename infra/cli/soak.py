"""`veilstream soak`: a stack under load and faults for a long time; the books, and whether memory stays flat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from infra.cli import _laboratory
from infra.load.progress import Progress

LONGEST_AWAY = 60.0  # seconds of an outage
ROUND = 20  # kills and pauses for each time that every outage happens once


def command(
    minutes: Annotated[float, typer.Option(min=1, help="How long faults go on; the start and the end take more.")] = 60,
    rate: Annotated[float, typer.Option(min=1, help="Events per second that are sent meanwhile.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="The same seed deals the same faults and sends the same.")] = 1,
    folder: Annotated[Path | None, typer.Option(help="Keep everything here: logs, journal, history.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Events, videos, two stream workers, and kills, pauses, zombies, rebalances, cut networks and outages by chance.

    A stack of its own in a temporary folder, kept where something is wrong. The exit status is 0 when the books balance
    and memory, file handles and threads of every kind of process are flat.
    """
    laboratory = _laboratory.module("fault.laboratory")
    faults = _laboratory.module("fault").SOAK
    away = min(LONGEST_AWAY, minutes * 60 / ROUND)
    plan = laboratory.Plan(kills=ROUND, seed=seed, rate=rate, away=away, seconds=minutes * 60)
    with _laboratory.room("soak", folder) as room:
        with Progress() as progress:
            found = laboratory.run("soak", faults, room.path, plan, progress.say)
            room.keep = room.keep or not found.right
            for line in found.lines():
                progress.say(line)
        figures = found.as_dict()
        keys = ("sent", "acknowledged", "unknown", "stored", "lost", "doubled", "unexplained")
        text = ", ".join(f"{key} {figures[key]:,}" for key in keys)
        typer.echo(f"soak, {found.kills} kills and pauses in {found.seconds:.0f} s: {text}", err=as_json)
        for role, of_role in found.trends.items():
            said = ", ".join(
                f"{measure} {trend.mean:.0f} {trend.slope_per_hour:+.1f}/h{'' if trend.flat else ' NOT FLAT'}"
                for measure, trend in of_role.items()
            )
            typer.echo(f"{role:<10} {said}", err=as_json)
        if as_json:
            typer.echo(json.dumps(figures))
    if not found.right:
        raise typer.Exit(1)
