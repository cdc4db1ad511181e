"""Settings of a collector that gives up early what it waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.service.settings import Settings
from tests.conftest import SettingsMaker
from tests.databases import install
from tests.ingest.memory import write_sites
from tests.ingest.process import (
    SITES,
)


@pytest.fixture
def impatient(make_settings: SettingsMaker, tmp_path: Path) -> Settings:
    made = make_settings(
        collector_wait_seconds=2.0,
        collector_request_seconds=1.0,
        collector_delivery_seconds=2.0,
        collector_stop_seconds=10.0,
        sites_dir=write_sites(tmp_path / "sites", *SITES),
    )
    install(made)
    return made
