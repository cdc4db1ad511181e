"""`veilstream users`: people who may ask the reporting API for a token."""

from __future__ import annotations

from typing import Annotated

import typer

from infra import users
from infra.service.settings import load_settings

app = typer.Typer(help="Users who may ask for a superuser's token.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Users who may ask for a superuser's token."""


@app.command()
def add(
    login: Annotated[str, typer.Argument(help="The user's name.")],
    password: Annotated[str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True)],
) -> None:
    """Add a user, or change the password; it is asked for."""
    users.add(load_settings().users, login, password)
    typer.echo("user added")
