"""`veilstream rejects`: list and count events that could not be processed, and replay them once they can be."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated

import typer

from infra.service.clickhouse import connect, quote
from infra.service.settings import load_settings
from infra.service.vault import Vault, master_keys
from schemas.reasons import Rejected
from schemas.topics import EVENTS_RAW, SITE_POLICIES

app = typer.Typer(help="Events that could not be processed: reasons and sizes, never a value.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Site = Annotated[int | None, typer.Option(min=0, help="Of this site only.")]
Reason = Annotated[Rejected | None, typer.Option(help="For this reason only.")]
_OPEN = "(writer, `partition`, seq, `index`) NOT IN (SELECT writer, `partition`, seq, `index` FROM rejects_replayed)"


def _where(site: int | None, reason: Rejected | None) -> str:
    parts = [_OPEN]
    if site is not None:
        parts.append(f"site_id = {site}")
    if reason is not None:
        parts.append(f"reason = {quote(reason)}")
    return " AND ".join(parts)


@app.command("list")
def list_(
    site: Site = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="The last so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the last rejects by name, with reason, field and size in bytes. What was replayed is left out."""
    names = ("received_at", "site_id", "reason", "field", "size", "writer", "partition", "seq", "index")
    columns = ", ".join(f"`{name}`" for name in names)
    with connect(load_settings()) as client:
        rows = client.query(
            f"SELECT toString(received_at), {columns.partition(', ')[2]} FROM rejects WHERE {_where(site, reason)} "
            f"ORDER BY received_at DESC LIMIT {limit}"
        ).result_rows
    if as_json:
        typer.echo(json.dumps({"rejects": [dict(zip(names, row, strict=True)) for row in rows]}))
        return
    for at, of, why, field, size, writer, number, seq, index in rows:
        name = f"{writer:016x}/{number}/{seq}/{index}"
        typer.echo(f"{at}  site {of:<6} {why:<15} {field or '-':<14} {size:>7} bytes  {name}")


@app.command()
def count(site: Site = None, reason: Reason = None, as_json: AsJson = False) -> None:
    """Count rejects by site, reason and field. What was replayed is left out."""
    with connect(load_settings()) as client:
        rows = client.query(
            "SELECT site_id, toString(reason), toString(field), count() AS n FROM rejects "
            f"WHERE {_where(site, reason)} GROUP BY ALL ORDER BY n DESC"
        ).result_rows
    if as_json:
        names = ("site", "reason", "field", "rejects")
        typer.echo(json.dumps({"counts": [dict(zip(names, row, strict=True)) for row in rows]}))
        return
    for of, why, field, number in rows:
        typer.echo(f"{number:>9,}  site {of:<6} {why:<15} {field or '-'}")


@app.command()
def replay(
    site: Site = None,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would become of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Process rejects again, with this version and the policy that their packets name, while the log has them.

    What is understood now gets its row under the name that it always had. Doing it twice is doing it once.
    """
    from streams.lookups import Shelf
    from streams.policies import Policies
    from streams.replay import Replay
    from streams.topic_generations import Topic, generation_of

    settings = load_settings()
    name = settings.topic(EVENTS_RAW)
    topic_id = Topic(settings.kafka, name).id()
    if topic_id is None:
        typer.echo(f"there is no topic {name}", err=True)
        raise typer.Exit(1)
    with connect(settings) as client:
        vault = Vault(client, partial(master_keys, settings.master_key))
        shelf = Shelf(Policies(settings.kafka, settings.topic(SITE_POLICIES)), vault, name)
        found = Replay(client, settings.kafka, name, generation_of(client, topic_id), shelf).run(
            reason=reason or "", site=site, store=not dry_run
        )
    would = "would be" if dry_run else "are"
    text = f"{found.stored:,} {would} stored, {found.again:,} are not kept again, {found.gone:,} have left the log"
    typer.echo(text, err=as_json)
    if as_json:
        typer.echo(json.dumps({"stored": found.stored, "again": found.again, "gone": found.gone, "dry_run": dry_run}))
