"""`veilstream vectors`: hold the deployed stages to recorded cases of Matomo's tracking API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra import vectors


def command(
    file: Annotated[Path, typer.Argument(help="JSON with a list `vectors` of cases.", exists=True, dir_okay=False)],
    why: Annotated[bool, typer.Option("--why", help="Name each failed case on standard error.")] = False,
) -> None:
    """Run every case of a group that concerns requests through the function of the collector or worker that decides it.

    A case where the product means something else stands in a checked-in list with its rule and reason, asserts the
    product's own result, and counts as `stricter`. A case that no stage decides yet counts as failed.
    """
    try:
        groups = vectors.load(file)
    except vectors.BadFile as error:
        typer.echo(f"vectors: {error}", err=True)
        raise typer.Exit(2) from None
    passed = failed = 0
    for name, cases in groups.items():
        found = [vectors.run(case) for case in cases]
        good, strict = found.count(vectors.PASSED), found.count(vectors.STRICTER)
        passed += good
        failed += len(found) - good - strict
        typer.echo(f"{name}: {good} passed, {len(found) - good - strict} failed, {strict} stricter")
        if why:
            for case, outcome in zip(cases, found, strict=True):
                if outcome not in (vectors.PASSED, vectors.STRICTER):
                    typer.echo(f"{case['id']}: {outcome}", err=True)
    typer.echo(f"{passed} passed, {failed} failed")
    raise typer.Exit(1 if failed else 0)
