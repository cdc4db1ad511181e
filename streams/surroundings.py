"""What the pure core needs from around it, and what it raises where that is missing.

Surroundings             never the fault of an event: fetch, wait, process the batch again; reject nothing
├── PolicyMissing        a packet names a policy version that is not here yet
├── PolicyUnusable       a policy is here, but this machine cannot apply it (time zone data too old)
├── SecretMissing        the secret of a calendar date is not here (yet)
├── SiteKeyMissing       the permanent key of a site is not here (yet)
├── HourKeyMissing       the key that opens the packets of an hour is not here (yet)
├── RepeatsMissing       identities of late events must be looked up among the stored rows
└── VisitsMissing        visits of late events must be looked up among the stored rows
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple, Protocol

from schemas.packets import Header
from schemas.sites import PolicySet
from streams.window import Run


class Surroundings(Exception):
    """Something around the core is missing; the batch may be processed again once it is there."""


class PolicyMissing(Surroundings):
    """`version`: the 16 bytes that a packet names and the shell must find on `site.policies`."""

    def __init__(self, version: bytes) -> None:
        super().__init__(f"policy version {version.hex()} is not known here; read topic site.policies")
        self.version = version


class PolicyUnusable(Surroundings):
    """`site`: whose policy names a time zone that this machine does not know."""

    def __init__(self, site: int, timezone: str) -> None:
        super().__init__(f"site {site}: time zone {timezone!r} is not in this machine's data; update tzdata")
        self.site = site


class SecretMissing(Surroundings):
    """`date`: the calendar date, in some site's time zone, whose secret the vault must give."""

    def __init__(self, date: date) -> None:
        super().__init__(f"the secret of {date.isoformat()} is not known here; fetch it from the vault")
        self.date = date


class Asked(NamedTuple):
    """Identities of late events, by the site's and the row's bounds; `high` holds the first halves.

    Stored rows of the partition count that lie before (generation, offset), are of one of the sites, and were received
    from `first_ms` to `last_ms`.
    """

    partition: int
    generation: int
    offset: int
    sites: frozenset[int]
    high: frozenset[int]
    first_ms: int
    last_ms: int

    def within(self, other: Asked) -> bool:
        """Whether an answer to the other one answers this one too."""
        return (
            self[:3] == other[:3]
            and self.sites <= other.sites
            and self.high <= other.high
            and other.first_ms <= self.first_ms
            and self.last_ms <= other.last_ms
        )

    def joined(self, other: Asked) -> Asked:
        """What covers both; they are of one place."""
        return Asked(
            *self[:3],
            self.sites | other.sites,
            self.high | other.high,
            min(self.first_ms, other.first_ms),
            max(self.last_ms, other.last_ms),
        )


class RepeatsMissing(Surroundings):
    """`asked`: one per partition, for the shell to look up."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        super().__init__(f"identities of late events of {len(asked)} partitions must be looked up")
        self.asked = tuple(asked)


class AskedVisits(NamedTuple):
    """Visits of late events: those with one of these hashes.

    Stored rows of the partition count that lie before (generation, offset) and in one of the `spans`: a site, and the
    first and last moment (milliseconds) of events.
    """

    partition: int
    generation: int
    offset: int
    users: frozenset[int]
    visitors: frozenset[int]
    configs: frozenset[int]
    spans: tuple[tuple[int, int, int], ...]


class VisitsMissing(Surroundings):
    """`asked`: one per partition, for the shell to look up."""

    def __init__(self, asked: Sequence[AskedVisits]) -> None:
        super().__init__(f"visits of late events of {len(asked)} partitions must be looked up")
        self.asked = tuple(asked)


class SiteKeyMissing(Surroundings):
    """`site`: whose policy keeps ids and whose permanent key the vault must give."""

    def __init__(self, site: int) -> None:
        super().__init__(f"site {site}: its permanent key is not known here; fetch it from the vault")
        self.site = site


class HourKeyMissing(Surroundings):
    """`hour`: to which a packet is sealed and whose private key the vault must give."""

    def __init__(self, hour: int) -> None:
        super().__init__(f"the key of hour {hour} is not known here; fetch it from the vault")
        self.hour = hour


class Lookups(Protocol):
    """Look-ups in memory, filled by the shell; they never wait."""

    def open(self, value: bytes, head: Header, partition: int) -> bytes:
        """See `schemas.packets.Opener`; raises HourKeyMissing."""
        ...

    def policies(self, version: bytes) -> PolicySet:
        """The policy set of this version; raises PolicyMissing."""
        ...

    def day_secret(self, date: date) -> bytes:
        """The 32 bytes of this calendar date; raises SecretMissing."""
        ...

    def identities(self, asked: Sequence[Asked]) -> Sequence[Run]:
        """For each of these the stored identities, perhaps with more of the same place; raises RepeatsMissing."""
        ...

    def visits(self, asked: Sequence[AskedVisits]) -> Sequence[Sequence[tuple[object, ...]]]:
        """For each of these the stored visits, a row of `VISIT_STATE_COLUMNS` each; raises VisitsMissing."""
        ...

    def site_key(self, site: int) -> bytes:
        """The 32 bytes of a site, for policies that keep ids; raises SiteKeyMissing."""
        ...
