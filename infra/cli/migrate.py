"""`veilstream migrate`: tables, first secrets and topics."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from infra import migrate, topics
from infra.service.settings import load_settings


def command(
    show: Annotated[bool, typer.Option("--list", help="List the migrations and whether they are applied.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the SQL that would be run; change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Bring tables, vault and topics to what this version needs; doing it twice does nothing."""
    settings = load_settings()
    with migrate.open_database(settings) as client:
        if show or dry_run:
            states = migrate.status(client)
            for state in states:
                if show:
                    word = "applied" if state.applied else "missing"
                    typer.echo(f"{state.migration.number:04} {state.migration.name} {word}", err=as_json)
                elif not state.applied:
                    for statement in state.migration.statements:
                        typer.echo(statement + ";\n", err=as_json)
            if as_json:
                rows = [{"number": s.migration.number, "name": s.migration.name, "applied": s.applied} for s in states]
                typer.echo(json.dumps({"migrations": rows}))
            return
        applied = migrate.apply(client)
        secrets = migrate.first_secrets(client, settings)
    made = topics.ensure(settings)
    for migration in applied:
        typer.echo(f"applied {migration.number:04} {migration.name}", err=as_json)
    if secrets:
        typer.echo(f"made {secrets} secrets", err=as_json)
    for name in made:
        typer.echo(f"made topic {name}", err=as_json)
    if not (applied or secrets or made):
        typer.echo("nothing to do", err=as_json)
    if as_json:
        typer.echo(json.dumps({"applied": [m.number for m in applied], "secrets": secrets, "topics": made}))
