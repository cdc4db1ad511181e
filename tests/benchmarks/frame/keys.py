"""A public key for every hour around now, where a collector looks for them: benchmarks seal without a ClickHouse."""

from __future__ import annotations

import json
import time

from infra.service.settings import Settings
from ingest.hours import FOLDER, KEYS
from schemas.sealing import hour_of, new_private_key, public_key


def write_keys(settings: Settings) -> None:
    """Writes the file that a keeper would have left."""
    this = hour_of(time.time_ns() // 1_000_000)
    keys = {str(this + n): public_key(new_private_key()).hex() for n in range(-1, 48)}
    folder = settings.spool / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KEYS).write_text(json.dumps({"spool": "benchmark", "keys": keys, "over": []}))
