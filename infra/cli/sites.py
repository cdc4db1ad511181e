"""`veilstream sites`: list, check and add sites."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from infra import sites
from infra.service.settings import load_settings
from schemas.sites import load_sites

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
