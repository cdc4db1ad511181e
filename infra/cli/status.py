"""`veilstream status`: the parts of the local stack, whether they run and are ready."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.local.stack import PartStatus, Stack
from infra.service.settings import Settings, load_settings

if TYPE_CHECKING:
    from infra.service.backlog import Backlog

MINUTE = 60


def command(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show every part. The exit status is 0 only when all of them are ready."""
    stack = Stack.of(load_settings())
    statuses = stack.status()
    good = all(status.ready for status in statuses)
    before = _backlog(stack.settings, statuses)
    if as_json:
        parts = [_fields(status) for status in statuses]
        password = _password_file(stack.settings)
        typer.echo(
            json.dumps(
                {
                    "ready": good,
                    "parts": parts,
                    "dashboard_password_file": str(password) if password else None,
                    "video_backlog": None
                    if before is None
                    else {lane: asdict(found) for lane, found in before.items()},
                }
            )
        )
    else:
        rows: list[tuple[str, ...]] = [("PART", "STATE", "PID", "UP", "RESTARTS", "PORTS", "READY")]
        rows += [_row(status) for status in statuses]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        typer.echo("")
        for line in _places(stack.settings):
            typer.echo(line)
        for lane, found in (before or {}).items():
            waiting = f", of which {found.waiting} for another attempt" if found.waiting else ""
            typer.echo(f"{lane} videos  {found.jobs} before the workers{waiting}: about {found.seconds:.0f} s of work")
    raise typer.Exit(0 if good else 1)


def _backlog(settings: Settings, statuses: list[PartStatus]) -> Backlog | None:
    """What the media workers have before them; None where that cannot be said."""
    from infra.service.backlog import NoAnswer, backlog, measured  # Kafka's client is not loaded for `--help`

    if any(status.name == "kafka" and not status.ready for status in statuses):
        return None
    try:
        return backlog(settings, measured(settings))
    except NoAnswer:
        return None


def _password_file(settings: Settings) -> Path | None:
    """Where the dashboard user's password lies; None when it was set and not made by the stack."""
    path = settings.password_file("clickhouse_dashboard_password")
    if settings.clickhouse_url or not path.is_file():
        return None
    return path if path.read_text().strip() == settings.clickhouse_dashboard_password.get_secret_value() else None


def _places(settings: Settings) -> list[str]:
    password = _password_file(settings)
    where = f"  password in {password}" if password else ""
    return [
        f"ClickHouse  {settings.clickhouse}  user {settings.clickhouse_dashboard_user}, who may only read{where}",
        f"videos      {settings.videos}  thumbnails in {settings.thumbnails}  token in {settings.api_token}",
    ]


def _fields(status: PartStatus) -> dict[str, object]:
    return {
        "name": status.name,
        "state": status.state,
        "pid": status.pid,
        "uptime_seconds": status.uptime_seconds,
        "restarts": status.restarts,
        "ports": status.ports,
        "ready": status.ready,
        "reason": status.reason,
        "log": str(status.log),
    }


def _row(status: PartStatus) -> tuple[str, ...]:
    return (
        status.name,
        status.state,
        str(status.pid or "-"),
        _duration(status.uptime_seconds) if status.pid else "-",
        str(status.restarts),
        " ".join(map(str, status.ports)),
        "yes" if status.ready else f"no: {status.reason}",
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), MINUTE)
    hours, minutes = divmod(minutes, MINUTE)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
