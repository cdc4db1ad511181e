"""`veilstream settings`: names, values in force and meanings of all settings."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from infra.service.settings import PREFIX, Settings, load_settings


def command(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """List every setting with the value in force; secrets are never shown."""
    settings = load_settings()

    def shown(value: Any) -> str | None:
        if isinstance(value, SecretStr):
            return "(set)" if value.get_secret_value() else "(empty)"
        return None if value is None else str(value)

    rows = [
        (PREFIX + name.upper(), shown(getattr(settings, name)), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        typer.echo(json.dumps({"settings": {name: {"value": value, "meaning": text} for name, value, text in rows}}))
        return
    for name, value, text in rows:
        typer.echo(f"{name}={'' if value is None else value}\n    {text}")
