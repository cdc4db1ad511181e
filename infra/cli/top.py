"""`veilstream top`: what happens right now: sites, pages, rates, lag."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infra.load.lag import Lag
from infra.load.sql import Sql
from infra.service.clickhouse import connect
from infra.service.settings import load_settings
from infra.top import Snapshot, snapshot
from schemas.sites import SitesError, load_sites
from schemas.topics import EVENTS_RAW


def command(
    span: Annotated[int, typer.Option(min=1, max=86_400, help="Seconds that are looked back.")] = 60,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a look, each on a line.")] = False,
) -> None:
    """Goes on until Ctrl-C. What is shown came in within the last --span seconds."""
    settings = load_settings()
    password = settings.clickhouse_password.get_secret_value()
    sql = Sql(settings.clickhouse, settings.clickhouse_user, password, settings.clickhouse_database)
    lag = Lag(settings.kafka, settings.topic(EVENTS_RAW), sql)
    with connect(settings) as client:

        def look() -> Snapshot:
            try:
                names = {site.id: site.name for site in load_sites(settings.sites).by_id.values()}
            except SitesError:  # somebody is editing a file; names are a convenience
                names = {}
            return snapshot(client, span, names, lag.behind)

        try:
            if as_json or once:
                while True:
                    found = look()
                    if as_json:
                        typer.echo(json.dumps(found.as_dict()))
                    else:
                        Console().print(shown(found))
                    if once:
                        return
                    time.sleep(every)
            with Live(shown(look()), screen=True, auto_refresh=False) as live:
                while True:
                    time.sleep(every)
                    live.update(shown(look()), refresh=True)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def shown(found: Snapshot) -> Group:
    """A snapshot as people read it."""
    lag = "unknown" if found.lag_packets is None else f"{found.lag_packets:,} packets"
    if found.lag_packets and found.lag_seconds is not None:
        lag += f" since {found.lag_seconds:,.1f} s"
    age = "none yet" if found.age_seconds is None else f"{found.age_seconds:,.1f} s ago"
    head = Text(
        f"{found.rate:,.1f} events/s over {found.seconds} s   lag {lag}   newest row {age}   "
        f"rejected {found.rejected:,}   excluded {found.excluded:,}   repeated {found.repeated:,}"
    )
    sites = Table(
        "site", "name", "events/s", "events", "page views", "visits", "bots", title="Sites", title_justify="left"
    )
    for site in found.sites:
        figures = (f"{site.rate:,.1f}", *(f"{n:,}" for n in (site.events, site.pageviews, site.visits, site.bots)))
        sites.add_row(str(site.site_id), Text(site.name), *figures)
    pages = Table("site", "page", "views", "visits", title="Pages", title_justify="left")
    for page in found.pages:
        pages.add_row(str(page.site_id), Text(page.url, no_wrap=True), f"{page.views:,}", f"{page.visits:,}")
    return Group(head, sites, pages)
