"""Who may write the rows of a partition: the highest (epoch, owner) pair in table `ownership`.

A worker claims a partition by adding a pair with the next epoch and a random owner, and owns it when reading back
shows that pair on top. From then on every insert of a lower pair writes nothing, because each insert carries the
condition that its pairs are on top. What remains are inserts that had judged their condition before the claim: they
are named by their pairs in the query id, and `fence` ends them before anything is read back.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
import pyarrow as pa

from infra.service.clickhouse import Client, quote
from streams.swaps import Swaps

OWNER_BITS = 64


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """A pair that owned `partition` when it was made; `owner` is a random number of 64 bits."""

    partition: int
    epoch: int
    owner: int

    @property
    def label(self) -> str:
        """How the claim is named in a query id."""
        return f"p{self.partition}e{self.epoch}o{self.owner:016x}"


class Ownership:
    """Table `ownership` as one worker sees it. Every method asks ClickHouse and raises its errors."""

    def __init__(self, client: Client, topic: str) -> None:
        """`topic` separates the query ids of installations that share a ClickHouse server."""
        self._client = client
        self._swaps = Swaps(client)
        self._prefix = f"sink-{topic}-"
        self._counter = count()
        self._process = secrets.token_hex(4)

    def top(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """The highest (epoch, owner) of those partitions that were ever claimed."""
        rows = self._client.query(
            "SELECT `partition`, max((epoch, owner)) FROM ownership "
            f"WHERE `partition` IN ({_numbers(partitions)}) GROUP BY `partition`"
        ).result_rows
        return {partition: (epoch, owner) for partition, (epoch, owner) in rows}

    def settle(self) -> None:
        """Bring to their end changes of stored rows that were left behind; raises errors of ClickHouse."""
        self._swaps.settle()

    def claim(self, partitions: Iterable[int]) -> dict[int, Claim]:
        """Claim partitions and end the inserts of their former owners; returns what is now owned.

        A partition that is missing in the answer was claimed by another worker at the same moment; all are missing
        while inserts are held (`streams.swaps`). An error leaves nothing owned: a pair that was added all the same is
        lower than that of the next try.
        """
        wanted = sorted(set(partitions))
        if not wanted or self._swaps.held():
            return {}
        top = self.top(wanted)
        claims = [Claim(p, top.get(p, (0, 0))[0] + 1, secrets.randbits(OWNER_BITS)) for p in wanted]
        self.add(claims)
        owned = self.held(claims)
        if self._swaps.held():  # begun meanwhile: whether our pairs lie above its own is not known
            return {}
        self.fence(owned.values())
        return owned

    def hold(self) -> list[int]:
        """Take all partitions that were ever claimed from their owners, and wait until their inserts have ended.

        Returns the partitions.
        """
        known = self._client.query("SELECT DISTINCT `partition` FROM ownership ORDER BY `partition`").result_rows
        top = self.top(int(row[0]) for row in known) if known else {}
        claims = [Claim(p, epoch + 1, secrets.randbits(OWNER_BITS)) for p, (epoch, _) in top.items()]
        if claims:
            self.add(claims)
        self.fence(claims)
        return sorted(top)

    def add(self, claims: Iterable[Claim]) -> None:
        """Add pairs to the table; whether they own anything is for `held` to say."""
        rows = sorted(claims)
        self._client.insert_arrow(
            "ownership",
            pa.table(
                {
                    "partition": np.array([claim.partition for claim in rows], np.uint16),
                    "epoch": np.array([claim.epoch for claim in rows], np.uint64),
                    "owner": np.array([claim.owner for claim in rows], np.uint64),
                }
            ),
            settings={"async_insert": 0},
        )

    def held(self, claims: Iterable[Claim]) -> dict[int, Claim]:
        """Those of the claims that are on top."""
        claims = list(claims)
        top = self.top(claim.partition for claim in claims) if claims else {}
        return {claim.partition: claim for claim in claims if top.get(claim.partition) == (claim.epoch, claim.owner)}

    def renew(self, claims: Mapping[int, Claim]) -> dict[int, Claim]:
        """Claim anew what is still held, so that an insert of ours with an unknown outcome can't land later."""
        return self.claim(self.held(claims.values()))

    def fence(self, claims: Iterable[Claim]) -> None:
        """End all inserts into these partitions that run under other pairs, and wait until they have ended."""
        for claim in claims:
            self._client.command(
                f"KILL QUERY WHERE query_id LIKE {quote(_like(self._prefix) + f'%-p{claim.partition}e%')} "
                f"AND query_id NOT LIKE {quote(f'%-{claim.label}-%')} SYNC"
            )

    def condition(self, claims: Iterable[Claim]) -> str:
        """The SQL that is true while each of these claims is on top of its partition."""
        rows = sorted(claims)
        pairs = ", ".join(f"({claim.partition}, {claim.epoch}, {claim.owner})" for claim in rows)
        return (
            "(SELECT count() FROM (SELECT `partition` AS p, max((epoch, owner)) AS top FROM ownership "
            f"WHERE `partition` IN ({_numbers(claim.partition for claim in rows)}) GROUP BY p) "
            f"WHERE (p, top.1, top.2) IN ({pairs})) = {len(rows)}"
        )

    def query_id(self, claims: Iterable[Claim]) -> str:
        """A new query id that names all claims, for `fence` to find."""
        return f"{self._prefix}-{'-'.join(c.label for c in sorted(claims))}-{self._process}{next(self._counter):x}"


def _numbers(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(set(numbers)))


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
