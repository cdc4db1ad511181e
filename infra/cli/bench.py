"""`veilstream bench`: measure, each time together with what it is compared with."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from infra.cli import _laboratory
from infra.service.settings import load_settings

QUICK_ROUNDS = 2
KEPT = ("VEILSTREAM_LOG_LEVEL", "VEILSTREAM_TEST_MEDIA")


def command(
    name: Annotated[str, typer.Argument(help="The benchmark; without a name they are listed.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often each thing is measured.")] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help="Where crossover writes its table: by default, unless quick, router.json in the state folder."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small and short, to see that it works.")] = False,
) -> None:
    """Measure ours and the reference in turns, on a broker and an engine of their own.

    Speeds are per CPU second of the processes under test. A run that other programs disturbed says so.
    """
    benchmarks = _laboratory.module("benchmarks")
    try:
        benchmark = benchmarks.load(name)
    except KeyError:
        if not name:
            typer.echo("\n".join(benchmarks.names()))
            return
        typer.echo(f"there is no benchmark {name!r}, only {', '.join(benchmarks.names())}", err=True)
        raise typer.Exit(2) from None
    frame = _laboratory.module("benchmarks.frame")
    show = _laboratory.module("benchmarks.frame.show").show
    named = table or (None if quick else load_settings().router_table)
    for variable in [name for name in os.environ if name.startswith("VEILSTREAM_") and name not in KEPT]:
        del os.environ[variable]  # what is set for an installation is not meant for the benchmark's own
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix=f"veilstream-bench-{name}-") as folder:
            chosen = rounds or (min(QUICK_ROUNDS, benchmark.rounds) if quick else benchmark.rounds)
            answer = benchmark.run(frame.Frame(chosen, quick, Path(folder), _say, named and named.absolute())).as_dict()
    except KeyboardInterrupt:
        typer.echo("interrupted, nothing is left running", err=True)
        raise typer.Exit(130) from None
    show(answer, sys.stderr if as_json else sys.stdout)
    if as_json:
        typer.echo(json.dumps(answer))


def _say(line: str) -> None:
    typer.echo(line, err=True)
