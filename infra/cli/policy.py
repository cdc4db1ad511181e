"""`veilstream policy`: show, explain and check the privacy policies of sites."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import typer

from infra import privacy
from infra.service.settings import load_settings
from schemas.privacy import RULES
from schemas.retention import KINDS
from schemas.sites import Site, SitesError, load_sites

app = typer.Typer(help="Privacy policies: what is in force at a site, and where it is from.", no_args_is_help=True)
Number = Annotated[int, typer.Argument(metavar="SITE", help="The site's id.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _site(number: int) -> Site:
    folder = load_settings().sites
    site = load_sites(folder).of(number)
    if site is None:
        raise SitesError(f"{folder}: there is no site {number}; `veilstream sites list` shows them")
    return site


@app.command()
def show(site: Number, as_json: Json = False) -> None:
    """Print every rule in force at a site and how long rows are kept, and where each value is from; and recordings."""
    found = _site(site)
    values: dict[str, Any] = msgspec.to_builtins(found.policy.privacy, str_keys=True)
    kind = privacy.kind(found.policy.privacy)
    if as_json:
        rules = {name: {"value": values[name], "from": found.privacy_from[name]} for name in RULES}
        days = {name: {"value": getattr(found.retention, name), "from": found.retention_from[name]} for name in KINDS}
        recordings = msgspec.to_builtins(found.policy.recordings)
        shown = {"site": site, "kind": kind, "rules": rules, "retention": days, "recordings": recordings}
        typer.echo(json.dumps(shown))
        return
    typer.echo(f"site {site}: {kind}")
    for name in RULES:
        typer.echo(f"{name} = {json.dumps(values[name])}\t# {found.privacy_from[name]}")
    for name in KINDS:
        typer.echo(f"retention.{name} = {getattr(found.retention, name) or 0}\t# {found.retention_from[name]}")
    for name, value in msgspec.to_builtins(found.policy.recordings).items():
        typer.echo(f"recordings.{name} = {json.dumps(value)}")


@app.command()
def explain(site: Number, as_json: Json = False) -> None:
    """Say in plain sentences what is collected at a site, in which form and for how long."""
    found = _site(site)
    sentences = privacy.explain(found.policy, found.retention)
    if as_json:
        typer.echo(json.dumps({"site": site, "sentences": sentences}))
        return
    typer.echo("\n".join(sentences))


@app.command()
def check(
    site: Annotated[int | None, typer.Argument(metavar="[SITE]", help="The site's id; default: all sites.")] = None,
    as_json: Json = False,
) -> None:
    """Name combinations of rules that leak; the exit status is 1 when there is one."""
    sites = [_site(site)] if site is not None else list(load_sites(load_settings().sites).by_id.values())
    found = [(one.id, finding) for one in sites for finding in privacy.check(one.policy.privacy)]
    if as_json:
        rows = [{"site": n, "name": f.name, "rules": list(f.rules), "text": f.text} for n, f in found]
        typer.echo(json.dumps({"sites": len(sites), "findings": rows}))
    else:
        for number, finding in found:
            typer.echo(f"site {number}: {finding.name}: {finding.text} ({', '.join(finding.rules)})")
        typer.echo(f"{len(sites)} sites, {len(found)} combinations that leak")
    raise typer.Exit(1 if found else 0)
