"""What the pure core looks up: policies from the log, secrets from the vault, both held in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from datetime import date

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from infra.service import vault
from infra.service.vault import Vault
from schemas.packets import HEADER, BadPacket, Header, KeyDestroyed
from schemas.sealing import Unsealable, open_body, unwrap
from schemas.sites import PolicySet
from streams.policies import Policies
from streams.surroundings import (
    Asked,
    AskedVisits,
    HourKeyMissing,
    PolicyMissing,
    RepeatsMissing,
    SecretMissing,
    SiteKeyMissing,
    Surroundings,
    VisitsMissing,
)
from streams.window import Run

CIPHERS = 4096  # data keys in memory: one of each collector process and hour


class Shelf:
    """The core's `Lookups`, and the way to fill it."""

    def __init__(self, policies: Policies, secrets: Vault, topic: str) -> None:
        """`topic`: of the packets, as it is part of their seal."""
        self._policies = policies
        self._vault = secrets
        self._topic = topic
        self._ciphers: OrderedDict[tuple[int, bytes], AESGCM] = OrderedDict()  # by hour and wrapped data key
        self._repeats: dict[int, tuple[Asked, Run]] = {}  # by partition, of one place each
        self._visits: dict[AskedVisits, list[tuple[object, ...]]] = {}

    def policies(self, version: bytes) -> PolicySet:
        """The policy set of this version; raises PolicyMissing."""
        found = self._policies.get(version)
        if found is None:
            raise PolicyMissing(version)
        return found

    def open(self, value: bytes, head: Header, partition: int) -> bytes:
        """The compressed body of a sealed packet; raises HourKeyMissing, KeyDestroyed, BadPacket."""
        name = head.key_id, head.wrapped_key
        try:
            private = self._vault.hour_keys(head.key_id)
            cipher = self._ciphers.get(name)
            if cipher is None:
                cipher = self._ciphers[name] = _cipher(head, private)
                if len(self._ciphers) > CIPHERS:
                    self._ciphers.popitem(last=False)
            start = HEADER.size + len(head.wrapped_key)
            return open_body(cipher, self._topic, partition, head.seq, value[:start], value[start:])
        except vault.SecretMissing:
            raise HourKeyMissing(head.key_id) from None
        except vault.SecretDestroyed:
            self._ciphers.pop(name, None)
            raise KeyDestroyed(f"the key of hour {head.key_id} was destroyed") from None
        except Unsealable as error:
            raise BadPacket(str(error)) from None

    def day_secret(self, date: date) -> bytes:
        """The secret of a calendar date; raises SecretMissing."""
        try:
            return self._vault.day_secret(date)
        except (vault.SecretMissing, vault.SecretDestroyed):
            raise SecretMissing(date) from None

    def identities(self, asked: Sequence[Asked]) -> list[Run]:
        """What `hold` was given for these; raises RepeatsMissing."""
        held = [self._repeats.get(one.partition) for one in asked]
        found = [answer[1] for one, answer in zip(asked, held, strict=True) if answer and one.within(answer[0])]
        if len(found) < len(asked):
            wanted = []
            for one, answer in zip(asked, held, strict=True):
                again = answer is not None and one[:3] == answer[0][:3]
                wanted.append(one.joined(answer[0]) if answer is not None and again else one)
            raise RepeatsMissing(wanted)
        return found

    def hold(self, asked: Sequence[Asked], found: Sequence[Run]) -> None:
        """Take the answers to what was asked; those of an earlier place of the partition are let go."""
        for one, run in zip(asked, found, strict=True):
            self._repeats[one.partition] = one, run

    def visits(self, asked: Sequence[AskedVisits]) -> list[list[tuple[object, ...]]]:
        """What `hold_visits` was given for these; raises VisitsMissing."""
        if any(one not in self._visits for one in asked):
            raise VisitsMissing(asked)
        return [self._visits[one] for one in asked]

    def hold_visits(self, asked: Sequence[AskedVisits], found: Sequence[list[tuple[object, ...]]]) -> None:
        """Take the answers to what was asked; those to anything else are let go."""
        self._visits = dict(zip(asked, found, strict=True))

    def site_key(self, site: int) -> bytes:
        """The permanent key of a site; raises SiteKeyMissing."""
        try:
            return self._vault.site_key(site)
        except (vault.SecretMissing, vault.SecretDestroyed):
            raise SiteKeyMissing(site) from None

    def fetch(self, missing: Surroundings) -> None:
        """Try to fetch what was missing; raises errors of Kafka, ClickHouse and the vault."""
        if isinstance(missing, PolicyMissing):
            self._policies.fetch(missing.version)
        elif isinstance(missing, SecretMissing | SiteKeyMissing | HourKeyMissing):
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


def _cipher(head: Header, private: Sequence[bytes]) -> AESGCM:
    """Of the packet's data key, by the first private key that opens it; raises Unsealable."""
    for key in private[:-1]:
        with suppress(Unsealable):
            return unwrap(head.wrapped_key, head.key_id, key)
    return unwrap(head.wrapped_key, head.key_id, private[-1])
