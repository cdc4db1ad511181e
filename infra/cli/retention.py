"""`veilstream retention`: remove stored rows whose time is over, and show what was removed."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from infra import retention
from infra.service.clickhouse import connect
from infra.service.settings import load_settings
from schemas.sites import load_sites

app = typer.Typer(help="How long rows are kept, by site and kind of data.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


@app.command()
def run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be removed; change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove the rows of all sites that are older than `[retention]` in the sites' files says; run it once a day.

    A month that is over for every site goes as a partition; otherwise its parts are written anew without the rows.
    Doing it twice, or after it was cut off, removes what is left.
    """
    settings = load_settings()
    sites = load_sites(settings.sites)
    with connect(settings) as client:
        removed = retention.run(client, sites, dry_run=dry_run, tell=_tell)
    rows = sum(one.rows for one in removed)
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "rows": rows, "removed": [one.as_dict() for one in removed]}))
        return
    would = "would be removed" if dry_run else "removed"
    for one in removed:
        typer.echo(f"site {one.site}: {one.rows} {one.data} of {one.month} from before {one.before} {would}")
    typer.echo(f"{rows} rows {would}")


@app.command()
def report(as_json: Json = False) -> None:
    """Print what was removed, and what was made anonymous by `anonymize-past`: when, of which site, by which rule."""
    with connect(load_settings()) as client:
        changes = retention.record(client)
    if as_json:
        typer.echo(json.dumps({"changes": changes}))
        return
    for row in changes:
        typer.echo(
            f"{row['at']}\t{row['what']}\tsite {row['site_id']}\t{row['data']} {row['month']}\t"
            f"{row['rows']} rows to {row['last']}\t{row['rule']}"
        )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
