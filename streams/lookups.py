"""What the pure core looks up: policies from the log, secrets from the vault, both held in memory."""

from __future__ import annotations

from datetime import date

from infra.service import vault
from infra.service.vault import Vault
from schemas.sites import PolicySet
from streams.policies import Policies
from streams.surroundings import PolicyMissing, SecretMissing, SiteKeyMissing, Surroundings


class Shelf:
    """The core's `Lookups`, and the way to fill it."""

    def __init__(self, policies: Policies, secrets: Vault) -> None:
        self._policies = policies
        self._vault = secrets

    def policies(self, version: bytes) -> PolicySet:
        """The policy set of this version; raises PolicyMissing."""
        found = self._policies.get(version)
        if found is None:
            raise PolicyMissing(version)
        return found

    def day_secret(self, date: date) -> bytes:
        """The secret of a calendar date; raises SecretMissing."""
        try:
            return self._vault.day_secret(date)
        except vault.SecretMissing:
            raise SecretMissing(date) from None

    def site_key(self, site: int) -> bytes:
        """The permanent key of a site; raises SiteKeyMissing."""
        try:
            return self._vault.site_key(site)
        except vault.SecretMissing:
            raise SiteKeyMissing(site) from None

    def fetch(self, missing: Surroundings) -> None:
        """Try to fetch what was missing; raises errors of Kafka, ClickHouse and the vault."""
        if isinstance(missing, PolicyMissing):
            self._policies.fetch(missing.version)
        elif isinstance(missing, SecretMissing | SiteKeyMissing):
            self._vault.refresh()

    def prepare(self, maker: str | None) -> None:
        """Fetch secrets ahead of need; with `maker`, the SQL of still being the maker, make what is missing.

        Missing may be those of days to come, and the keys of sites whose policies keep ids; raises KafkaError too.
        """
        if maker is None:
            self._vault.refresh()
        else:
            self._policies.refresh()
            self._vault.make(condition=maker, sites=self._policies.sites_with_keys())
