"""`veilstream import`: read access logs of a web server into a site."""

from __future__ import annotations

import json
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from infra import sites
from infra.imports.checkpoint import Counts, Pending
from infra.imports.formats import FORMATS, FormatError, parser
from infra.imports.requests import Chosen
from infra.imports.run import Collector, Import
from infra.load.progress import Progress
from infra.service.clickhouse import connect
from infra.service.files import replace
from infra.service.settings import Settings, load_settings
from schemas.packets import Role
from schemas.sites import Site, SitesError, load_sites
from schemas.tokens import token_hash

TOKEN_HOURS = 48
RELOAD_SECONDS = 4.0  # within which collectors know a new token


def command(
    files: Annotated[list[Path], typer.Argument(help="Logs, oldest first; compressed by gzip or not.")],
    site: Annotated[int, typer.Option(min=1, help="The site's id.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")] = "combined",
    expression: Annotated[str, typer.Option(help="Of custom: a regular expression with named groups.")] = "",
    time_format: Annotated[str, typer.Option(help="Of custom: the time as strptime has it; default: ISO.")] = "",
    base: Annotated[str, typer.Option(help="What addresses begin with; default: the site's main_url or domain.")] = "",
    static: Annotated[bool, typer.Option("--static", help="Take pictures, scripts and the like too.")] = False,
    errors: Annotated[bool, typer.Option("--errors", help="Take redirects and errors too.")] = False,
    bots: Annotated[bool, typer.Option("--bots", help="Keep crawlers, marked as such.")] = False,
    token: Annotated[str, typer.Option(help="A write token of the site; default: one is made, and revoked.")] = "",
    url: Annotated[str, typer.Option(help="The collector; default: this installation's.")] = "",
    patience: Annotated[float, typer.Option(min=1, help="Seconds to wait for a collector that is away.")] = 300,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Sends what the logs say to the collector, once: run again, it goes on where it was, or has nothing to do.

    Checkpoints lie in the state folder, in `imports`; a log is known by its beginning, also when it has grown.
    """
    settings = load_settings()
    found = load_sites(settings.sites).of(site)
    if found is None:
        raise SitesError(f"{settings.sites}: there is no site {site}; `veilstream sites list` shows those that are")
    try:
        parse = [parser(format, expression, time_format) for _ in files]
    except FormatError as error:
        raise typer.BadParameter(str(error), param_hint="--format") from None
    chosen = Chosen(site, base.rstrip("/") or _base(found), static, errors, bots)
    host, _, port = (url.partition("://")[2] or url).rstrip("/").partition(":")
    own = _Token(settings, site, token)
    totals: dict[str, dict[str, int]] = {}
    collector = Collector(host or settings.host, int(port or settings.collector_port), lambda: own.value, patience)
    try:
        with Progress() as progress, closing(collector):
            for path, parse_line in zip(files, parse, strict=True):
                began = time.monotonic()
                run = Import(
                    path,
                    parse_line,
                    chosen,
                    settings.state / "imports",
                    collector,
                    lambda pending: _stored(settings, site, pending),
                    found.policy.repeat_seconds,
                )
                first: list[int] = []

                def each(
                    counts: Counts, offset: int, path: Path = path, began: float = began, first: list[int] = first
                ) -> None:
                    if not first:
                        first.append(counts.lines)
                    progress.show(_line(path, counts, (counts.lines - first[0]) / max(time.monotonic() - began, 0.001)))

                counts = run.run(each)
                progress.say(_line(path, counts, None))
                totals[str(path)] = {name: getattr(counts, name) for name in counts.__struct_fields__}
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    own.revoke()
    if as_json:
        sums = {name: sum(one[name] for one in totals.values()) for name in Counts.__struct_fields__}
        typer.echo(json.dumps({**sums, "site": site, "files": totals}))


class _Token:
    """The token that is sent: the one given, or one that is made when it is needed first.

    A bulk that is sent again is known by its key and its token, so one that is made is kept until an import is through.
    """

    def __init__(self, settings: Settings, site: int, given: str) -> None:
        self._sites, self._site, self._given = settings.sites, site, given
        self._kept = settings.state / "imports" / f"{site}.token"

    @cached_property
    def value(self) -> str:
        if self._given:
            return self._given
        if self._kept.is_file() and (kept := self._kept.read_text().strip()):
            found = load_sites(self._sites).of(self._site)
            if found is not None and found.role(kept) is Role.WRITE:
                return kept
        until = datetime.now(UTC) + timedelta(hours=TOKEN_HOURS)
        made = sites.add_token(self._sites, self._site, Role.WRITE, description="import", expires=until)
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        replace(self._kept, made.encode(), 0o600)
        time.sleep(RELOAD_SECONDS)
        return made

    def revoke(self) -> None:
        """Takes out the token that was made."""
        if self._kept.is_file():
            with suppress(SitesError):  # it has expired, and somebody took it out
                sites.revoke_token(self._sites, self._site, token_hash(self._kept.read_text().strip()))
            self._kept.unlink()


def _base(site: Site) -> str:
    domain = next((domain.removeprefix("*.").partition("/")[0] for domain in site.policy.domains), "")
    found = site.main_url.rstrip("/") or (f"https://{domain}" if domain else "")
    if not found:
        raise typer.BadParameter(f"site {site.id} has neither main_url nor domains", param_hint="--base")
    return "/".join(found.split("/", 3)[:3])


def _stored(settings: Settings, site: int, pending: Pending) -> bool:
    """Whether events of these hits came in when they were sent."""
    with connect(settings) as client:
        count = client.query(
            f"SELECT count() FROM events WHERE site_id = {site} "
            f"AND received_at BETWEEN fromUnixTimestamp64Milli({pending.sent_ms - 5_000}) "
            f"AND fromUnixTimestamp64Milli({pending.sent_ms + 900_000}) "
            f"AND time BETWEEN fromUnixTimestamp64Milli({pending.first_ms}) "
            f"AND fromUnixTimestamp64Milli({pending.last_ms})"
        ).result_rows[0][0]
    return int(count) > 0


def _line(path: Path, counts: Counts, rate: float | None) -> str:
    speed = "" if rate is None else f"  {rate:,.0f} lines/s"
    return (
        f"{path.name}: {counts.lines:,} lines  {counts.sent:,} events sent  {counts.left_out:,} left out  "
        f"{counts.unreadable:,} unreadable  {counts.invalid:,} refused{speed}"
    )
