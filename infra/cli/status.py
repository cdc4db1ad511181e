"""`veilstream status`: the parts of the local stack, whether they run and are ready."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from infra.local.stack import PartStatus, Stack
from infra.service.settings import load_settings

MINUTE = 60


def command(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show every part. The exit status is 0 only when all of them are ready."""
    statuses = Stack.of(load_settings()).status()
    good = all(status.ready for status in statuses)
    if as_json:
        typer.echo(json.dumps({"ready": good, "parts": [_fields(status) for status in statuses]}))
    else:
        rows: list[tuple[str, ...]] = [("PART", "STATE", "PID", "UP", "RESTARTS", "PORTS", "READY")]
        rows += [_row(status) for status in statuses]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    raise typer.Exit(0 if good else 1)


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
