"""`veilstream anonymize-past`: bring stored rows under the privacy rules that their site has today."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime
from typing import Annotated

import typer

from infra.past.run import Past, Report
from infra.service.clickhouse import connect
from infra.service.settings import load_settings
from streams.anonymize.emptied import column


def command(
    site: Annotated[int, typer.Option(metavar="ID", help="The site's id.")],
    first: Annotated[
        datetime, typer.Option("--from", formats=["%Y-%m-%d"], metavar="DATE", help="First date, at the site.")
    ],
    last: Annotated[
        datetime, typer.Option("--to", formats=["%Y-%m-%d"], metavar="DATE", help="Last date, before today there.")
    ],
    unset: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Empty this column of events besides; may be given several times."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be changed; change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Apply today's privacy rules of a site to its stored rows: addresses, places, URLs, texts, devices, own fields.

    Ids get new values that mean nothing the day after, except those that the rules keep for good. Rows without the
    consent that the rules ask for are removed. Recordings are masked once more, and heatmaps lose what the rules don't
    keep of addresses. A month is written anew beside the table and swapped while inserts are held for a moment; events
    that arrive meanwhile are kept. What was cut off is taken up by running it again. The exit status is 1 when rows are
    left that came under older rules meanwhile, or the check that follows finds one against the rules.
    """
    columns = []
    for name in unset or ():
        try:
            columns.append(column(name))
        except KeyError:
            raise typer.BadParameter(
                f"{name} is no column of events that may be emptied", param_hint="--unset"
            ) from None
    settings = load_settings()
    with connect(settings) as client:
        run = Past(client, settings, site, _day(first), _day(last), unset=columns, tell=_tell)
        report = run.run(dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
    else:
        typer.echo("\n".join(_lines(report)))
    raise typer.Exit(0 if report.right else 1)


def _day(moment: datetime) -> date:
    return moment.date()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _lines(report: Report) -> list[str]:
    would = "would be " if report.dry_run else ""
    out = [f"site {report.site}, {report.first} to {report.last}: {report.rows} rows {would}brought under the rules"]
    out += [f"{month.month}: {month.rows} rows, {month.changed} {would}changed" for month in report.months]
    out += [f"{name}: {count} rows {would}changed" for name, count in report.columns.items()]
    if report.removed:
        out.append(f"{report.removed} rows {would}removed, as they have no consent, without which the rules keep none")
    for name, done in (("recordings", report.recordings), ("heatmap", report.heatmap)):
        if done.rows or done.removed:
            out.append(f"{name}: {done.rows} rows, {done.changed} {would}changed, {done.removed} {would}removed")
    if not report.dry_run:
        out.append(f"{report.checked} rows checked, {sum(report.differing.values())} values against the rules")
    if late := report.late + report.unwanted + report.recordings.left + report.heatmap.left:
        out.append(f"{late} rows are left that the rules don't allow, as some came meanwhile; run this again")
    return out
