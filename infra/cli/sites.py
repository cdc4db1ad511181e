"""`veilstream sites`: list, show, check and add sites, and make and revoke their tokens."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from infra import sites
from infra.service import webhook_secrets
from infra.service.settings import load_settings
from schemas.packets import Role
from schemas.sites import SitesError, load_sites
from schemas.tokens import Token, token_hash

app = typer.Typer(help="Sites: one file <id>.toml each.", no_args_is_help=True)


@app.command("list")
def list_sites(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the sites with their domains and time zones."""
    found = load_sites(load_settings().sites)
    if as_json:
        rows = [
            {
                "id": site.id,
                "name": site.name,
                "domains": site.policy.domains,
                "timezone": site.policy.timezone,
            }
            for site in found.by_id.values()
        ]
        typer.echo(json.dumps({"sites": rows, "policy_version": found.policies.version.hex()}))
        return
    for site in found.by_id.values():
        typer.echo(f"{site.id}\t{site.name}\t{site.policy.timezone}\t{' '.join(site.policy.domains)}")


@app.command()
def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check every site's file; the exit status is 1 when one is wrong, and each wrong one is named."""
    folder = load_settings().sites
    problems: tuple[str, ...] = ()
    count = 0
    try:
        count = len(load_sites(folder))
    except SitesError as error:
        problems = error.problems
    if as_json:
        typer.echo(json.dumps({"sites": count, "problems": problems}))
    elif problems:
        for problem in problems:
            typer.echo(f"error: {problem}", err=True)
    else:
        typer.echo(f"{count} sites in {folder} are right")
    raise typer.Exit(1 if problems else 0)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The site's name, for people.")],
    domain: Annotated[list[str] | None, typer.Option(help="A host of the site; may be given more than once.")] = None,
    timezone: Annotated[
        str,
        typer.Option(help="IANA time zone by which the site's days begin; default: as default.toml says, else UTC."),
    ] = "",
    number: Annotated[int | None, typer.Option("--id", min=1, help="The id; default: the next free one.")] = None,
) -> None:
    """Add a site. A running collector takes it up within seconds."""
    site = sites.add(load_settings().sites, name=name, domains=tuple(domain or ()), timezone=timezone, number=number)
    typer.echo(f"site {site.id} added")


@app.command()
def show(number: Annotated[int, typer.Argument(metavar="ID", help="The site's id.")]) -> None:
    """Show a site as one JSON object; of its tokens the hashes."""
    folder = load_settings().sites
    site = load_sites(folder).of(number)
    if site is None:
        raise SitesError(f"{folder}: there is no site {number}; `veilstream sites list` shows those that are")
    shown = {
        "id": site.id,
        "name": site.name,
        "main_url": site.main_url,
        **msgspec.to_builtins(site.policy, str_keys=True),
        "goal_names": site.goal_names,
        "limits": None if site.limit is None else msgspec.to_builtins(site.limit),
        "tokens": [_shown(digest, token) for digest, token in site.tokens.items()],
    }
    typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))


def _shown(digest: str, token: Token) -> dict[str, str | bool | None]:
    return {
        "hash": digest,
        "role": token.role.name.lower(),
        "description": token.description,
        "expires": None if token.expires is None else datetime.fromtimestamp(token.expires, UTC).isoformat(),
        "expired": not token.now,
    }


@app.command()
def token(
    number: Annotated[int | None, typer.Argument(metavar="[ID]", help="The site; none for all sites.")] = None,
    role: Annotated[str, typer.Option(help="view, write or admin; superuser without a site.")] = "",
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    expires: Annotated[datetime | None, typer.Option(help="When it ends, UTC; default: never.")] = None,
    revoke: Annotated[str, typer.Option(metavar="HASH_PREFIX", help="Take out the token with this hash.")] = "",
    listed: Annotated[bool, typer.Option("--list", help="List the tokens as one JSON object, by hash.")] = False,
) -> None:
    """Make a token and print it, this once; or take one out, or list them. Collectors follow within a second."""
    folder = load_settings().sites
    if bool(role) + bool(revoke) + listed != 1:
        raise typer.BadParameter("one of --role, --revoke and --list is needed")
    if listed:
        found = load_sites(folder)
        site = None if number is None else found.of(number)
        if number is not None and site is None:
            raise SitesError(f"{folder}: there is no site {number}; `veilstream sites list` shows those that are")
        tokens = found.superusers if site is None else site.tokens
        typer.echo(json.dumps({"tokens": [_shown(*pair) for pair in tokens.items()]}))
        return
    if revoke:
        typer.echo(f"token {sites.revoke_token(folder, number, revoke)} revoked")
        return
    allowed = ("superuser",) if number is None else ("view", "write", "admin")
    if role not in allowed:
        where = "without a site" if number is None else "with a site"
        raise typer.BadParameter(f"{where} it must be {' or '.join(allowed)}", param_hint="--role")
    until = expires.replace(tzinfo=UTC) if expires else None
    if until is not None and until <= datetime.now(UTC):
        raise typer.BadParameter("it is over already", param_hint="--expires")
    made = sites.add_token(folder, number, Role[role.upper()], description=description, expires=until)
    typer.echo(made)
    typer.echo(
        f"It is shown this once. Its hash, by which it can be revoked, begins with {token_hash(made)[:12]}.", err=True
    )


@app.command()
def webhook(
    number: Annotated[int, typer.Argument(metavar="ID", help="The site's id.")],
    remove: Annotated[bool, typer.Option(help="Take the secrets out; without one nothing is sent.")] = False,
) -> None:
    """Make a secret that the site's webhooks are signed with, and print it. The one before it signs as well."""
    settings = load_settings()
    if load_sites(settings.sites).of(number) is None:
        raise SitesError(f"{settings.sites}: there is no site {number}; `veilstream sites list` shows those that are")
    if remove:
        there = webhook_secrets.remove(settings.webhook_secrets, number)
        typer.echo(f"site {number} has no secret any more" if there else f"site {number} has no secret")
        return
    typer.echo(webhook_secrets.add(settings.webhook_secrets, number))
    typer.echo("The receiver verifies by it; it is kept in a file that only its owner may read.", err=True)
