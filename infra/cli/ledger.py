"""`veilstream ledger`: what collectors report as acknowledged against what is stored, packet by packet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from infra.service.clickhouse import connect
from infra.service.logs import configure
from infra.service.settings import load_settings
from schemas.topics import EVENTS_RAW, INGEST_REPORTS
from streams.accounts import Reports
from streams.ledger import Ledger, Range, Wrong
from streams.reconciling import Reconciling
from streams.topic_generations import Topic, generation_of

SHOWN = 20  # ranges of a kind
AGAIN = 1.0  # seconds between two looks while something is behind or wrong
SAID = {
    Wrong.MISSING: "acknowledged and not stored",
    Wrong.DOUBLED: "stored more than once",
    Wrong.MISCOUNTED: "stored with another number of events than was acknowledged",
    Wrong.UNBALANCED: "received other than stored + excluded + rejected + repeats",
    Wrong.LOST: "without a row: they left the log before they were stored, or their rows were removed",
}


def command(
    follow: Annotated[bool, typer.Option("--follow", help="Look again and again until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks that follow.")] = 10.0,
    hours: Annotated[
        float | None, typer.Option(min=0.1, help="Look back so far only; without it, as far as reports go.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for packets that are not stored yet.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a look, each on a line.")] = False,
) -> None:
    """Packets are named writer/partition/seq. What is wrong is looked at twice before it is said.

    Packets that were stored and never reported, which a killed collector leaves, are listed apart and are no fault. The
    exit status is 1 when the books do not balance.
    """
    settings = load_settings()
    configure("ledger", "error")
    name = settings.topic(EVENTS_RAW)
    topic = Topic(settings.kafka, name)
    topic_id = topic.id()
    if topic_id is None:
        typer.echo(f"there is no topic {name}; `veilstream migrate` makes it", err=True)
        raise typer.Exit(1)
    balanced = True
    with connect(settings) as client:
        reconciling = Reconciling(
            client,
            Reports(settings.kafka, settings.topic(INGEST_REPORTS)),
            topic,
            generation_of(client, topic_id),
            hours=hours,
            closing=settings.collector_spool_seconds,
        )
        try:
            for ledger in _looks(reconciling, wait, every if follow else None):
                balanced = ledger.balanced
                typer.echo(json.dumps(ledger.as_dict()) if as_json else shown(ledger))
        except KeyboardInterrupt:
            pass
        finally:
            reconciling.close()
    raise typer.Exit(0 if balanced else 1)


def _looks(reconciling: Reconciling, wait: float, every: float | None) -> Iterator[Ledger]:
    """One look, or one after the other; each once what is behind has come and what is wrong has been seen twice."""
    while True:
        end = time.monotonic() + wait
        ledger = reconciling.look()
        while ledger.waiting and time.monotonic() < end:
            time.sleep(AGAIN)
            ledger = reconciling.look()
        if not ledger.balanced:
            time.sleep(AGAIN)
            ledger = reconciling.look().confirmed(ledger)
        yield ledger
        if every is None:
            return
        time.sleep(every)


def shown(ledger: Ledger) -> str:
    """The books for people."""
    sums = ledger.totals
    lines = [
        f"reported    {ledger.reported:,} packets with {ledger.reported_events:,} events as acknowledged",
        f"stored      {sums.packets:,} packets: {sums.received:,} events = {sums.stored:,} stored + {sums.excluded:,} "
        f"excluded + {sums.rejected:,} rejected + {sums.repeats:,} repeats; {sums.copies:,} copies, "
        f"{sums.bad:,} unreadable",
    ]
    if ledger.waiting:
        lines.append(f"waiting     {ledger.waiting:,} packets that the workers have not come to")
    lines += _listed("unreported", "stored, reported by nobody (their collector was killed)", ledger.unreported)
    lines += _listed("open", "absent below a stored one, may still come", ledger.open)
    lines += _listed("never", "never acknowledged to anybody", ledger.never)
    for kind, found in ledger.wrong.items():
        lines += _listed(kind.upper(), SAID[kind], found, offsets=kind is Wrong.LOST)
    lines.append("the books balance" if ledger.balanced else "THE BOOKS DO NOT BALANCE")
    return "\n".join(lines)


def _listed(title: str, meaning: str, found: Sequence[Range], *, offsets: bool = False) -> list[str]:
    if not found:
        return []
    head = f"{title:<11} {sum(one.packets for one in found):,} {'offsets' if offsets else 'packets'}: {meaning}"
    lines = [head, *(f"    {_said(one, offsets=offsets)}" for one in found[:SHOWN])]
    return lines if len(found) <= SHOWN else [*lines, f"    and {len(found) - SHOWN:,} ranges more; --json names all"]


def _said(one: Range, *, offsets: bool) -> str:
    if offsets:
        return f"partition {one.partition}, generation {one.writer}: {one.first} to {one.last}"
    return f"{one.name}  expected {one.expected:,}, found {one.found:,}" if one.expected else one.name
