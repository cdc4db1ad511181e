"""`veilstream sites`: list, check and add sites."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from infra import sites
from infra.service.settings import load_settings
from schemas.packets import Role
from schemas.sites import SitesError, load_sites

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
def check() -> None:
    """Check every site's file; the exit status is 1 when one is wrong."""
    folder = load_settings().sites
    typer.echo(f"{len(load_sites(folder))} sites in {folder} are right")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The site's name, for people.")],
    domain: Annotated[list[str] | None, typer.Option(help="A host of the site; may be given more than once.")] = None,
    timezone: Annotated[str, typer.Option(help="IANA time zone by which the site's days begin.")] = "UTC",
    number: Annotated[int | None, typer.Option("--id", min=1, help="The id; default: the next free one.")] = None,
) -> None:
    """Add a site. A running collector takes it up within seconds."""
    site = sites.add(load_settings().sites, name=name, domains=tuple(domain or ()), timezone=timezone, number=number)
    typer.echo(f"site {site.id} added")


@app.command()
def show(number: Annotated[int, typer.Argument(metavar="ID", help="The site's id.")]) -> None:
    """Show a site as JSON; of its tokens the hashes."""
    site = load_sites(load_settings().sites).of(number)
    if site is None:
        raise SitesError(f"there is no site {number}; `veilstream sites list` shows those that are")
    tokens = [
        {"hash": digest, "role": role.name.lower(), "expires": site.expires.get(digest)}
        for digest, role in site.tokens.items()
    ]
    policy = {name: getattr(site.policy, name) for name in site.policy.__struct_fields__}
    typer.echo(json.dumps({"id": site.id, "name": site.name, "main_url": site.main_url, **policy, "tokens": tokens}))


@app.command()
def token(
    number: Annotated[int | None, typer.Argument(metavar="[ID]", help="The site; none for all sites.")] = None,
    role: Annotated[str, typer.Option(help="view, write or admin; superuser without a site.")] = "",
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    expires: Annotated[datetime | None, typer.Option(help="When it ends, UTC; default: never.")] = None,
    revoke: Annotated[str, typer.Option(metavar="HASH_PREFIX", help="Take out the token with this hash.")] = "",
) -> None:
    """Make a token and print it, this once, or take one out. Collectors follow within seconds."""
    folder = load_settings().sites
    if revoke:
        typer.echo(f"token {sites.revoke_token(folder, number, revoke)} revoked")
        return
    allowed = ("superuser",) if number is None else ("view", "write", "admin")
    if role not in allowed:
        raise SitesError(f"--role must be {' or '.join(allowed)} {'without' if number is None else 'with'} a site")
    until = expires.replace(tzinfo=UTC) if expires else None
    typer.echo(sites.add_token(folder, number, Role[role.upper()], description=description, expires=until))
