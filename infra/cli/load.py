"""`veilstream load`: send synthetic traffic to a collector and keep a journal of what became of it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
import uvloop

from infra.load.journal import Journal
from infra.load.numbers import PROBES
from infra.load.progress import Progress
from infra.load.sender import Plan, Sender, Totals
from infra.load.sql import Sql
from infra.load.traffic import Traffic
from infra.load.visible import Visibility
from infra.service.settings import Settings, load_settings


def command(
    url: Annotated[str | None, typer.Option(help="The collector; default: this installation's.")] = None,
    sites: Annotated[str, typer.Option(help="Ids of the sites, such as 1-5,9.")] = "1",
    events: Annotated[int | None, typer.Option(min=1, help="End after this many events.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="End after this time.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Events per second, kept whatever happens; 0: no limit.")] = 0,
    connections: Annotated[int, typer.Option(min=1, max=10_000, help="Connections, one request on each.")] = 256,
    bulk: Annotated[float, typer.Option(min=0, max=1, help="Share of the events that are sent in bulks.")] = 0.3,
    bad: Annotated[float, typer.Option(min=0, max=1, help="Share of the single requests that are faulty.")] = 0.01,
    repeats: Annotated[float, typer.Option(min=0, max=1, help="Share of the requests that are sent again.")] = 0.01,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same requests.")] = 1,
    start: Annotated[int, typer.Option(min=0, max=PROBES - 1, help="Number of the first event.")] = 0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds after which an answer no longer counts.")] = 30,
    journal: Annotated[Path | None, typer.Option(help="File that every event's outcome is appended to.")] = None,
    visible: Annotated[bool, typer.Option(help="Measure the time from request to visible row, by probes.")] = False,
    probes: Annotated[float, typer.Option(min=0.1, help="Probes per second, with --visible.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Without --events and --seconds it goes on until Ctrl-C.

    A number is never sent twice: a request that is sent again takes new ones, and no row must ever show them.
    """
    settings = load_settings()
    url = url or f"http://{settings.host}:{settings.collector_port}"
    address = urlsplit(url)
    if address.scheme != "http" or not address.hostname:
        raise typer.BadParameter(f"{url!r} is not of the form http://host:port", param_hint="--url")
    ids = site_ids(sites)
    if start + (events or 0) > PROBES:
        raise typer.BadParameter(f"numbers must stay below {PROBES}", param_hint="--start")
    traffic = Traffic(seed=seed, sites=ids, host=address.netloc, start=start, bulk=bulk, bad=bad, repeat=repeats)
    plan = Plan(events=events, seconds=seconds, rate=rate, connections=connections, timeout=timeout)
    book = Journal(journal, seed=seed, first=start) if journal else None
    sender = Sender(traffic, plan, book)
    watch = _visibility(settings, url, ids, 1 / probes, journal, start, seed) if visible else None
    if watch:
        watch.start()
    with Progress() as progress:

        def each(totals: Totals) -> None:
            progress.show(_line(totals, events))

        totals = uvloop.run(_send(sender, address.hostname, address.port or 80, each))
        if watch:
            progress.show("waiting for the last probes to be seen")
            watch.stop()
        progress.say(_line(totals, events))
    if book:
        book.close()
    report = totals.report() | {"seed": seed, "start": start, "next": traffic.next_number}
    if watch:
        report["visible_ms"] = watch.report()
    if as_json:
        typer.echo(json.dumps(report))
    elif watch:
        typer.echo(f"request to visible row: {json.dumps(watch.report())}")
    if totals.odd:
        typer.echo(f"{totals.odd} answers were against the rules", err=True)
        raise typer.Exit(1)


def site_ids(text: str) -> list[int]:
    """The ids of a list such as 1-5,9; raises typer.BadParameter."""
    ids: list[int] = []
    try:
        for part in text.split(","):
            low, _, high = part.partition("-")
            ids.extend(range(int(low), int(high or low) + 1))
    except ValueError:
        ids = []
    if not ids or min(ids) < 1 or len(ids) > 10_000:
        raise typer.BadParameter(f"{text!r} is not a list of ids such as 1-5,9", param_hint="--sites")
    return ids


async def _send(sender: Sender, host: str, port: int, each: Callable[[Totals], None]) -> Totals:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, sender.stop)
    return await sender.run(host, port, each)


def _visibility(
    settings: Settings, url: str, sites: list[int], interval: float, journal: Path | None, start: int, seed: int
) -> Visibility:
    password = settings.clickhouse_password.get_secret_value()
    sql = Sql(settings.clickhouse, settings.clickhouse_user, password, settings.clickhouse_database)
    return Visibility(url, sites, sql, interval=interval, journal=journal, start=start, seed=seed)


def _line(totals: Totals, events: int | None) -> str:
    of = f" of {events:,}" if events else ""
    seconds = totals.seconds
    speed = totals.sent / seconds if seconds else 0.0
    return (
        f"sent {totals.sent:,}{of}  acknowledged {totals.acknowledged:,}  refused {totals.refused:,}"
        f"  unknown {totals.unknown:,}  in flight {totals.in_flight:,}  {speed:,.0f} events/s  {seconds:.1f} s"
    )
