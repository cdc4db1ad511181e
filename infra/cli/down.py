"""`veilstream down`: stop the local stack."""

from __future__ import annotations

import typer

from infra.local.stack import Stack
from infra.service.settings import load_settings


def command() -> None:
    """Stop every part in reverse order and return when no process is left. All data is kept."""
    stopped = Stack.of(load_settings(), say=lambda line: typer.echo(line, err=True)).stop()
    typer.echo("the stack is down" if stopped else "nothing was running")
