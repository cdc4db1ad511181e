"""How secrets die. One process at a time does this, the maker (`infra.service.vault`); doing it twice is doing it once.

    secret   dies when                                                                     at the latest
    hour     it is over, every spool that fetched its key has reported that its packets    its hard limit,
             of that hour are acknowledged, and the log has let go of all that was         with an alarm that
             appended until then: it was stored, the replay margin is over, and other      names the spools
             readers have read it
    day      it ended everywhere, a day more is over (events of the day before may come    its hard limit
             until then), and no key of an hour until then lives
    site     its file is gone: never by itself

The steps, in this order, each of which may be cut off:
 1. A row of `vault_destroyed` names the secret, the rule and the parts on the disk (`gone` 0). From here on nobody
    makes the secret anew, and who holds it in memory forgets it at the next fetch, after five minutes at most.
 2. The secret's partition is dropped: its rows leave the table and its files the disk.
 3. When the engine lists none of the parts any more, a second row says so (`gone` 1).
What was begun and has no second row is gone on with at the next look, as is what an insert that was under way then
has brought back.

The words are exact: a file's name is taken from the disk and the space given back; it is not overwritten, and what a
disk keeps of free space is wrapped by the master key. So a secret is gone for good once the master key was rotated,
too, or where the disk forgets.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import pyarrow as pa

from infra.service.clickhouse import Client, insert_if, quote
from infra.service.logs import logger
from infra.service.vault import DAY, HOUR, Name, entries, hour_start
from schemas.tables import LOW, TEXT

log = logger(__name__)

OVER = timedelta(hours=1)  # after an hour's end, for collectors whose clocks are late
DAY_OVER = timedelta(days=2, hours=12)  # after a date's begin in UTC: it ended at UTC-12, and a day more
HARD_LIMIT = "hard_limit"
UNUSED = "no_packet_left"

_ROWS = pa.schema(
    [
        ("kind", LOW),
        ("name", TEXT),
        ("rule", LOW),
        ("gone", pa.uint8()),
        ("parts", pa.list_(TEXT)),
        ("spools", pa.list_(TEXT)),
    ]
)


@dataclass(frozen=True, slots=True)
class Death:
    """A secret that is to die, and by which rule. spools: those that have not reported."""

    kind: str
    name: str
    rule: str
    spools: tuple[str, ...] = ()


def due(client: Client, now: datetime, passed: Callable[[datetime], bool]) -> list[Death]:
    """The secrets that are to die. `passed(moment)`: whether the log has let go of all that was appended before."""
    living = {name: max(row.expires for row in rows) for name, rows in entries(client).items()}
    hours = sorted(int(name) for kind, name in living if kind == HOUR)
    reported = _spools(client)
    deaths: list[Death] = []
    for hour in hours:
        end = hour_start(hour + 1)
        if now < end + OVER:
            continue
        spools, last = reported.get(hour, ((), end))
        if not spools and passed(max(last, end)):
            deaths.append(Death(HOUR, str(hour), UNUSED))
        elif now >= living[HOUR, str(hour)]:
            deaths.append(Death(HOUR, str(hour), HARD_LIMIT, spools))
    dying = {int(death.name) for death in deaths}
    oldest = min((hour_start(hour) for hour in hours if hour not in dying), default=now)
    for (kind, name), expires in sorted(living.items()):
        if kind == DAY:
            over = datetime.combine(date.fromisoformat(name), time(), UTC) + DAY_OVER
            if now >= over and oldest >= over:
                deaths.append(Death(DAY, name, UNUSED))
            elif now >= expires:
                deaths.append(Death(DAY, name, HARD_LIMIT))
    return deaths


def destroy(client: Client, deaths: Sequence[Death], condition: str = "1") -> int:
    """Destroys secrets, and goes on with what was begun before; returns how many are gone for certain.

    `condition` is the SQL of still being the maker.
    """
    begun = _unfinished(client)
    fresh = [death for death in deaths if (death.kind, death.name) not in begun]
    if fresh:
        for death in fresh:
            if death.rule == HARD_LIMIT:
                spools = ", ".join(death.spools)
                log.error("secret_outlived_its_packets", kind=death.kind, name=death.name, spools=spools)
        rows = [(death, _parts(client, (death.kind, death.name))) for death in fresh]
        if _note(client, rows, 0, condition) != len(rows):
            return 0  # another one is the maker
    gone = []
    for death in _unfinished(client).values():
        for partition in _partitions(client, (death.kind, death.name)):
            client.command(f"ALTER TABLE vault_keys DROP PARTITION ID {quote(partition)}")
        left = _parts(client, (death.kind, death.name))
        if left:
            log.warning("secret_still_on_disk", kind=death.kind, name=death.name, parts=len(left))
        else:
            gone.append(death)
    if gone:
        _note(client, [(death, ()) for death in gone], 1, "1")
        log.info("secrets_destroyed", secrets=[f"{death.kind} {death.name}: {death.rule}" for death in gone])
    return len(gone)


def _spools(client: Client) -> dict[int, tuple[tuple[str, ...], datetime]]:
    """By hour, the spools that have not reported, and when the last report came."""
    rows = client.query(
        "SELECT hour, arraySort(groupArrayIf(spool, NOT over)), max(at) FROM ("
        "SELECT hour, spool, max(done) AS over, max(at) AS at FROM vault_spools GROUP BY hour, spool) GROUP BY hour"
    ).result_rows
    return {int(hour): (tuple(spools), at.replace(tzinfo=UTC)) for hour, spools, at in rows}


def _unfinished(client: Client) -> dict[Name, Death]:
    rows = client.query(
        "SELECT kind, name, any(rule), any(spools) FROM vault_destroyed WHERE kind != 'master' GROUP BY kind, name "
        "HAVING max(gone) = 0 OR (kind, name) IN (SELECT kind, name FROM vault_keys)"
    ).result_rows
    return {(kind, name): Death(kind, name, rule, tuple(spools)) for kind, name, rule, spools in rows}


def _partitions(client: Client, name: Name) -> list[str]:
    rows = client.query(f"SELECT DISTINCT _partition_id FROM vault_keys WHERE {_is(name)}").result_rows
    return [str(partition) for (partition,) in rows]


def _parts(client: Client, name: Name) -> list[str]:
    """The parts on the disk that hold rows of this secret, active or not."""
    kind, of = name
    # A partition is told as text, such as ('hour','494000','…'), by the engine's own list of what lies on the disk.
    like = quote(f"('{kind}','{of}',%")
    rows = client.query(
        "SELECT name FROM system.parts WHERE database = currentDatabase() AND table = 'vault_keys' AND rows > 0 "
        f"AND `partition` LIKE {like}"
    ).result_rows
    return [str(part) for (part,) in rows]


def _note(client: Client, deaths: Sequence[tuple[Death, Sequence[str]]], gone: int, condition: str) -> int:
    table = pa.table(
        {
            "kind": pa.array([death.kind for death, _ in deaths]).dictionary_encode(),
            "name": [death.name for death, _ in deaths],
            "rule": pa.array([death.rule for death, _ in deaths]).dictionary_encode(),
            "gone": pa.array([gone] * len(deaths), pa.uint8()),
            "parts": pa.array([list(parts) for _, parts in deaths], pa.list_(TEXT)),
            "spools": pa.array([list(death.spools) for death, _ in deaths], pa.list_(TEXT)),
        },
        _ROWS,
    )
    return insert_if(client, "vault_destroyed", table, condition, query_id=f"vault-{secrets.token_hex(8)}")


def _is(name: Name) -> str:
    return f"kind = {quote(name[0])} AND name = {quote(name[1])}"
