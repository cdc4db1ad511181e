"""How many stream workers the local stack has: what `veilstream scale` said, kept in the state folder.

A setting that is set, in the environment or the settings' file, counts for more.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from infra.service.settings import Settings

COUNT = "worker_processes"
MOST = 64


class ScaleError(RuntimeError):
    """The file does not say a number, or a setting says another one; the message says which and what to do."""


def path(settings: Settings) -> Path:
    """The file."""
    return settings.state / "scale.json"


def scaled(settings: Settings) -> Settings:
    """The settings with the number of workers that was asked for last; raises ScaleError."""
    if COUNT in settings.model_fields_set:
        return settings
    try:
        text = path(settings).read_text()
    except FileNotFoundError:
        return settings
    try:
        streams = int(json.loads(text)["streams"])
    except (ValueError, KeyError, TypeError):
        streams = 0
    if not 1 <= streams <= MOST:
        raise ScaleError(f"{path(settings)} does not say how many stream workers there are; remove it")
    return settings.model_copy(update={COUNT: streams})


def keep(settings: Settings, streams: int) -> None:
    """Writes the number down, whole or not at all."""
    target = path(settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps({"streams": streams}) + "\n")
    os.replace(fresh, target)
