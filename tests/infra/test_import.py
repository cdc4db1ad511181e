"""`veilstream import` from a log to rows: every visit as its lines say, once, however often the log is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from infra.imports.formats import parser
from infra.imports.requests import Chosen
from infra.local.kafka import TOP
from infra.service.clickhouse import connect
from infra.service.settings import PREFIX, Settings
from schemas.sites import load_sites
from tests.conftest import Starter
from tests.infra.imports.lines import combined
from tests.streams.shell.stream import count, eventually

HALF_HOUR = 1_800.0
BASE = "https://shop.example"


def visits(lines: list[str]) -> int:
    """How many visits lines are: by address and agent, with less than 30 minutes between two, on one day."""
    last: dict[tuple[str, str], float] = {}
    begun = 0
    for line in lines:
        hit = parser("combined")(line)
        if hit is not None and Chosen(1, BASE).request(hit) is not None:
            who = hit.address, hit.agent
            begun += who not in last or hit.time - last[who] >= HALF_HOUR or hit.time // 86_400 != last[who] // 86_400
            last[who] = hit.time
    return begun


def run(settings: Settings, *arguments: str) -> dict[str, int]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", "import", *arguments, "--site", "1", "--base", BASE, "--json"],
        cwd=TOP,
        env=environment | settings.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_from_a_log_to_visits(
    installation: Settings, start_collector: Starter, start_worker: Starter, tmp_path: Path
) -> None:
    site = installation.sites / "1.toml"
    site.write_text((site.read_text() if site.is_file() else "") + "\n[privacy]\nmask_bytes = 0\n")
    start_collector(installation)
    start_worker(installation)
    lines = combined(6_000, visitors=150, step=20)
    log = tmp_path / "access.log"
    log.write_text("".join(f"{line}\n" for line in lines))
    first = run(installation, str(log))
    assert (first["lines"], first["invalid"], first["unreadable"]) == (6_000, 0, 0)
    with connect(installation) as client:
        rows = "SELECT count() FROM events WHERE site_id = 1"
        eventually(lambda: count(client, rows), lambda found: found >= first["sent"])
        again = run(installation, str(log))
        assert again == first
        assert count(client, rows) == first["sent"]
        assert count(client, "SELECT uniqExact(visit_id) FROM events WHERE site_id = 1") == visits(lines)
    assert not any(token.description == "import" for token in load_sites(installation.sites).by_id[1].tokens.values())
