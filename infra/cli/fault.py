"""`veilstream fault`: do faults to a stack under load and hold the books against what was acknowledged."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from infra.load.progress import Progress

TOP = Path(__file__).parents[2]


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
    if not (TOP / "tests/fault").is_dir():
        typer.echo("the laboratory is in the checkout only, not in the installed package", err=True)
        raise typer.Exit(2)
    if str(TOP) not in sys.path:
        sys.path.insert(0, str(TOP))
    faults = importlib.import_module("tests.fault").FAULTS
    if name not in faults:
        typer.echo(
            f"there is no fault {name!r}, only: {', '.join(faults)}" if name else "\n".join(faults), err=bool(name)
        )
        raise typer.Exit(2 if name else 0)
    laboratory = importlib.import_module("tests.fault.laboratory")
    plan = laboratory.Plan(kills=kills, seed=seed, rate=rate, away=away)
    signal.signal(signal.SIGTERM, _interrupted)
    place = folder or Path(tempfile.mkdtemp(prefix=f"veilstream-{name}-"))
    place.mkdir(parents=True, exist_ok=True)
    keep = folder is not None
    try:
        with Progress() as progress:
            found = laboratory.run(name, faults[name], place, plan, progress.say)
            keep = keep or not found.right
            for line in found.lines():
                progress.say(line)
            if keep:
                progress.say(f"everything is kept in {place}")
        figures = found.as_dict()
        fates = ("stored", "excluded", "rejected", "repeats")
        keys = ("sent", "acknowledged", "unknown", *fates, "lost", "doubled", "unexplained")
        text = ", ".join(f"{key} {figures[key]:,}" for key in keys)
        typer.echo(f"{name}, {found.kills} kills and pauses in {found.seconds:.0f} s: {text}", err=as_json)
        if as_json:
            typer.echo(json.dumps(figures))
    except KeyboardInterrupt:
        typer.echo("interrupted; everything is cleaned up", err=True)
        raise typer.Exit(130) from None
    except Exception:
        keep = True
        typer.echo(f"everything is kept in {place}", err=True)
        raise
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
    if not found.right:
        raise typer.Exit(1)


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt
