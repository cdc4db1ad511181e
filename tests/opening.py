"""Opens the sealed packets of a test's installation, as a stream worker does."""

from __future__ import annotations

from infra.service.clickhouse import connect
from infra.service.settings import Settings
from infra.service.vault import Vault, master_keys
from schemas.topics import EVENTS_RAW
from streams.lookups import Shelf
from streams.policies import Policies


def opener_of(settings: Settings) -> Shelf:
    """With all keys that the vault has now."""
    with connect(settings) as client:
        vault = Vault(client, master_keys(settings.master_key))
        vault.refresh()
    return Shelf(Policies(settings.kafka, ""), vault, settings.topic(EVENTS_RAW))
