"""The sites in force, laid out for the hot path: one look-up by the raw text of `idsite`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.packets import Role
from schemas.routing import partition_of, shard_of
from schemas.sites import Site, Sites
from schemas.tokens import Token, token_hash


@dataclass(frozen=True, slots=True)
class Place:
    """A known site: its id, the partition of its events while it has one shard, and its tokens, by hash.

    `goals`: ids of its goals; none named means that all are taken. `shards`: see `sites.Site`; `partitions`: by shard.
    """

    site: int
    partition: int
    tokens: Mapping[str, Token]
    goals: frozenset[int] = frozenset()
    shards: tuple[tuple[int, int], ...] = ()
    partitions: tuple[int, ...] = ()

    def partition_of(self, received_ms: int, address: bytes, agent: str, language: str) -> int:
        """The partition of an event that was received then; `address`: 16 bytes."""
        shards = 1
        for start, count in self.shards:
            if received_ms >= start:
                shards = count
        return self.partition if shards == 1 else self.partitions[shard_of(self.site, address, agent, language, shards)]


class Directory:
    """All known sites under one version of the policies.

    version: 16 bytes, as packets name it. dump: the policies as they go to `site.policies`.
    """

    __slots__ = ("dump", "limits", "places", "plain", "policies", "sites", "version")

    def __init__(self, sites: Sites, partitions: int) -> None:
        self.sites = sites
        self.policies = sites.policies
        self.version = sites.policies.version
        self.dump = sites.policies.dump()
        # Keyed by the canonical decimal digits, which is what all clients send; other spellings: `find`.
        self.places = {str(site.id).encode(): _place(site, partitions) for site in sites.by_id.values()}
        # By the same digits: partition, site, role and flags of a request without a token, where nothing else counts.
        self.plain = {
            number.decode(): (place.partition, place.site, 0, 0)
            for number, place in self.places.items()
            if not place.goals and not place.shards
        }
        self.limits = {site.id: site.limit for site in sites.by_id.values() if site.limit is not None}

    def find(self, site: int) -> Place | None:
        """The place of a site by number."""
        return self.places.get(b"%d" % site)

    def superuser(self, token: str) -> bool:
        """Whether a token is a superuser's on any site."""
        return self.sites.superuser(token)

    def role(self, place: Place, token: str) -> Role:
        """What a token may do on a site, NONE where it has none there; a superuser's is valid for all."""
        digest = token_hash(token)
        for found in (self.sites.superusers.get(digest), place.tokens.get(digest)):
            if found is not None and (role := found.now):
                return role
        return Role.NONE


def _place(site: Site, partitions: int) -> Place:
    most = max((count for _, count in site.shards), default=1)
    of_shards = tuple(partition_of(site.id, shard, partitions) for shard in range(most))
    return Place(site.id, of_shards[0], site.tokens, frozenset(site.policy.goals), site.shards, of_shards)
