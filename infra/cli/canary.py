"""`veilstream canary`: plant marks in every field of requests and search everything that is left for them."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Annotated

import typer

from infra.cli import _laboratory
from infra.load.progress import Progress


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
    laboratory = _laboratory.module("canary.laboratory")
    chosen = secrets.randbits(31) if seed is None else seed
    with _laboratory.room("canary", folder) as room:
        with Progress() as progress:
            figures = laboratory.run(room.path, chosen, progress.say)
        room.keep = room.keep or not laboratory.right(figures)
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
    if not laboratory.right(figures):
        raise typer.Exit(1)
