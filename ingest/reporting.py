"""The part of Matomo's reporting API that clients need to start: sites by id, by URL, all; a new site; the version.

Answers are JSON with status 200; an error is `{"result": "error", "message": ...}`, as clients expect.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from infra import sites, users
from infra.service.logs import logger
from ingest.exchange import Exchange
from ingest.headers import Fields
from schemas.packets import Role
from schemas.sites import Site, SitesError

if TYPE_CHECKING:
    from ingest.tracking import Tracking

log = logger(__name__)

VERSION = "5.2.0"  # of the API that is answered
IN_FORCE_SECONDS = 10.0  # longest wait until a new site takes events
DENIED = "You can't access this resource: the token_auth is missing, wrong, expired or may not do this."


class ReportingError(Exception):
    """A call that cannot be answered; the message is for its sender and holds nothing of the request's values."""


class Reporting:
    """Serves the API. `look`: takes up changed files of the folder."""

    def __init__(self, folder: Path, users: Path, tracking: Tracking, look: Callable[[], Awaitable[None]]) -> None:
        self._folder = folder
        self._users = users
        self._proving = asyncio.Semaphore(1)  # a proof of a password takes 16 MiB
        self._tracking = tracking
        self._look = look
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, exchange: Exchange, fields: Fields, query: bytes, body: bytes) -> bool:
        """Answers a call of the API, now or later; False when the request is none."""
        try:
            pairs = parse_qsl(query.decode(), keep_blank_values=True) + parse_qsl(body.decode(), keep_blank_values=True)
        except ValueError:
            return False
        call = dict(pairs)
        if call.get("module") != "API":
            return False
        if bearer := fields.get("authorization"):
            scheme, _, token = bearer.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                call["token_auth"] = token.strip()
        task = asyncio.get_running_loop().create_task(self._answer(exchange, fields, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _answer(self, exchange: Exchange, fields: Fields, call: dict[str, str]) -> None:
        try:
            result = await self._result(call)
        except (ReportingError, SitesError) as error:
            result = {"result": "error", "message": str(error)}
        except Exception as error:
            log.error("reporting_failed", kind=type(error).__name__)
            result = {"result": "error", "message": "The call failed; the collector's log says why."}
        mode = exchange.connection.mode(exchange, fields)
        make = exchange.connection.server.answers.make
        text = json.dumps(result).encode()
        exchange.reply(200, make(200, text, b"application/json", origin=fields.get("origin"), mode=mode))

    async def _result(self, call: dict[str, str]) -> Any:
        if call.get("format", "json").lower() != "json":
            raise ReportingError("The only format here is json; send format=json.")
        token = call.get("token_auth", "")
        if call.get("method") == "UsersManager.createAppSpecificTokenAuth":
            return {"value": await self._token(call)}
        found = self._tracking.directory.sites
        superuser = bool(token) and found.superuser(token)
        readable = [site for site in found.by_id.values() if superuser or (token and site.role(token) >= Role.VIEW)]
        match call.get("method", ""):
            case "SitesManager.getSiteFromId":
                number = call.get("idSite", "")
                for site in readable:
                    if str(site.id) == number:
                        return described(site)
                raise ReportingError(DENIED)
            case "SitesManager.getSitesIdFromSiteUrl":
                if not readable:
                    raise ReportingError(DENIED)
                host = host_of(call.get("url", ""))
                return [{"idsite": site.id} for site in readable if serves(site, host)]
            case "SitesManager.getAllSites":
                if not superuser:
                    raise ReportingError(DENIED)
                return {str(site.id): described(site) for site in readable}
            case "SitesManager.addSite":
                if not superuser:
                    raise ReportingError(DENIED)
                return {"value": await self._add(call)}
            case "API.getMatomoVersion" | "API.getPiwikVersion":
                if not readable and not superuser:
                    raise ReportingError(DENIED)
                return {"value": VERSION}
        raise ReportingError("This method does not exist or is not available here.")

    async def _token(self, call: dict[str, str]) -> str:
        hours = call.get("expireHours") or "0"
        if not hours.isascii() or not hours.isdigit() or len(hours) > 6:
            raise ReportingError("expireHours must be a whole number of hours, 0 for no end.")
        login, password = call.get("userLogin", ""), call.get("passwordConfirmation", "")
        async with self._proving:
            right = await asyncio.to_thread(users.verify, self._users, login, password)
        if not right:
            raise ReportingError("The user or the password is wrong.")
        expires = datetime.now(UTC) + timedelta(hours=int(hours)) if int(hours) else None

        def write() -> str:
            what = call.get("description", "")
            return sites.add_token(self._folder, None, Role.SUPERUSER, description=what, expires=expires)

        token = await asyncio.to_thread(write)
        await self._look()
        return token

    async def _add(self, call: dict[str, str]) -> int:
        name = call.get("siteName", "").strip()
        if not name:
            raise ReportingError("siteName is missing; it must be the site's name.")
        urls = [value for key, value in call.items() if (key == "urls" or key.startswith("urls[")) and value]
        hosts = tuple(host_of(url) for url in urls)
        main = urls[0] if urls and "://" in urls[0] else ""
        timezone = call.get("timezone") or "UTC"

        def write() -> Site:
            return sites.add(self._folder, name=name, domains=hosts, timezone=timezone, main_url=main)

        site = await asyncio.to_thread(write)
        await self._look()
        deadline = asyncio.get_running_loop().time() + IN_FORCE_SECONDS
        while self._tracking.directory.find(site.id) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise ReportingError(f"Site {site.id} is added, but is not in force yet: Kafka does not answer.")
            await asyncio.sleep(0.02)
        return site.id


def described(site: Site) -> dict[str, Any]:
    """A site as SitesManager shows it."""
    return {
        "idsite": site.id,
        "name": site.name,
        "main_url": main_url(site),
        "timezone": site.policy.timezone,
        "excluded_parameters": ",".join(site.policy.excluded_parameters),
        "keep_url_fragment": int(site.policy.keep_fragment),
        "sitesearch": 1,
        "sitesearch_keyword_parameters": ",".join(site.policy.search_parameters),
        "type": "website",
    }


def main_url(site: Site) -> str:
    """The site's address; made of its first domain where its file names none, else empty."""
    if site.main_url:
        return site.main_url
    plain = [domain for domain in site.policy.domains if not domain.startswith("*")]
    return f"https://{plain[0]}" if plain else ""


def host_of(url: str) -> str:
    """The host, with its port, of a URL or a bare host name, in lower case."""
    try:
        return urlsplit(url if "://" in url else "//" + url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""


def serves(site: Site, host: str) -> bool:
    """Whether a host is one of the site's; `www.` makes no difference."""
    bare = host.removeprefix("www.")
    for domain in site.policy.domains:
        if domain.startswith("*."):
            if host.endswith(domain[1:]):
                return True
        elif domain.removeprefix("www.") == bare:
            return True
    return False
