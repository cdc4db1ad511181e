"""`veilstream canary`: plant marks in every field of requests and search everything that is left for them."""

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
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed plants the same; default: a random one.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Keep everything here: topics, tables, logs, spools.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Two stacks of their own in a temporary folder, with all rules and with none, which must find the marks.

    Class a: any text where the policy drops or hashes. Class b: values of each kind that is detected, in free text.
    Class c: neutral words, which must be stored. The exit status is 0 when nothing of a or b is found anywhere, raw or
    decompressed, plain, percent-encoded once or twice, in upper case or base64, and all of c is.
    """
    if not (TOP / "tests/canary").is_dir():
        typer.echo("the laboratory is in the checkout only, not in the installed package", err=True)
        raise typer.Exit(2)
    if str(TOP) not in sys.path:
        sys.path.insert(0, str(TOP))
    laboratory = importlib.import_module("tests.canary.laboratory")
    signal.signal(signal.SIGTERM, _interrupted)
    place = folder or Path(tempfile.mkdtemp(prefix="veilstream-canary-"))
    place.mkdir(parents=True, exist_ok=True)
    chosen = secrets.randbits(31) if seed is None else seed
    try:
        with Progress() as progress:
            figures = laboratory.run(place, chosen, progress.say)
        for row in figures["found"]:
            typer.echo(f"a mark of {row['field']} is in {row['place']}", err=True)
        without = figures["without_rules"]
        typer.echo(
            f"seed {chosen}: {figures['planted']:,} marks planted; found of class a {figures['found_a']}, of class b"
            f" {figures['found_b']}; missing of class c {figures['missing_c']}; without rules {without['missing']} of"
            f" {without['planted']:,} were not found; {figures['files']:,} files in {figures['seconds']:.0f} s",
            err=as_json,
        )
        if as_json:
            typer.echo(json.dumps(figures))
    except KeyboardInterrupt:
        typer.echo("interrupted; everything is cleaned up", err=True)
        raise typer.Exit(130) from None
    finally:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)
    if not laboratory.right(figures):
        raise typer.Exit(1)


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt
