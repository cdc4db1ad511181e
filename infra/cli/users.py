"""`veilstream users`: add and remove people who may ask the reporting API for a superuser's token."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from infra import users
from infra.service.settings import load_settings

app = typer.Typer(help="Users who may ask for a superuser's token.", no_args_is_help=True)
Login = Annotated[str, typer.Argument(help="The user's name.")]


@app.command()
def add(
    login: Login,
    from_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
    ] = False,
) -> None:
    """Add a user, or change the password, which is asked for. Collectors follow at once."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    users.add(load_settings().users, login, password)
    typer.echo(f"user {login} may ask for a token")


@app.command()
def remove(login: Login) -> None:
    """Take a user out. Tokens that the user has been given live on until they expire or are revoked."""
    users.remove(load_settings().users, login)
    typer.echo(f"user {login} may ask for a token no more")
