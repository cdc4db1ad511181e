"""`veilstream fuzz`: send a collector requests that are wrong in every way and check that it stands."""

from __future__ import annotations

import importlib
import json
import secrets
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
    if not (TOP / "tests/fuzz").is_dir():
        typer.echo("the laboratory is in the checkout only, not in the installed package", err=True)
        raise typer.Exit(2)
    if name != "collector":
        typer.echo(f"there is nothing to fuzz called {name!r}, only: collector", err=True)
        raise typer.Exit(2)
    if str(TOP) not in sys.path:
        sys.path.insert(0, str(TOP))
    laboratory = importlib.import_module("tests.fuzz.laboratory")
    signal.signal(signal.SIGTERM, _interrupted)
    place = folder or Path(tempfile.mkdtemp(prefix="veilstream-fuzz-"))
    place.mkdir(parents=True, exist_ok=True)
    chosen = secrets.randbits(31) if seed is None else seed
    keep = folder is not None
    try:
        with Progress() as progress:
            progress.say(f"seed {chosen}")
            found = laboratory.run(place, requests, chosen, progress.say)
        keep = keep or bool(found.problems)
        for line in found.problems:
            typer.echo(line, err=True)
        if keep:
            typer.echo(f"everything is kept in {place}", err=True)
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
    if found.problems:
        raise typer.Exit(1)


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt
