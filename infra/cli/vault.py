"""`veilstream vault`: list the vault's secrets by age, and change the master key."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from infra.service import rotation
from infra.service.clickhouse import Client, connect
from infra.service.settings import load_settings
from infra.service.vault import HOUR, entries, hour_start

app = typer.Typer(help="The vault's secrets: their ages, never their values; the master key.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
DAY_SECONDS = 86_400


@app.command("list")
def list_(
    as_json: AsJson = False,
    destroyed: Annotated[int, typer.Option(min=0, help="How many of those destroyed last are shown too.")] = 10,
) -> None:
    """Show every secret's kind, name, age and hard limit, and what was destroyed, when and by which rule."""
    with connect(load_settings()) as client:
        living, gone = _living(client), _gone(client, destroyed)
    if as_json:
        typer.echo(json.dumps({"secrets": living, "destroyed": gone}))
        return
    typer.echo("KIND  NAME                 AGE          AT THE LATEST DESTROYED IN  WAITS FOR")
    for row in living:
        name = _shown(row)
        waits = f"{len(row['spools'])} spools" if row["spools"] else ""
        age, limit = _span(row["age_seconds"]), _span(row["limit_seconds"])
        typer.echo(f"{row['kind']:<5} {name:<20} {age:<12} {limit:<27} {waits}".rstrip())
    for row in gone:
        state = f"gone from the disk, parts {', '.join(row['parts'])}" if row["gone"] else "begun"
        typer.echo(f"destroyed {row['kind']} {_shown(row)} at {row['at']} by rule {row['rule']}: {state}")


@app.command()
def rotate(as_json: AsJson = False) -> None:
    """Wrap every secret by a new master key and drop what the old one wrapped; called again, it goes on.

    Running processes follow by themselves, where they read the same file of master keys.
    """
    settings = load_settings()
    with connect(settings) as client:
        done = rotation.rotate(client, settings.master_key)
    text = f"{done.secrets} secrets are wrapped by the new master key; old keys retired: {done.retired}"
    typer.echo(text, err=as_json)
    if as_json:
        typer.echo(json.dumps({"secrets": done.secrets, "retired": done.retired}))


def _living(client: Client) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    waiting = client.query(
        "SELECT hour, groupArray(spool) FROM (SELECT hour, spool FROM vault_spools GROUP BY hour, spool "
        "HAVING max(done) = 0) GROUP BY hour"
    ).result_rows
    spools = {str(hour): sorted(found) for hour, found in waiting}
    return [
        {
            "kind": kind,
            "name": name,
            "age_seconds": round((now - min(row.made_at for row in rows)).total_seconds()),
            "limit_seconds": None if kind == "site" else round((max(r.expires for r in rows) - now).total_seconds()),
            "masters": sorted({row.master.hex() for row in rows}),
            "spools": spools.get(name, []) if kind == HOUR else [],
        }
        for (kind, name), rows in sorted(entries(client).items())
    ]


def _gone(client: Client, most: int) -> list[dict[str, Any]]:
    rows = client.query(
        "SELECT kind, name, any(rule), max(gone), arrayFlatten(groupArray(parts)), max(at) AS last "
        f"FROM vault_destroyed GROUP BY kind, name ORDER BY last DESC LIMIT {most}"
    ).result_rows
    return [
        {"kind": k, "name": n, "rule": rule, "gone": bool(gone), "parts": list(parts), "at": at.isoformat(sep=" ")[:19]}
        for k, n, rule, gone, parts, at in rows
    ]


def _shown(row: dict[str, Any]) -> str:
    """An hour is shown as its time in UTC."""
    if row["kind"] != HOUR:
        return str(row["name"])
    return hour_start(int(row["name"])).strftime("%Y-%m-%dT%H:00Z")


def _span(seconds: int | None) -> str:
    if seconds is None:
        return "never"
    days, rest = divmod(max(seconds, 0), DAY_SECONDS)
    return f"{days} d {rest // 3600} h" if days else f"{rest // 3600} h {rest % 3600 // 60} min"
